// What the products of gemm.h multiply, and what they sum: numbers, or two of 16 bits along the depth, whose products
// and their sum are one instruction, so that pairs need half of the instructions.
//
// Pair: bfloat16 numbers, summed in float32 (AVX512_BF16's vdpbf16ps). isa.h says where there is that instruction;
// elsewhere bfloat16 is multiplied as float32.
// IntegerPair: int16 numbers, summed in int32 modulo 2^32, so that every processor finds the same. Where there is
// AVX512_VNNI, FusedIntegerPair adds up in the same instruction (vpdpwssd).
#pragma once
#include <stdint.h>

#include "../common/scalar.h"
#include "lanes.h"

namespace asma {
namespace ASMA_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kVectors = 32;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kVectors = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kVectors = 32;
#else
constexpr int kVectorBytes = 16, kVectors = 16;
#endif

template <class A, int Lanes> struct Vector {
  typedef A type __attribute__((vector_size(Lanes * sizeof(A)), aligned(sizeof(A)), may_alias));
};
template <class A> struct Vector<A, 1> {
  typedef A type;
};

// P as an operand: what a number is stored as, how many of them are one P, the narrowest vector of columns.
template <class P> struct Operand {
  using stored = P;
  static constexpr int64_t depth = 1;
  static constexpr int fewest = 1;
  template <int Lanes> using Row = typename Vector<P, Lanes>::type;
};
template <class V, class A> ASMA_INLINE void add_product(V& sum, A a, const V& row) { sum += a * row; }

template <int L> ASMA_INLINE void store_operand(float* to, lanes_t<float, L> numbers) { store<L>(to, numbers); }
template <int L> ASMA_INLINE void store_operand(double* to, lanes_t<double, L> numbers) { store<L>(to, numbers); }
template <int L> ASMA_INLINE void store_operand(int16_t* to, lanes_t<int16_t, L> numbers) {
  *reinterpret_cast<lanes_t<int16_t, L>*>(to) = numbers;
}

struct Pair {
  uint32_t bits;  // the first number is the low half
};
template <> struct Operand<Pair> {
  using stored = bf16;
  static constexpr int64_t depth = 2;
  static constexpr int fewest = 4;
  template <int Lanes> using Row = typename Vector<uint32_t, Lanes>::type;
};

struct IntegerPair {
  uint32_t bits;  // the first number is the low half
};
template <> struct Operand<IntegerPair> {
  using stored = int16_t;
  static constexpr int64_t depth = 2;
  static constexpr int fewest = 4;
  template <int Lanes> using Row = typename Vector<uint32_t, Lanes>::type;
};
template <class V, class Row> ASMA_INLINE void add_product(V& sum, IntegerPair a, const Row& row) {
#if defined(__x86_64__)
  const Row repeated = Row{} + a.bits;
  Row products = row;
#if defined(__AVX2__)
  asm("vpmaddwd %1, %0, %0" : "+v"(products) : "v"(repeated));
#else
  asm("pmaddwd %1, %0" : "+x"(products) : "x"(repeated));
#endif
  sum = (V)((Row)sum + products);
#else
  const uint32_t low = static_cast<uint32_t>(static_cast<int16_t>(a.bits)),
                 high = static_cast<uint32_t>(static_cast<int32_t>(a.bits) >> 16);
  const Row first = (Row)((V)(row << 16) >> 16), second = (Row)((V)row >> 16);
  sum = (V)((Row)sum + first * low + second * high);
#endif
}

// Whether a kernel for features of type T is made for pairs too, which it takes where its arguments ask for them.
template <class T> inline constexpr bool kHasPairs = false;

#if defined(__AVX512F__)
template <> inline constexpr bool kHasPairs<bf16> = true;

// As assembly, which a compiler takes whichever instruction set it was told to compile for.
template <class V, class Row> ASMA_INLINE void add_product(V& sum, Pair a, const Row& row) {
  const Row repeated = Row{} + a.bits;
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(row), "v"(repeated));
}

struct FusedIntegerPair {
  uint32_t bits;
};
template <> struct Operand<FusedIntegerPair> : Operand<IntegerPair> {};
template <class V, class Row> ASMA_INLINE void add_product(V& sum, FusedIntegerPair a, const Row& row) {
  const Row repeated = Row{} + a.bits;
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(row), "v"(repeated));
}

// To nearest, ties to even; subnormal numbers become 0.
template <int L> ASMA_INLINE lanes_t<uint16_t, L> rounded(lanes_t<float, L> numbers) {
  lanes_t<uint16_t, L> bits;
  asm("vcvtneps2bf16 %1, %0" : "=v"(bits) : "v"(numbers));
  return bits;
}
#endif

template <int L> ASMA_INLINE void store_operand(bf16* to, lanes_t<float, L> numbers) {
#if defined(__AVX512F__)
  if constexpr (L >= 8) {
    *reinterpret_cast<lanes_t<uint16_t, L>*>(to) = rounded<L>(numbers);
    return;
  }
#endif
  store<L>(to, numbers);
}
// The pairs of two rows, of which `first` comes first in the depth.
template <int L> ASMA_INLINE void store_pairs(Pair* to, lanes_t<float, L> first, lanes_t<float, L> second) {
#if defined(__AVX512F__)
  if constexpr (L == 16) {
    using Bits = lanes_t<uint32_t, 16>;
    const Bits low = __builtin_convertvector(rounded<16>(first), Bits),
               high = __builtin_convertvector(rounded<16>(second), Bits);
    *reinterpret_cast<Bits*>(to) = low | (high << 16);
    return;
  }
#endif
  bf16 rows[2 * L];
  store<L>(rows, first);
  store<L>(rows + L, second);
  for (int i = 0; i < L; ++i) to[i].bits = rows[i].bits | static_cast<uint32_t>(rows[L + i].bits) << 16;
}

}  // namespace ASMA_ISA
}  // namespace asma
