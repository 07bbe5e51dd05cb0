// The smallest keys of a row that lies in memory (csrc/common/select.h says which they are).
#pragma once
#include <stdint.h>

#include "../common/select.h"

namespace asma {
namespace ASMA_ISA {

// Room that `smallest` wants for the keys of a row: whole vectors, so that its loop has no tail.
static ASMA_INLINE int64_t padded(int64_t count) { return (count + 15) / 16 * 16; }

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

// The `wanted` smallest of `count` keys (count < 2^31), ties to the earlier one; `keys` has padded(count) elements, the
// last of them the largest key.
template <class Key> static ASMA_INLINE Selection<Key> smallest(const Key* keys, int64_t count, int64_t wanted) {
  const int64_t vectors = padded(count) / 16;
  return find_bound<Key>(wanted, [&](Key candidate) {
    Key less = 0;
    for (int64_t i = 0; i < 16 * vectors; ++i) less += keys[i] < candidate;
    return less;
  });
}

}  // namespace ASMA_ISA
}  // namespace asma
