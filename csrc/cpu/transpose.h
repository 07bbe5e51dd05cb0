// Small transposes between the memory order of tensors (joints contiguous) and that of the kernels (channels
// contiguous).
#pragma once
#include <stdint.h>

#include "../common/scalar.h"
#include "lanes.h"

namespace asma {
namespace ASMA_ISA {

template <class A> struct Eight {
  typedef A type __attribute__((vector_size(8 * sizeof(A)), aligned(sizeof(A)), may_alias));
};

// rows[i][j] <-> rows[j][i]
template <class V> static ASMA_INLINE void transpose_8x8(V (&r)[8]) {
  V a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    a[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    a[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
#pragma GCC unroll 8
  for (int q = 0; q < 4; ++q) {
    const int i = (q & 1) + (q >> 1) * 4;
    b[i] = __builtin_shufflevector(a[i], a[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    b[i + 2] = __builtin_shufflevector(a[i], a[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// Start of the last block of eight: it overlaps the one before, so that no block leaves the row.
static ASMA_INLINE int64_t block_start(int64_t i, int64_t size) { return i + 8 <= size ? i : size - 8; }

// to[j * to_row + i] = from[i * from_row + j * from_column], i < rows, j < columns.
template <class T>
static inline void gather_transposed(const T* from, int64_t from_row, int64_t from_column, acc_t<T>* to, int64_t to_row,
                                     int64_t rows, int64_t columns) {
  using V = typename Eight<acc_t<T>>::type;
  if (from_row == 1) {  // rows of the result lie so already
    for (int64_t j = 0; j < columns; ++j)
      for_lanes<kLanes<T>>(
          rows, [&]<int L>(int64_t i) { store<L>(to + j * to_row + i, load<L>(from + j * from_column + i)); });
    return;
  }
  if (from_column != 1 || rows < 8 || columns < 8) {
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = 0; i < rows; ++i) to[j * to_row + i] = widen(from[i * from_row + j * from_column]);
    return;
  }
  for (int64_t i = 0; i < rows; i += 8)
    for (int64_t j = 0; j < columns; j += 8) {
      const int64_t i0 = block_start(i, rows), j0 = block_start(j, columns);
      V block[8];
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q) {
        const T* row = from + (i0 + q) * from_row + j0;
        for (int lane = 0; lane < 8; ++lane) block[q][lane] = widen(row[lane]);
      }
      transpose_8x8(block);
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q) *reinterpret_cast<V*>(to + (j0 + q) * to_row + i0) = block[q];
    }
}

// to[j * to_row + i] = from[i * from_row + j] (+ plus[j * rows + i]), i < rows, j < columns; plus may be null.
template <class T>
static inline void scatter_transposed(const acc_t<T>* from, int64_t from_row, const acc_t<T>* plus, T* to,
                                      int64_t to_row, int64_t rows, int64_t columns) {
  using A = acc_t<T>;
  using V = typename Eight<A>::type;
  if (rows < 8 || columns < 8) {
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = 0; i < rows; ++i)
        to[j * to_row + i] = narrow<T>(from[i * from_row + j] + (plus ? plus[j * rows + i] : A(0)));
    return;
  }
  for (int64_t i = 0; i < rows; i += 8)
    for (int64_t j = 0; j < columns; j += 8) {
      const int64_t i0 = block_start(i, rows), j0 = block_start(j, columns);
      V block[8];
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q) block[q] = *reinterpret_cast<const V*>(from + (i0 + q) * from_row + j0);
      transpose_8x8(block);
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q) {
        V row = block[q];
        if (plus) row += *reinterpret_cast<const V*>(plus + (j0 + q) * rows + i0);
        T* out = to + (j0 + q) * to_row + i0;
        for (int lane = 0; lane < 8; ++lane) out[lane] = narrow<T>(row[lane]);
      }
    }
}

}  // namespace ASMA_ISA
}  // namespace asma
