#include "motion_energy.h"

#include "lanes.h"
#include "scratch.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// The numbers of one coordinate of a frame lie side by side.
ASMA_INLINE bool side_by_side(const MotionEnergy& a) { return (a.sm == 1 || a.M == 1) && (a.sv == a.M || a.V == 1); }

template <int Order, class A, int L> ASMA_INLINE lanes_t<A, L> power_lanes(lanes_t<A, L> difference) {
  if constexpr (Order == 2) return difference * difference;
  else return difference < A(0) ? -difference : difference;
}

// By halves, so that the order of the sum is fixed.
template <class A, int L> ASMA_INLINE A total_of(lanes_t<A, L> lanes) {
  if constexpr (L == 1) {
    return lanes[0];
  } else {
    lanes_t<A, L / 2> halves[2];
    __builtin_memcpy(halves, &lanes, sizeof lanes);
    return total_of<A, L / 2>(halves[0] + halves[1]);
  }
}

// Sum over the coordinates of |next - here|^p at the numbers [i, i + L) of a frame.
template <int L, int Order, class T>
ASMA_INLINE lanes_t<acc_t<T>, L> difference(const MotionEnergy& a, const T* here, const T* next) {
  lanes_t<acc_t<T>, L> sum{};
  for (int64_t c = 0; c < a.C; ++c)
    sum += power_lanes<Order, acc_t<T>, L>(load<L>(next + c * a.sc) - load<L>(here + c * a.sc));
  return sum;
}

// Over a whole frame whose `width` numbers lie side by side. The last vector goes back over numbers that were counted
// already; those lanes count as 0.
template <int L, int Order, class T>
ASMA_INLINE acc_t<T> frame_difference(const MotionEnergy& a, const T* here, const T* next, int64_t width) {
  using A = acc_t<T>;
  if constexpr (L > 1) {
    if (width < L) return frame_difference<L / 2, Order>(a, here, next, width);
  }
  lanes_t<A, L> sum{};
  int64_t i = 0;
  for (; i + L <= width; i += L) sum += difference<L, Order>(a, here + i, next + i);
  if (i < width) {
    lanes_t<A, L> place{};
    for (int lane = 0; lane < L; ++lane) place[lane] = static_cast<A>(lane);
    const lanes_t<A, L> last = difference<L, Order>(a, here + width - L, next + width - L);
    sum += place < static_cast<A>(i - (width - L)) ? lanes_t<A, L>{} : last;
  }
  return total_of<A, L>(sum);
}

// sums (V * M) = |x[u + stride] - x[u]|^p, added over the coordinates.
template <int Order, class T>
void joint_differences(const MotionEnergy& a, const T* frame, acc_t<T>* __restrict__ sums) {
  using A = acc_t<T>;
  const int64_t step = a.stride * a.st;
  if constexpr (Order != 0) {
    if (side_by_side(a)) {
      for_lanes<kLanes<T>>(a.V * a.M, [&]<int L>(int64_t i) __attribute__((always_inline)) {
        store<L>(sums + i, difference<L, Order>(a, frame + i, frame + i + step));
      });
      return;
    }
  }
  for (int64_t v = 0; v < a.V; ++v)
    for (int64_t m = 0; m < a.M; ++m) {
      const T* here = frame + v * a.sv + m * a.sm;
      A sum = 0;
      for (int64_t c = 0; c < a.C; ++c)
        sum += power<Order, A>(widen(here[c * a.sc + step]) - widen(here[c * a.sc]), a.p);
      sums[v * a.M + m] = sum;
    }
}

template <int Order, class T>
ASMA_INLINE acc_t<T> frame_energy(const MotionEnergy& a, const T* frame, acc_t<T>* sums) {
  using A = acc_t<T>;
  const int64_t width = a.V * a.M;
  if constexpr (Order != 0) {
    if (side_by_side(a)) return frame_difference<kLanes<T>, Order>(a, frame, frame + a.stride * a.st, width);
  }
  joint_differences<Order>(a, frame, sums);
  A sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += sums[i];
  return sum;
}

template <int Order, class T>
void forward_clip(const MotionEnergy& a, const T* x, T* energy, acc_t<T>* sums, int64_t clip) {
  using A = acc_t<T>;
  const Frames frames(a, clip);
  const int64_t width = a.V * a.M;
  const int64_t size = a.reduce == MotionEnergy::frame ? a.T : a.reduce == MotionEnergy::joint ? a.V : a.T * a.V;
  for (int64_t i = 0; i < size; ++i) energy[i] = narrow<T>(A(0));
  const A scale = mean_scale<A>(a, frames.length);

  if (a.reduce == MotionEnergy::joint) {
    A* total = sums + width;
    for (int64_t i = 0; i < width; ++i) total[i] = A(0);
    for (int64_t u = 0; u < frames.count; ++u) {
      joint_differences<Order>(a, x + u * a.st, sums);
      const A copies = static_cast<A>(frames.to(u) - frames.from(u) + 1);
      for (int64_t i = 0; i < width; ++i) total[i] += copies * sums[i];
    }
    for (int64_t v = 0; v < a.V; ++v) {
      A sum = 0;
      for (int64_t m = 0; m < a.M; ++m) sum += total[v * a.M + m];
      energy[v] = narrow<T>(sum * scale);
    }
    return;
  }
  for (int64_t u = 0; u < frames.count; ++u) {
    if (a.reduce == MotionEnergy::frame) {
      const A sum = frame_energy<Order>(a, x + u * a.st, sums);
      for (int64_t t = frames.from(u); t <= frames.to(u); ++t) energy[t] = narrow<T>(sum * scale);
      continue;
    }
    joint_differences<Order>(a, x + u * a.st, sums);
    for (int64_t v = 0; v < a.V; ++v) {
      A sum = 0;
      for (int64_t m = 0; m < a.M; ++m) sum += sums[v * a.M + m];
      for (int64_t t = frames.from(u); t <= frames.to(u); ++t) energy[t * a.V + v] = narrow<T>(sum * scale);
    }
  }
}

// weight (V): what the output's gradient is worth to difference u, per joint.
template <class T>
void difference_weight(const MotionEnergy& a, const Frames& frames, const T* grad, acc_t<T> scale, int64_t u,
                       acc_t<T>* weight) {
  using A = acc_t<T>;
  for (int64_t v = 0; v < a.V; ++v) {
    A sum = 0;
    for (int64_t t = frames.from(u); t <= frames.to(u); ++t)
      sum += widen(a.reduce == MotionEnergy::frame   ? grad[t]
                   : a.reduce == MotionEnergy::joint ? grad[v]
                                                     : grad[t * a.V + v]);
    weight[v] = sum * scale;
  }
}

// Every frame of x meets two differences: it ends the earlier one and begins the later one.
template <int Order, class T>
void backward_clip(const MotionEnergy& a, const T* grad, const T* x, T* grad_x, acc_t<T>* scratch, int64_t clip) {
  using A = acc_t<T>;
  const Frames frames(a, clip);
  const A scale = mean_scale<A>(a, frames.length);
  for (int64_t u = 0; u < frames.count; ++u) difference_weight(a, frames, grad, scale, u, scratch + u * a.V);
  for (int64_t c = 0; c < a.C; ++c)
    for (int64_t t = 0; t < a.T; ++t) {
      const int64_t ends = t - a.stride, begins = t;
      const bool has_end = ends >= 0 && ends < frames.count, has_begin = begins < frames.count;
      const T* here = x + c * a.sc + t * a.st;
      T* out = grad_x + (c * a.T + t) * a.V * a.M;
      for (int64_t v = 0; v < a.V; ++v) {
        const A end_weight = has_end ? scratch[ends * a.V + v] : A(0);
        const A begin_weight = has_begin ? scratch[begins * a.V + v] : A(0);
        for (int64_t m = 0; m < a.M; ++m) {
          const T* number = here + v * a.sv + m * a.sm;
          const A value = widen(*number);
          A sum = 0;
          if (has_end) sum += end_weight * power_derivative<Order, A>(value - widen(number[-a.stride * a.st]), a.p);
          if (has_begin) sum -= begin_weight * power_derivative<Order, A>(widen(number[a.stride * a.st]) - value, a.p);
          out[v * a.M + m] = narrow<T>(sum);
        }
      }
    }
}

}  // namespace

template <class T>
void motion_energy(const MotionEnergy& a, const T* x, T* energy, int64_t begin, int64_t end) {
  const int64_t size = a.reduce == MotionEnergy::frame ? a.T : a.reduce == MotionEnergy::joint ? a.V : a.T * a.V;
  Scratch<acc_t<T>> sums(2 * a.V * a.M);
  for (int64_t clip = begin; clip < end; ++clip) {
    const T* from = x + clip * a.sn;
    T* to = energy + clip * size;
    if (a.p == 2) forward_clip<2>(a, from, to, sums.data, clip);
    else if (a.p == 1) forward_clip<1>(a, from, to, sums.data, clip);
    else forward_clip<0>(a, from, to, sums.data, clip);
  }
}

template <class T>
void motion_energy_backward(const MotionEnergy& a, const T* grad, const T* x, T* grad_x, int64_t begin, int64_t end) {
  const int64_t size = a.reduce == MotionEnergy::frame ? a.T : a.reduce == MotionEnergy::joint ? a.V : a.T * a.V;
  Scratch<acc_t<T>> weight(a.T * a.V);
  for (int64_t clip = begin; clip < end; ++clip) {
    const T* g = grad + clip * size;
    const T* from = x + clip * a.sn;
    T* to = grad_x + clip * a.C * a.T * a.V * a.M;
    if (a.p == 2) backward_clip<2>(a, g, from, to, weight.data, clip);
    else if (a.p == 1) backward_clip<1>(a, g, from, to, weight.data, clip);
    else backward_clip<0>(a, g, from, to, weight.data, clip);
  }
}

#define INSTANTIATE(T)                                                                 \
  template void motion_energy<T>(const MotionEnergy&, const T*, T*, int64_t, int64_t); \
  template void motion_energy_backward<T>(const MotionEnergy&, const T*, const T*, T*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
