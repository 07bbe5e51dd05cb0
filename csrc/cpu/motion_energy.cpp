#include "motion_energy.h"

#include "scratch.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// |difference|^p and its derivative; Order 1 and 2 without a call of pow.
template <int Order, class A> ASMA_INLINE A power(A difference, double p) {
  const A size = difference < A(0) ? -difference : difference;
  if (Order == 2) return difference * difference;
  if (Order == 1) return size;
  return static_cast<A>(__builtin_pow(static_cast<double>(size), p));
}
template <int Order, class A> ASMA_INLINE A power_derivative(A difference, double p) {
  if (Order == 2) return A(2) * difference;
  const A sign = difference > A(0) ? A(1) : difference < A(0) ? A(-1) : difference;  // NaN and 0 pass through
  if (Order == 1) return sign;
  const double size = difference < A(0) ? -static_cast<double>(difference) : static_cast<double>(difference);
  return sign == A(0) ? A(0) : sign * static_cast<A>(p * __builtin_pow(size, p - 1));
}

// A difference u lies between the frames u and u + stride, 0 <= u < count. Which frames carry it:
struct Frames {
  int64_t length, count, first, last;  // of difference u: frames [first, last], shifted by u
  ASMA_INLINE Frames(const MotionEnergy& a, int64_t clip) {
    const int64_t given = a.lengths ? a.lengths[clip] : a.T;
    length = given < 0 ? 0 : given > a.T ? a.T : given;
    count = length > a.stride ? length - a.stride : 0;
    first = last = a.copy_first ? a.stride : 0;
  }
  // copy_first: the first `stride` frames copy difference 0.
  ASMA_INLINE int64_t from(int64_t u) const { return u == 0 ? 0 : first + u; }
  ASMA_INLINE int64_t to(int64_t u) const { return last + u; }
};

// Number of coordinates that one output is the mean of.
ASMA_INLINE int64_t mean_count(const MotionEnergy& a, int64_t length) {
  if (a.reduce == MotionEnergy::frame) return a.C * a.V * a.M;
  if (a.reduce == MotionEnergy::joint) return a.C * length * a.M;
  return a.C * a.M;
}

// Sum of `count` numbers with eight running sums: a fixed order, and no chain of dependent additions.
template <class A> ASMA_INLINE A total_of(const A* numbers, int64_t count) {
  A lanes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int lane = 0; lane < 8; ++lane) lanes[lane] += numbers[i + lane];
  for (int lane = 0; i < count; ++i, ++lane) lanes[lane] += numbers[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// sums (V * M) += |x[u + stride] - x[u]|^p over the coordinates.
template <int Order, class T>
void add_difference(const MotionEnergy& a, const T* frame, acc_t<T>* __restrict__ sums) {
  using A = acc_t<T>;
  const int64_t step = a.stride * a.st;
  if ((a.sm == 1 || a.M == 1) && a.sv == a.M) {
    for (int64_t c = 0; c < a.C; ++c) {
      const T* __restrict__ here = frame + c * a.sc;
      const T* __restrict__ next = here + step;
      for (int64_t i = 0; i < a.V * a.M; ++i) sums[i] += power<Order, A>(widen(next[i]) - widen(here[i]), a.p);
    }
    return;
  }
  for (int64_t v = 0; v < a.V; ++v)
    for (int64_t m = 0; m < a.M; ++m) {
      const T* here = frame + v * a.sv + m * a.sm;
      A sum = 0;
      for (int64_t c = 0; c < a.C; ++c)
        sum += power<Order, A>(widen(here[c * a.sc + step]) - widen(here[c * a.sc]), a.p);
      sums[v * a.M + m] += sum;
    }
}

template <int Order, class T>
void forward_clip(const MotionEnergy& a, const T* x, T* energy, acc_t<T>* sums, int64_t clip) {
  using A = acc_t<T>;
  const Frames frames(a, clip);
  const int64_t width = a.V * a.M;
  const int64_t size = a.reduce == MotionEnergy::frame ? a.T : a.reduce == MotionEnergy::joint ? a.V : a.T * a.V;
  for (int64_t i = 0; i < size; ++i) energy[i] = narrow<T>(A(0));
  const int64_t numbers = mean_count(a, frames.length);
  const A scale = numbers > 0 ? A(1) / static_cast<A>(numbers) : A(0);

  if (a.reduce == MotionEnergy::joint) {
    A* total = sums + width;
    for (int64_t i = 0; i < width; ++i) total[i] = A(0);
    for (int64_t u = 0; u < frames.count; ++u) {
      for (int64_t i = 0; i < width; ++i) sums[i] = A(0);
      add_difference<Order>(a, x + u * a.st, sums);
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
    for (int64_t i = 0; i < width; ++i) sums[i] = A(0);
    add_difference<Order>(a, x + u * a.st, sums);
    if (a.reduce == MotionEnergy::frame) {
      const A sum = total_of(sums, width);
      for (int64_t t = frames.from(u); t <= frames.to(u); ++t) energy[t] = narrow<T>(sum * scale);
      continue;
    }
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
  const int64_t numbers = mean_count(a, frames.length);
  const A scale = numbers > 0 ? A(1) / static_cast<A>(numbers) : A(0);
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
