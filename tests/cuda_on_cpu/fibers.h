// Runs the very kernels of csrc/cuda on the CPU: forced into their compilation as plain C++. The threads of a block are
// fibers that take turns at barriers and shuffles, the blocks of a grid run one after another. Being in step, it finds
// wrong results but no race: threads.h does. A barrier that some threads never reach ends the process.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
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
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

constexpr int kStack = 1 << 17, kWarp = 32;

struct Barrier {
  int expected = 0, arrived = 0;
  uint64_t round = 0;
  void release_if_full() {
    if (expected > 0 && arrived == expected) {
      arrived = 0;
      ++round;
    }
  }
};
struct Fiber {
  ucontext_t first;
  jmp_buf place;
  std::vector<char> stack;
  dim3 index;
  bool begun, done;
  const Barrier* waits;
  uint64_t round;
  bool blocked() const { return waits && waits->round == round; }
};

inline std::vector<Fiber> fibers;
inline std::vector<Barrier> warps;
inline Barrier block;
inline int current;
inline jmp_buf scheduler;
inline ucontext_t outside;
inline std::function<void()> body;
inline uint64_t slots[1024];

inline void begin_fiber() {
  body();
  fibers[current].done = true;
  _longjmp(scheduler, 1);
}

inline void wait(Barrier& barrier) {
  Fiber& self = fibers[current];
  self.waits = &barrier;
  self.round = barrier.round;
  ++barrier.arrived;
  barrier.release_if_full();
  if (!self.blocked()) return;
  if (_setjmp(self.place) == 0) _longjmp(scheduler, 1);
}

inline void resume(int place) {
  Fiber& fiber = fibers[place];
  current = place;
  threadIdx = fiber.index;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.place, 1);
  fiber.begun = true;
  setcontext(&fiber.first);
}

inline void leave(int place) {  // a thread that is done is expected nowhere
  --block.expected;
  block.release_if_full();
  --warps[place / kWarp].expected;
  warps[place / kWarp].release_if_full();
}

inline void run_block(dim3 size) {
  const int count = static_cast<int>(size.x * size.y * size.z);
  fibers.resize(count);
  warps.assign((count + kWarp - 1) / kWarp, {});
  block = {count};
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = fibers[i];
    ++warps[i / kWarp].expected;
    fiber.index = dim3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
    fiber.begun = fiber.done = false;
    fiber.waits = nullptr;
    fiber.stack.resize(kStack);
    getcontext(&fiber.first);
    fiber.first.uc_stack.ss_sp = fiber.stack.data();
    fiber.first.uc_stack.ss_size = kStack;
    makecontext(&fiber.first, begin_fiber, 0);
  }
  for (int left = count; left > 0;) {
    bool moved = false;
    for (int i = 0; i < count; ++i) {
      if (fibers[i].done || fibers[i].blocked()) continue;
      moved = true;
      resume(i);
      if (fibers[i].done) {
        --left;
        leave(i);
      }
    }
    if (!moved) {
      std::fprintf(stderr, "cuda_on_cpu: %d threads wait at a barrier that the others never reach\n", left);
      std::abort();
    }
  }
}

template <class Kernel, class... Arguments>
int launch(const Kernel& kernel, dim3 grid, dim3 size, void*, Arguments... arguments) {
  gridDim = grid;
  blockDim = size;
  body = [&] { kernel(arguments...); };
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block(size);
  return 0;
}

inline void sync_block() { wait(block); }
inline void sync_warp() { wait(warps[current / kWarp]); }
inline int thread() { return current; }
inline int lanes() { return static_cast<int>(fibers.size()); }

}  // namespace cuda_on_cpu

#include "shuffles.h"
