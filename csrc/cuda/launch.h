// The one place that launches and that knows the CUDA runtime. Without nvcc a kernel file is plain C++, and whoever
// compiles it so brings these names along: tests/cuda_on_cpu.h runs kernels on the CPU.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_runtime.h>

// Evaluates to the launch's cudaError_t.
#define ASMA_LAUNCH(kernel, grid, block, stream, ...) \
  (kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__), cudaGetLastError())
#endif

namespace asma {

// Blocks along one axis of a grid, at least one and at most `limit`: kernels step on by gridDim, so any number will do.
inline unsigned blocks(int64_t count, int64_t per_block, int64_t limit) {
  const int64_t wanted = (count + per_block - 1) / per_block;
  return static_cast<unsigned>(wanted < 1 ? 1 : wanted < limit ? wanted : limit);
}

}  // namespace asma
