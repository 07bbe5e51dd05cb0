// The one place that launches and that knows the CUDA runtime. Without nvcc a kernel file is plain C++, and whoever
// compiles it so brings these names along: tests/cuda_on_cpu/fibers.h runs kernels on the CPU.
#pragma once
#include <cstdint>

#include "../common/scalar.h"
#include "kernels.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>

// Evaluates to the launch's cudaError_t.
#define ASMA_LAUNCH(kernel, grid, block, stream, ...) \
  (kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__), cudaGetLastError())
#endif

namespace asma::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAll = 0xffffffffu;  // every lane of a warp
constexpr int kFewBlocks = 1;           // in __launch_bounds__: ptxas then spills no registers to fit more blocks

// Blocks along one axis of a grid, at least one and at most `limit`: kernels step on by gridDim, so any number will do.
inline unsigned blocks(int64_t count, int64_t per_block, int64_t limit) {
  const int64_t wanted = (count + per_block - 1) / per_block;
  return static_cast<unsigned>(wanted < 1 ? 1 : wanted < limit ? wanted : limit);
}

// Calls body(T{}) with the C++ type of a dtype.
template <class Body> int visit_float(Dtype dtype, const Body& body) {
  switch (dtype) {
    case Dtype::float64: return body(double{});
    case Dtype::float32: return body(float{});
    case Dtype::bfloat16: return body(bf16{});
    default: return body(half{});
  }
}

// Sum over the lanes of a warp, in a fixed order; every lane has it.
template <class A> __device__ inline A warp_sum(A number) {
  for (int step = kWarp / 2; step > 0; step /= 2) number += __shfl_xor_sync(kAll, number, step);
  return number;
}

}  // namespace asma::cuda
