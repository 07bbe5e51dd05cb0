// What token_mask's kernels share: arguments, Gumbel noise and the number that tokens are ordered by.
#pragma once
#include <cstdint>

#include "philox.h"
#include "scalar.h"

namespace asma {

struct TokenMask {
  int64_t L, keep;           // tokens of a row, and how many of them are kept
  int64_t score_n, score_l;  // strides of score (N, L), in elements
  int64_t noise_n, noise_l;  // strides of noise (N, L)
  double tau;
};

// Natural logarithm of a positive normal number to a few units in the last place, without a branch or a call, so that
// a loop of it is vectorised. The number is 2^e m with m in [sqrt(1/2), sqrt(2)), and
// log m = 2 (s + s^3/3 + s^5/5 + ...) with s = (m - 1) / (m + 1), |s| < 0.172.
static ASMA_INLINE double logarithm(double number) {
  constexpr uint64_t kRootHalf = 0x3fe6a09e667f3bcdu, kFraction = (uint64_t(1) << 52) - 1;
  constexpr double kLog2High = 0x1.62e42fefa38p-1, kLog2Low = 0x1.ef35793c7673p-45;  // High * e is exact
  const uint64_t shifted = __builtin_bit_cast(uint64_t, number) - kRootHalf + (uint64_t(1023) << 52);
  // e + 1023, made a double by writing it into the fraction of 2^52: a conversion that every instruction set has.
  const double e = __builtin_bit_cast(double, (shifted >> 52) | (uint64_t(1075) << 52)) - (0x1p52 + 1023);
  const double m = __builtin_bit_cast(double, (shifted & kFraction) + kRootHalf);
  const double s = (m - 1) / (m + 1), z = s * s;
  double sum = 1.0 / 23;
  for (int odd = 21; odd >= 3; odd -= 2) sum = sum * z + 1.0 / odd;
  return e * kLog2High + (2 * s + (2 * s * z * sum + e * kLog2Low));
}

// Gumbel noise of a token, in float64 whatever A is: rounding to float32 then hides the last bits, in which the
// logarithms of different backends differ.
template <class A> static ASMA_INLINE A gumbel(const Philox& random, int64_t token, int64_t row) {
  const uint32_t word = random.word(static_cast<uint32_t>(token), static_cast<uint32_t>(row));
  const double uniform = (static_cast<double>(word) + 0.5) * 0x1p-32;
  return static_cast<A>(-logarithm(-logarithm(uniform)));
}

// What tokens are ordered by; scale is tau times the largest score of the row.
template <class A> static ASMA_INLINE A noisy_share(A score, A scale, A noise) {
  return (scale > A(0) ? score / scale : score * A(0)) + noise;
}

}  // namespace asma
