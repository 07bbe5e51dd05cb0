// Runs the very kernels of csrc/cuda on the CPU: forced into their compilation as plain C++. Threads of a launch run
// one after another, so this serves kernels without barriers and shuffles.
#pragma once
#define __global__
#define __restrict__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx(0), blockIdx(0), blockDim(1), gridDim(1);

namespace cuda_on_cpu {

template <class Body> void for_each(dim3 size, dim3& index, const Body& body) {
  for (index.z = 0; index.z < size.z; ++index.z)
    for (index.y = 0; index.y < size.y; ++index.y)
      for (index.x = 0; index.x < size.x; ++index.x) body();
}

template <class Kernel, class... Arguments>
int launch(const Kernel& kernel, dim3 grid, dim3 block, void*, Arguments... arguments) {
  gridDim = grid;
  blockDim = block;
  for_each(grid, blockIdx, [&] { for_each(block, threadIdx, [&] { kernel(arguments...); }); });
  return 0;
}

}  // namespace cuda_on_cpu

#define ASMA_LAUNCH(...) cuda_on_cpu::launch(__VA_ARGS__)
