// The smallest keys of a row without sorting it, and integer keys that order as numbers and words do.
// Keys are signed integers, which every instruction set compares many at a time.
#pragma once
#include <stdint.h>

#include "../common/scalar.h"

namespace asma {
namespace ASMA_ISA {

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

// Room that `smallest` wants for the keys of a row: whole vectors, so that its loop has no tail.
static ASMA_INLINE int64_t padded(int64_t count) { return (count + 15) / 16 * 16; }

// Which keys are the smallest: those below the bound, and the first `equal` of those that equal it.
template <class Key> struct Selection {
  Key bound;
  int64_t equal;
};

// taken[i]: whether the selection has key i.
template <class Key>
static ASMA_INLINE void mark(const Selection<Key>& selection, const Key* keys, int64_t count,
                             bool* __restrict__ taken) {
  for (int64_t i = 0; i < count; ++i) taken[i] = keys[i] < selection.bound;
  int64_t equal = selection.equal;
  for (int64_t i = 0; i < count && equal > 0; ++i)
    if (keys[i] == selection.bound) {
      taken[i] = true;
      --equal;
    }
}

template <class Key> struct KeyBits;
template <> struct KeyBits<int32_t> {
  using type = uint32_t;
};
template <> struct KeyBits<int64_t> {
  using type = uint64_t;
};

// The `wanted` smallest of `count` keys (count < 2^31), ties to the earlier one; `keys` has padded(count) elements, the
// last of them the largest key. Finds the bound bit by bit and stops as soon as it parts the row as wanted, which for
// keys that differ takes about log2(count) passes over them.
template <class Key> static ASMA_INLINE Selection<Key> smallest(const Key* keys, int64_t count, int64_t wanted) {
  using Bits = typename KeyBits<Key>::type;
  constexpr int top = 8 * static_cast<int>(sizeof(Key)) - 1;
  const int64_t vectors = padded(count) / 16;
  Bits bound = Bits(1) << top;
  int64_t below = 0;
  for (int bit = top; bit >= 0; --bit) {
    const Key candidate = static_cast<Key>(bound + (Bits(1) << bit));
    Key less = 0;
    for (int64_t i = 0; i < 16 * vectors; ++i) less += keys[i] < candidate;
    if (less == wanted) return {candidate, 0};
    const bool raise = less < wanted;
    bound = raise ? static_cast<Bits>(candidate) : bound;
    below = raise ? less : below;
  }
  return {static_cast<Key>(bound), wanted - below};
}

}  // namespace ASMA_ISA
}  // namespace asma
