// Register-blocked matrix product over raw pointers, for kernels that multiply small tiles in cache.
//
//   c[m][n] (+)= sum over segments s, over k < depth: a[s][m * a_row + k * a_col] * b[s][k * b_row + n]
//
// The columns n are contiguous in b and c and are the vector lanes; a is read one number at a time, so any strides of a
// will do and nothing has to be packed. Segments let one product run over blocks that lie apart (the partitions of a
// graph) with the sums kept in registers. The order of every sum depends on the sizes alone.
//
// What is multiplied may be Pairs (operand.h): a, b and the depth then count pairs.
#pragma once
#include "operand.h"

namespace asma {
namespace ASMA_ISA {

template <class P> struct Segment {
  const P* a;
  const P* b;
};

template <class A, class P = A> struct Product {
  const Segment<P>* segments;
  int64_t count, depth;
  int64_t a_row, a_col, b_row;
  A* c;
  int64_t c_row;
  bool add;                  // else c is overwritten
  const A* start = nullptr;  // without add: row m's sums begin with start[m], a bias
  const A* base = nullptr;   // without add and start: column n's sums begin with base[n]
};

// Rows [m, m + Rows); Columns vectors of columns, from n on, `step` apart. Where step < Lanes vectors overlap: what
// they have in common is read before it is written, and comes out twice the same.
template <class A, class P, int Rows, int Columns, int Lanes>
static ASMA_INLINE void multiply_block(const Product<A, P>& p, int64_t m, int64_t n, int64_t step) {
  using V = typename Vector<A, Lanes>::type;
  using Row = typename Operand<P>::template Row<Lanes>;
  V sums[Rows][Columns];
  A* c = p.c + m * p.c_row + n;
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < Columns; ++j)
      sums[i][j] = p.add     ? *reinterpret_cast<const V*>(c + i * p.c_row + j * step)
                   : p.start ? V{} + p.start[m + i]
                   : p.base  ? *reinterpret_cast<const V*>(p.base + n + j * step)
                             : V{};
  for (int64_t s = 0; s < p.count; ++s) {
    const P* a = p.segments[s].a + m * p.a_row;
    const P* b = p.segments[s].b + n;
    for (int64_t k = 0; k < p.depth; ++k, a += p.a_col, b += p.b_row) {
      Row row[Columns];
#pragma GCC unroll 4
      for (int j = 0; j < Columns; ++j) row[j] = *reinterpret_cast<const Row*>(b + j * step);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < Columns; ++j) add_product(sums[i][j], a[i * p.a_row], row[j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < Columns; ++j) *reinterpret_cast<V*>(c + i * p.c_row + j * step) = sums[i][j];
}

// Never a part of a larger function, in which GCC may keep the sums in memory.
template <class A, class P, int Rows, int Columns, int Lanes>
static __attribute__((noinline)) void multiply_columns(const Product<A, P>& p, int64_t rows, int64_t n,
                                                       int64_t step = Lanes) {
  int64_t m = 0;
  for (; m + Rows <= rows; m += Rows) multiply_block<A, P, Rows, Columns, Lanes>(p, m, n, step);
  if constexpr (Rows > 8)
    for (; m + 8 <= rows; m += 8) multiply_block<A, P, 8, Columns, Lanes>(p, m, n, step);
  if constexpr (Rows > 4)
    for (; m + 4 <= rows; m += 4) multiply_block<A, P, 4, Columns, Lanes>(p, m, n, step);
  if constexpr (Rows > 2)
    for (; m + 2 <= rows; m += 2) multiply_block<A, P, 2, Columns, Lanes>(p, m, n, step);
  for (; m < rows; ++m) multiply_block<A, P, 1, Columns, Lanes>(p, m, n, step);
}

// Fewer than two vectors of columns, by one vector or by two that overlap; fewer than one by narrower vectors.
template <class A, class P, int Lanes>
static inline void multiply_rest(const Product<A, P>& p, int64_t rows, int64_t columns, int64_t n) {
  if (n + Lanes < columns) multiply_columns<A, P, kVectors == 32 ? 12 : 6, 2, Lanes>(p, rows, n, columns - Lanes - n);
  else if (n + Lanes == columns) multiply_columns<A, P, kVectors == 32 ? 12 : 8, 1, Lanes>(p, rows, n);
  else if constexpr (Lanes > Operand<P>::fewest) multiply_rest<A, P, Lanes / 2>(p, rows, columns, n);
}

template <class A, class P> static inline void multiply(const Product<A, P>& p, int64_t rows, int64_t columns) {
  constexpr int L = kVectorBytes / static_cast<int>(sizeof(A));
  int64_t n = 0;
  // A rest of less than a vector takes the vector before it along.
  const auto fits = [&](int64_t width) { return n + width == columns || n + width + L <= columns; };
  if constexpr (kVectors == 32)
    for (; fits(4 * L); n += 4 * L) multiply_columns<A, P, 6, 4, L>(p, rows, n);
  for (; fits(2 * L); n += 2 * L) multiply_columns<A, P, kVectors == 32 ? 12 : 6, 2, L>(p, rows, n);
  for (; fits(L); n += L) multiply_columns<A, P, kVectors == 32 ? 12 : 8, 1, L>(p, rows, n);
  if (n < columns) multiply_rest<A, P, L>(p, rows, columns, n);
}

}  // namespace ASMA_ISA
}  // namespace asma
