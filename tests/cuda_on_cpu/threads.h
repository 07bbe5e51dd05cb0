// As fibers.h, but every thread of a block is a thread, so that ThreadSanitizer sees a barrier that is
// missing. Slow: small blocks, few of them.
#pragma once
#include <barrier>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

inline std::unique_ptr<std::barrier<>> block;
inline std::vector<std::unique_ptr<std::barrier<>>> warps;
inline uint64_t slots[1024];
inline int count;

inline int thread() { return static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)); }
inline int lanes() { return count; }
inline void sync_block() { block->arrive_and_wait(); }
inline void sync_warp() { warps[thread() / 32]->arrive_and_wait(); }

template <class Kernel, class... Arguments>
int launch(const Kernel& kernel, dim3 grid, dim3 size, void*, Arguments... arguments) {
  count = static_cast<int>(size.x * size.y * size.z);
  for (unsigned place = 0; place < grid.x * grid.y * grid.z; ++place) {
    block = std::make_unique<std::barrier<>>(count);
    warps.clear();
    for (int first = 0; first < count; first += 32)
      warps.push_back(std::make_unique<std::barrier<>>(count - first < 32 ? count - first : 32));
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i)
      threads.emplace_back([=] {
        threadIdx = dim3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
        blockIdx = dim3(place % grid.x, place / grid.x % grid.y, place / (grid.x * grid.y));
        blockDim = size;
        gridDim = grid;
        kernel(arguments...);
        block->arrive_and_drop();
        warps[i / 32]->arrive_and_drop();
      });
    for (std::thread& each : threads) each.join();
  }
  return 0;
}

}  // namespace cuda_on_cpu

#include "shuffles.h"
