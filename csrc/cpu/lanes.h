// Vectors of numbers that are stored in any floating type and computed with in acc_t. Compilers vectorise loops over
// float and double by themselves, but not loops over bf16 and half, nor loops whose outputs they think may overlap.
// GCC vector extensions only: the same source for SSE2, AVX2, AVX-512 and NEON.
#pragma once
#include <stdint.h>

#include "../common/scalar.h"

namespace asma {
namespace ASMA_ISA {

#if defined(__AVX512F__)
constexpr int kLaneBytes = 64;
#elif defined(__AVX2__)
constexpr int kLaneBytes = 32;
#else
constexpr int kLaneBytes = 16;
#endif

// Numbers of type acc_t<T> that fill a vector register.
template <class T> constexpr int kLanes = kLaneBytes / static_cast<int>(sizeof(acc_t<T>));

template <class T, int Count> struct Lanes {
  typedef T type __attribute__((vector_size(Count * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <class T, int Count> using lanes_t = typename Lanes<T, Count>::type;

namespace lanes_of {

template <int Count> ASMA_INLINE lanes_t<uint32_t, Count> read_16(const void* from) {
  const auto bits = *static_cast<const lanes_t<uint16_t, Count>*>(from);
  return __builtin_convertvector(bits, lanes_t<uint32_t, Count>);
}
template <int Count> ASMA_INLINE void write_16(void* to, lanes_t<uint32_t, Count> bits) {
  *static_cast<lanes_t<uint16_t, Count>*>(to) = __builtin_convertvector(bits, lanes_t<uint16_t, Count>);
}

}  // namespace lanes_of

template <int Count> ASMA_INLINE lanes_t<float, Count> load(const float* from) {
  return *reinterpret_cast<const lanes_t<float, Count>*>(from);
}
template <int Count> ASMA_INLINE lanes_t<double, Count> load(const double* from) {
  return *reinterpret_cast<const lanes_t<double, Count>*>(from);
}
template <int Count> ASMA_INLINE lanes_t<int16_t, Count> load(const int16_t* from) {
  return *reinterpret_cast<const lanes_t<int16_t, Count>*>(from);
}
template <int Count> ASMA_INLINE lanes_t<float, Count> load(const bf16* from) {
  return reinterpret_cast<lanes_t<float, Count>>(lanes_of::read_16<Count>(from) << 16);
}
// The exponent is moved by arithmetic on the bits. Subnormals gain their leading one, which a subtraction takes away
// again: unlike a product it never meets a float32 subnormal, which a process may have told the processor to flush.
template <int Count> ASMA_INLINE lanes_t<float, Count> load(const half* from) {
  using Bits = lanes_t<uint32_t, Count>;
  using Numbers = lanes_t<float, Count>;
  const Bits bits = lanes_of::read_16<Count>(from);
  const Bits sign = (bits & 0x8000u) << 16, shifted = (bits & 0x7fffu) << 13, exponent = shifted & 0x0f800000u;
  const Bits zero{}, rebias = zero + (112u << 23), rebias_infinite = zero + (224u << 23), one = zero + (113u << 23);
  const Bits moved = shifted + (exponent == 0u ? one : exponent == 0x0f800000u ? rebias_infinite : rebias);
  const Bits leading = exponent == 0u ? one : zero;
  const Numbers size = reinterpret_cast<Numbers>(moved) - reinterpret_cast<Numbers>(leading);
  return reinterpret_cast<Numbers>(reinterpret_cast<Bits>(size) | sign);
}

template <int Count> ASMA_INLINE void store(float* to, lanes_t<float, Count> numbers) {
  *reinterpret_cast<lanes_t<float, Count>*>(to) = numbers;
}
template <int Count> ASMA_INLINE void store(double* to, lanes_t<double, Count> numbers) {
  *reinterpret_cast<lanes_t<double, Count>*>(to) = numbers;
}
// Round to nearest, ties to even; NaN stays NaN.
template <int Count> ASMA_INLINE void store(bf16* to, lanes_t<float, Count> numbers) {
  using Bits = lanes_t<uint32_t, Count>;
  const Bits bits = reinterpret_cast<Bits>(numbers);
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, quiet = (bits >> 16) | 0x40u;
  lanes_of::write_16<Count>(to, (bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}
template <int Count> ASMA_INLINE void store(half* to, lanes_t<float, Count> numbers) {
  using Bits = lanes_t<uint32_t, Count>;
  using Numbers = lanes_t<float, Count>;
  const Bits bits = reinterpret_cast<Bits>(numbers), size = bits & 0x7fffffffu;
  const Bits normal = (size - (112u << 23) + 0xfffu + ((size >> 13) & 1u)) >> 13;
  // Adding 0.5 leaves a subnormal's rounded bits at the end of the sum's.
  const Bits half_bits = Bits{} + (126u << 23);
  const Bits subnormal =
      reinterpret_cast<Bits>(reinterpret_cast<Numbers>(size) + reinterpret_cast<Numbers>(half_bits)) - half_bits;
  const Bits infinite = Bits{} + 0x7c00u, nan = Bits{} + 0x7e00u;
  const Bits large = size > 0x7f800000u ? nan : infinite;
  const Bits rounded = size >= (143u << 23) ? large : size < (113u << 23) ? subnormal : normal;
  lanes_of::write_16<Count>(to, rounded | ((bits >> 16) & 0x8000u));
}

// Calls body.operator()<Count>(i) over [0, size) by whole vectors. The last may overlap the one before, so body must
// not read what it writes. Rows shorter than a vector go by narrower ones.
template <int Count, class Body> ASMA_INLINE void for_lanes(int64_t size, const Body& body) {
  if (size >= Count) {
    for (int64_t i = 0; i + Count <= size; i += Count) body.template operator()<Count>(i);
    if (size % Count) body.template operator()<Count>(size - Count);
  } else if constexpr (Count > 1) {
    for_lanes<Count / 2>(size, body);
  }
}

}  // namespace ASMA_ISA
}  // namespace asma
