// Which keys of a row are the smallest, found without sorting it, and integer keys that order as numbers and words do.
// Keys are signed integers, which every instruction set compares many at a time.
#pragma once
#include <cstdint>

#include "scalar.h"

namespace asma {

// Orders as the number does: -0 equals 0, and every NaN comes last.
static ASMA_INLINE int32_t ordered_key(float number) {
  const int32_t bits = __builtin_bit_cast(int32_t, number + 0.0f);
  return (bits & INT32_MAX) > 0x7f800000 ? INT32_MAX : bits ^ ((bits >> 31) & INT32_MAX);
}
static ASMA_INLINE int64_t ordered_key(double number) {
  const int64_t bits = __builtin_bit_cast(int64_t, number + 0.0);
  return (bits & INT64_MAX) > 0x7ff0000000000000 ? INT64_MAX : bits ^ ((bits >> 63) & INT64_MAX);
}
static ASMA_INLINE int32_t ordered_key(uint32_t word) { return static_cast<int32_t>(word ^ 0x80000000u); }

template <class Key> struct KeyBits;
template <> struct KeyBits<int32_t> {
  using type = uint32_t;
};
template <> struct KeyBits<int64_t> {
  using type = uint64_t;
};

// Which keys are the smallest: those below the bound, and the first `equal` of those that equal it.
template <class Key> struct Selection {
  Key bound;
  int64_t equal;
};

// The `wanted` smallest keys of a row of which count_below(key) tells how many are below a key. Finds the bound bit by
// bit and stops as soon as it parts the row as wanted, which for keys that differ takes about log2(count) calls.
ASMA_ANY_SIDE
template <class Key, class CountBelow>
static ASMA_INLINE Selection<Key> find_bound(int64_t wanted, const CountBelow& count_below) {
  using Bits = typename KeyBits<Key>::type;
  constexpr int top = 8 * static_cast<int>(sizeof(Key)) - 1;
  Bits bound = Bits(1) << top;
  int64_t below = 0;
#pragma unroll 1
  for (int bit = top; bit >= 0; --bit) {
    const Key candidate = static_cast<Key>(bound + (Bits(1) << bit));
    const int64_t less = count_below(candidate);
    if (less == wanted) return {candidate, 0};
    const bool raise = less < wanted;
    bound = raise ? static_cast<Bits>(candidate) : bound;
    below = raise ? less : below;
  }
  return {static_cast<Key>(bound), wanted - below};
}

}  // namespace asma
