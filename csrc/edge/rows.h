// The rows that products multiply, as each kind of operand has them, and what is made of their sums. Included by
// network.cpp, once per instruction set.
//
// Where operands are integers a row is a number of steps, rounded to the nearest, ties to even; what is beyond the
// largest row becomes that. A number that is not finite becomes one of the ends, so that it can do no harm: answers
// are finite whatever goes in.
#pragma once
#include <type_traits>

#include "../cpu/operand.h"
#include "network.h"

namespace asma {
namespace ASMA_ISA {
namespace {

template <class P> inline constexpr bool kIntegers = std::is_same_v<typename Operand<P>::stored, int16_t>;
template <class P> using Stored = typename Operand<P>::stored;
template <class P> using Sum = std::conditional_t<kIntegers<P>, int32_t, float>;

// A block's weights: numbers, or pairs in place of them.
template <class P> ASMA_INLINE const P* weights(const float* numbers, const uint32_t* pairs) {
  if constexpr (std::is_same_v<P, float>) return numbers;
  else return reinterpret_cast<const P*>(pairs);
}

// What sums start with: the bias, where they are numbers.
template <class P> ASMA_INLINE const Sum<P>* starting_sums(const float* bias) {
  if constexpr (kIntegers<P>) return nullptr;
  else return bias;
}

// NaN stays NaN, as in PyTorch's.
template <int L> ASMA_INLINE lanes_t<float, L> relu_of(lanes_t<float, L> x) {
  return x < 0.0f ? lanes_t<float, L>{} : x;
}

template <int L> ASMA_INLINE lanes_t<int16_t, L> rounded_within(lanes_t<float, L> x, float least, float most) {
  using Bits = lanes_t<int32_t, L>;
  const lanes_t<float, L> zero{}, low = zero + least, high = zero + most;
  x = x > low ? x : low;
  x = x < high ? x : high;
  // Added to 1.5 * 2^23 a number is rounded, and is the end of the sum's bits.
  const lanes_t<float, L> moved = x + 12582912.0f;
  return __builtin_convertvector(reinterpret_cast<Bits>(moved) - 0x4b400000, lanes_t<int16_t, L>);
}

// A row of a graph convolution or of a shortcut.
template <class P, int L> ASMA_INLINE void store_row(Stored<P>* to, lanes_t<float, L> x, float per_step) {
  if constexpr (kIntegers<P>) store_operand<L>(to, rounded_within<L>(x * per_step, -edge::kMostRow, edge::kMostRow));
  else store_operand<L>(to, x);
}

// What the convolution over frames keeps of the sums of the graph convolution from channel d on; step and base are of
// channel 0, and looked at for integers alone.
template <class P, int L>
ASMA_INLINE void store_kept(Stored<P>* to, const Sum<P>* sum, const float* step, const float* base, int64_t d) {
  if constexpr (kIntegers<P>) {
    const auto sums = *reinterpret_cast<const lanes_t<int32_t, L>*>(sum);
    const auto x = __builtin_convertvector(sums, lanes_t<float, L>) * load<L>(step + d) + load<L>(base + d);
    store_operand<L>(to, rounded_within<L>(x, 0, edge::kMostKept));
  } else {
    store_operand<L>(to, relu_of<L>(load<L>(sum)));
  }
}

// Sums of `rows` rows of D channels become numbers, in place. By single numbers, which a compiler makes vectors of:
// those of for_lanes overlap.
inline void sums_to_numbers(float* sums, int64_t rows, int64_t D, const float* step, const float* bias = nullptr) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t d = 0; d < D; ++d) {
      int32_t sum;
      __builtin_memcpy(&sum, sums + r * D + d, sizeof(sum));
      sums[r * D + d] = static_cast<float>(sum) * step[d] + (bias ? bias[d] : 0.0f);
    }
}

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
