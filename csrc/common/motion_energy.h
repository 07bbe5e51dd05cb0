// What motion_energy's kernels share: arguments, |difference|^p, and which frames carry which difference.
#pragma once
#include <cstdint>

#include "scalar.h"

namespace asma {

struct MotionEnergy {
  enum Reduce { frame, joint, frame_joint };
  int64_t N, C, T, V, M;       // axes of x
  int64_t sn, sc, st, sv, sm;  // its strides, in elements
  const int64_t* lengths;      // (N) or null: every clip has T frames
  Reduce reduce;
  double p;
  int64_t stride;
  bool copy_first;  // else zero_last
};

// |difference|^p and its derivative; Order 1 and 2 without a call of pow.
template <int Order, class A> static ASMA_INLINE A power(A difference, double p) {
  const A size = difference < A(0) ? -difference : difference;
  if (Order == 2) return difference * difference;
  if (Order == 1) return size;
  return static_cast<A>(power_of(static_cast<double>(size), p));
}
template <int Order, class A> static ASMA_INLINE A power_derivative(A difference, double p) {
  if (Order == 2) return A(2) * difference;
  const A sign = difference > A(0) ? A(1) : difference < A(0) ? A(-1) : difference;  // NaN and 0 pass through
  if (Order == 1) return sign;
  const double size = difference < A(0) ? -static_cast<double>(difference) : static_cast<double>(difference);
  return sign == A(0) ? A(0) : sign * static_cast<A>(p * power_of(size, p - 1));
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
static ASMA_INLINE int64_t mean_count(const MotionEnergy& a, int64_t length) {
  if (a.reduce == MotionEnergy::frame) return a.C * a.V * a.M;
  if (a.reduce == MotionEnergy::joint) return a.C * length * a.M;
  return a.C * a.M;
}
template <class A> static ASMA_INLINE A mean_scale(const MotionEnergy& a, int64_t length) {
  const int64_t numbers = mean_count(a, length);
  return numbers > 0 ? A(1) / static_cast<A>(numbers) : A(0);
}

}  // namespace asma
