// Bytes: x once (what the copy reads again, and a frame's second difference, hit the caches), kept and frames once.
#include "frame_mask.h"
#include "motion_energy.h"

namespace asma::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int64_t kHeld = 1024;  // most energies in shared memory
// Of a multiprocessor: what registers suffice for.
template <int Order, class T> constexpr int kBlocks = Order == 0 || sizeof(T) == 8 ? 1 : 2;
using Whole = BlockOf<kThreads>;

// A block for each clip: a warp for each frame's energy, then a warp chooses among few frames and the block among many,
// then a thread for each joint of a person copies it from frame to frame.
template <int Order, class T>
__global__ void __launch_bounds__(kThreads, kBlocks<Order, T>)
    frame_drop_kernel(FrameDrop a, const int64_t* __restrict__ rng, int64_t step, const T* __restrict__ x,
                      T* __restrict__ room, T* __restrict__ kept, int64_t* __restrict__ frames) {
  __shared__ T held[kHeld];
  const MotionEnergy& e = a.energy;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t width = e.V * e.M;
  const int columns = width < 1 ? 1 : width < kThreads ? static_cast<int>(width) : kThreads;
  const int rows = kThreads / columns, row = thread / columns;
  for (int64_t n = blockIdx.x; n < e.N; n += gridDim.x) {
    T* energies = e.T <= kHeld ? held : room + n * e.T;
    const Frames carried(e, n);
    for (int64_t t = thread / kWarp; t < e.T; t += kThreads / kWarp) {
      const T sum = frame_energy<Order>(e, carried, x, n, t, thread % kWarp);
      if (thread % kWarp == 0) energies[t] = sum;
    }
    __syncthreads();

    const Philox random = a.mask.extra > 0 ? Philox::of(rng[0], rng[step]) : Philox{};
    int64_t* picked = frames + n * a.left;
    const auto energy = [&](int64_t t) { return widen(energies[t]); };
    if (e.T > kThreads) keep_frames<0>(Whole(), a.mask, random, n, energy, picked);
    else if (e.T > 2 * kWarp) keep_frames<1>(Whole(), a.mask, random, n, energy, picked);
    else if (thread < kWarp) keep_frames<2>(Warp(), a.mask, random, n, energy, picked);
    __syncthreads();

    for (int64_t i = row < rows ? thread - row * columns : width; i < width; i += columns) {
      const T* from = x + n * e.sn + i / e.M * e.sv + i % e.M * e.sm;
      T* to = kept + n * e.C * a.left * width + i;
      for (int64_t t = row; t < a.left; t += rows) {
        const T* frame = from + picked[t] * e.st;
        const auto copy = [&](int64_t c) { to[(c * a.left + t) * width] = frame[c * e.sc]; };
        if (e.C == 3) {  // every skeleton: all loads are under way together
          for (int c = 0; c < 3; ++c) copy(c);
        } else {
#pragma unroll 1
          for (int64_t c = 0; c < e.C; ++c) copy(c);
        }
      }
    }
  }
}

template <int Order, class T>
int launch(const FrameDrop& a, const int64_t* rng, int64_t step, const T* x, T* room, T* kept, int64_t* frames,
           void* stream) {
  const dim3 grid(blocks(a.energy.N, 1, kMostBlocks));
  return ASMA_LAUNCH((frame_drop_kernel<Order, T>), grid, dim3(kThreads), stream, a, rng, step, x, room, kept, frames);
}

}  // namespace

int64_t frame_drop_room(const FrameDrop& a) { return a.energy.T <= kHeld ? 0 : a.energy.N * a.energy.T; }

int frame_drop(Dtype dtype, const FrameDrop& a, const int64_t* rng, int64_t step, const void* x, void* room, void* kept,
               int64_t* frames, void* stream) {
  if (a.energy.N == 0 || a.left == 0) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    const T* from = static_cast<const T*>(x);
    T *own = static_cast<T*>(room), *to = static_cast<T*>(kept);
    return a.energy.p == 2   ? launch<2>(a, rng, step, from, own, to, frames, stream)
           : a.energy.p == 1 ? launch<1>(a, rng, step, from, own, to, frames, stream)
                             : launch<0>(a, rng, step, from, own, to, frames, stream);
  });
}

}  // namespace asma::cuda
