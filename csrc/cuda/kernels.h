// What the CUDA kernels offer to their bindings, on one page: raw device pointers and a stream, so that neither side
// needs the other's headers. Each returns a cudaError_t; 0 is success. Shapes are checked by the bindings.
#pragma once
#include <cstdint>

#include "../common/motion_energy.h"

namespace asma::cuda {

enum class Dtype { float64, float32, bfloat16, float16 };

const char* error_string(int error);

// rng: int64 [seed, call], `step` elements apart. words: contiguous (rows, columns).
int philox(const int64_t* rng, int64_t step, int64_t* words, int64_t rows, int64_t columns, void* stream);

// energy: contiguous (N, T), (N, V) or (N, T, V), of x's dtype.
int motion_energy(Dtype dtype, const MotionEnergy& a, const void* x, void* energy, void* stream);
// grad: contiguous, of energy's shape; grad_x: contiguous (N, C, T, V, M).
int motion_energy_backward(Dtype dtype, const MotionEnergy& a, const void* grad, const void* x, void* grad_x,
                           void* stream);

}  // namespace asma::cuda
