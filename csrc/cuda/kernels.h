// What the CUDA kernels offer to binding.cpp: raw device pointers and a stream, so that neither side needs the other's
// headers. Each returns a cudaError_t; 0 is success. Shapes are checked by the binding.
#pragma once
#include <cstdint>

extern "C" {

// rng: int64 [seed, call], `step` elements apart. words: contiguous (rows, columns).
int asma_cuda_philox(const int64_t* rng, int64_t step, int64_t* words, int64_t rows, int64_t columns, void* stream);

const char* asma_cuda_error(int error);
}
