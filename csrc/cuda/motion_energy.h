// What kernels of motion energy share on the device: differences, and the energy of a frame.
#pragma once
#include "../common/motion_energy.h"
#include "launch.h"

namespace asma::cuda {

// |x[u + stride] - x[u]|^p over the coordinates of one joint of one person.
template <int Order, class T>
__device__ inline acc_t<T> difference(const MotionEnergy& a, const T* __restrict__ frame, int64_t v, int64_t m) {
  const T* here = frame + v * a.sv + m * a.sm;
  const T* next = here + a.stride * a.st;
  const auto of = [&](int64_t c) { return power<Order, acc_t<T>>(widen(next[c * a.sc]) - widen(here[c * a.sc]), a.p); };
  acc_t<T> sum = 0;
  if (a.C == 3) {  // every skeleton: all loads are under way together
    for (int c = 0; c < 3; ++c) sum += of(c);
  } else {
#pragma unroll 1
    for (int64_t c = 0; c < a.C; ++c) sum += of(c);
  }
  return sum;
}

// The difference whose energy frame t carries, or -1.
__device__ inline int64_t difference_of(const Frames& frames, int64_t t) {
  const int64_t u = t < frames.first ? 0 : t - frames.first;
  return u < frames.count ? u : -1;
}

// Energy of frame t of clip n, by a warp: its lanes go over joints and persons, and every lane has the sum.
template <int Order, class T>
__device__ inline T frame_energy(const MotionEnergy& a, const Frames& frames, const T* __restrict__ x, int64_t n,
                                 int64_t t, int lane) {
  const int64_t u = difference_of(frames, t);
  acc_t<T> sum = 0;
  if (u >= 0)
    for (int64_t i = lane; i < a.V * a.M; i += kWarp)
      sum += difference<Order>(a, x + n * a.sn + u * a.st, i / a.M, i % a.M);
  return narrow<T>(warp_sum(sum) * mean_scale<acc_t<T>>(a, frames.length));
}

}  // namespace asma::cuda
