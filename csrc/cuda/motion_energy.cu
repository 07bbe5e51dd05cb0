// Bytes: x once (a frame's second reading, for the next difference, hits the first cache), the result once.
#include "motion_energy.h"

namespace asma::cuda {
namespace {

constexpr int kRows = 8;  // warps of a block, each with a row of its own

// frame: a warp for each (clip, frame), lanes over its joints and persons.
template <int Order, class T>
__global__ void __launch_bounds__(kWarp* kRows, kFewBlocks)
    motion_energy_frame_kernel(MotionEnergy a, const T* __restrict__ x, T* __restrict__ energy) {
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t rows = a.N * a.T, row_step = static_cast<int64_t>(gridDim.x) * kRows;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.y; row < rows; row += row_step) {
    const int64_t n = row / a.T;
    const T sum = frame_energy<Order>(a, Frames(a, n), x, n, row - n * a.T, lane);
    if (lane == 0) energy[row] = sum;
  }
}

// frame_joint: a thread for each (clip, frame, joint).
template <int Order, class T>
__global__ void __launch_bounds__(kWarp* kRows, kFewBlocks)
    motion_energy_frame_joint_kernel(MotionEnergy a, const T* __restrict__ x, T* __restrict__ energy) {
  const int64_t rows = a.N * a.T, row_step = static_cast<int64_t>(gridDim.x) * kRows;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.y; row < rows; row += row_step) {
    const int64_t n = row / a.T;
    const Frames frames(a, n);
    const int64_t u = difference_of(frames, row - n * a.T);
    const acc_t<T> scale = mean_scale<acc_t<T>>(a, frames.length);
    for (int64_t v = threadIdx.x; v < a.V; v += kWarp) {
      acc_t<T> sum = 0;
      for (int64_t m = 0; u >= 0 && m < a.M; ++m) sum += difference<Order>(a, x + n * a.sn + u * a.st, v, m);
      energy[row * a.V + v] = narrow<T>(sum * scale);
    }
  }
}

// joint: a block for each clip and 32 of its joints; each warp sums every eighth frame, then the first warp sums them.
template <int Order, class T>
__global__ void __launch_bounds__(kWarp* kRows, kFewBlocks)
    motion_energy_joint_kernel(MotionEnergy a, const T* __restrict__ x, T* __restrict__ energy) {
  __shared__ acc_t<T> partial[kRows][kWarp];
  for (int64_t n = blockIdx.x; n < a.N; n += gridDim.x) {
    const Frames frames(a, n);
    const int64_t v = static_cast<int64_t>(blockIdx.y) * kWarp + threadIdx.x;
    acc_t<T> sum = 0;
    for (int64_t u = threadIdx.y; v < a.V && u < frames.count; u += kRows) {
      const acc_t<T> copies = static_cast<acc_t<T>>(frames.to(u) - frames.from(u) + 1);
      for (int64_t m = 0; m < a.M; ++m) sum += copies * difference<Order>(a, x + n * a.sn + u * a.st, v, m);
    }
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && v < a.V) {
      for (int row = 1; row < kRows; ++row) sum += partial[row][threadIdx.x];
      energy[n * a.V + v] = narrow<T>(sum * mean_scale<acc_t<T>>(a, frames.length));
    }
    __syncthreads();  // before the next clip writes what this one still reads
  }
}

// What the gradient of the result is worth to difference u of joint v, without the mean's share.
template <class T>
__device__ acc_t<T> weight_of(const MotionEnergy& a, const Frames& frames, const T* __restrict__ grad, int64_t n,
                              int64_t u, int64_t v) {
  acc_t<T> sum = 0;
  for (int64_t t = frames.from(u); t <= frames.to(u); ++t)
    sum += widen(a.reduce == MotionEnergy::frame   ? grad[n * a.T + t]
                 : a.reduce == MotionEnergy::joint ? grad[n * a.V + v]
                                                   : grad[(n * a.T + t) * a.V + v]);
  return sum;
}

// A warp for each (clip, coordinate, frame): it ends one difference and begins another.
template <int Order, class T>
__global__ void __launch_bounds__(kWarp* kRows, kFewBlocks)
    motion_energy_backward_kernel(MotionEnergy a, const T* __restrict__ grad, const T* __restrict__ x,
                                  T* __restrict__ grad_x) {
  using A = acc_t<T>;
  const int64_t rows = a.N * a.C * a.T, width = a.V * a.M, row_step = static_cast<int64_t>(gridDim.x) * kRows;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.y; row < rows; row += row_step) {
    const int64_t n = row / (a.C * a.T), c = row / a.T % a.C, t = row % a.T;
    const Frames frames(a, n);
    const int64_t ends = t - a.stride;
    const A scale = mean_scale<A>(a, frames.length);
    const bool has_end = ends >= 0 && ends < frames.count, has_begin = t < frames.count;
    for (int64_t i = threadIdx.x; i < width; i += kWarp) {
      const int64_t v = i / a.M, m = i % a.M;
      const T* here = x + n * a.sn + c * a.sc + t * a.st + v * a.sv + m * a.sm;
      const A value = widen(*here);
      A sum = 0;
      if (has_end)
        sum += weight_of(a, frames, grad, n, ends, v) *
               power_derivative<Order, A>(value - widen(here[-a.stride * a.st]), a.p);
      if (has_begin)
        sum -=
            weight_of(a, frames, grad, n, t, v) * power_derivative<Order, A>(widen(here[a.stride * a.st]) - value, a.p);
      grad_x[row * width + i] = narrow<T>(sum * scale);
    }
  }
}

template <int Order, class T> int forward(const MotionEnergy& a, const T* x, T* energy, void* stream) {
  const dim3 block(kWarp, kRows);
  if (a.reduce == MotionEnergy::joint) {
    const dim3 grid(blocks(a.N, 1, 1 << 20), blocks(a.V, kWarp, 65535));
    return ASMA_LAUNCH((motion_energy_joint_kernel<Order, T>), grid, block, stream, a, x, energy);
  }
  const dim3 grid(blocks(a.N * a.T, kRows, 1 << 20));
  return a.reduce == MotionEnergy::frame
             ? ASMA_LAUNCH((motion_energy_frame_kernel<Order, T>), grid, block, stream, a, x, energy)
             : ASMA_LAUNCH((motion_energy_frame_joint_kernel<Order, T>), grid, block, stream, a, x, energy);
}

template <int Order, class T>
int backward(const MotionEnergy& a, const T* grad, const T* x, T* grad_x, void* stream) {
  const dim3 grid(blocks(a.N * a.C * a.T, kRows, 1 << 20));
  return ASMA_LAUNCH((motion_energy_backward_kernel<Order, T>), grid, dim3(kWarp, kRows), stream, a, grad, x, grad_x);
}

}  // namespace

int motion_energy(Dtype dtype, const MotionEnergy& a, const void* x, void* energy, void* stream) {
  const bool has_frames = a.reduce != MotionEnergy::joint, has_joints = a.reduce != MotionEnergy::frame;
  if (a.N == 0 || (has_frames && a.T == 0) || (has_joints && a.V == 0)) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(energy);
    return a.p == 2   ? forward<2>(a, from, to, stream)
           : a.p == 1 ? forward<1>(a, from, to, stream)
                      : forward<0>(a, from, to, stream);
  });
}

int motion_energy_backward(Dtype dtype, const MotionEnergy& a, const void* grad, const void* x, void* grad_x,
                           void* stream) {
  if (a.N * a.C * a.T * a.V * a.M == 0) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    const T *g = static_cast<const T*>(grad), *from = static_cast<const T*>(x);
    T* to = static_cast<T*>(grad_x);
    return a.p == 2   ? backward<2>(a, g, from, to, stream)
           : a.p == 1 ? backward<1>(a, g, from, to, stream)
                      : backward<0>(a, g, from, to, stream);
  });
}

}  // namespace asma::cuda
