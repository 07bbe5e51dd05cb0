// Columns of a strided matrix of N samples: mean, variance, covariance and the standardised numbers, in panels of 32
// columns that kernels keep in cache: panel[sample][32].
#pragma once
#include <stdint.h>

#include "../common/scalar.h"
#include "gemm.h"

namespace asma {
namespace ASMA_ISA {

constexpr int64_t kPanelWidth = 32;

template <class T> struct Samples {
  const T* data;
  int64_t row, column;  // strides, in elements
  int64_t N, D;

  ASMA_INLINE const T* at(int64_t n, int64_t d) const { return data + n * row + d * column; }
  // Columns of the panel that begins at d.
  ASMA_INLINE int64_t width(int64_t d) const { return d + kPanelWidth <= D ? kPanelWidth : D - d; }
  ASMA_INLINE bool whole(int64_t d) const { return column == 1 && d + kPanelWidth <= D; }
};

// One row of a panel, zeros past `width`. Whole: 32 neighbours; the general way, which may call memset, is kept out of
// that one, so that sums stay in registers there.
template <bool Whole, class T>
static ASMA_INLINE void load_row(const T* __restrict__ from, int64_t step, int64_t width, acc_t<T>* __restrict__ to) {
  if constexpr (Whole) {
    for (int64_t j = 0; j < kPanelWidth; ++j) to[j] = widen(from[j]);
  } else {
    for (int64_t j = 0; j < width; ++j) to[j] = widen(from[j * step]);
    for (int64_t j = width; j < kPanelWidth; ++j) to[j] = 0;
  }
}

// Running sums of the columns of a panel, in registers.
template <class A> struct ColumnSums {
  static constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(A)), kParts = kPanelWidth / kLanes;
  using V = typename Vector<A, static_cast<int>(kLanes)>::type;
  V part[kParts];

  ASMA_INLINE ColumnSums() {
#pragma GCC unroll 16
    for (int64_t i = 0; i < kParts; ++i) part[i] = V{};
  }
  static ASMA_INLINE V at(const A* row, int64_t i) { return *reinterpret_cast<const V*>(row + i * kLanes); }
  ASMA_INLINE void add(const A* row) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < kParts; ++i) part[i] += at(row, i);
  }
  ASMA_INLINE void add_product(const A* p, const A* q) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < kParts; ++i) part[i] += at(p, i) * at(q, i);
  }
  ASMA_INLINE void store(A* to) const {
#pragma GCC unroll 16
    for (int64_t i = 0; i < kParts; ++i) *reinterpret_cast<V*>(to + i * kLanes) = part[i];
  }
  ASMA_INLINE void add_to(double* totals) const {
    A numbers[kPanelWidth];
    store(numbers);
    for (int64_t j = 0; j < kPanelWidth; ++j) totals[j] += static_cast<double>(numbers[j]);
  }
};

constexpr int64_t kGroup = 16;  // rows summed in A before the sum goes to double

// totals[j] = sum over k of p[k][j] * q[k][j]
template <class A> static void column_products(const A* p, const A* q, int64_t rows, double* totals) {
  for (int64_t j = 0; j < kPanelWidth; ++j) totals[j] = 0;
  for (int64_t first = 0; first < rows; first += kGroup) {
    ColumnSums<A> sums;
    for (int64_t k = first; k < first + kGroup && k < rows; ++k)
      sums.add_product(p + k * kPanelWidth, q + k * kPanelWidth);
    sums.add_to(totals);
  }
}

template <bool Whole, class T>
static void rounded_means(const Samples<T>& z, int64_t d, acc_t<T>* means) {
  acc_t<T> numbers[kPanelWidth];
  ColumnSums<acc_t<T>> sums;
  for (int64_t n = 0; n < z.N; ++n) {
    load_row<Whole>(z.at(n, d), z.column, z.width(d), numbers);
    sums.add(numbers);
  }
  sums.store(means);
  for (int64_t j = 0; j < kPanelWidth; ++j) means[j] /= static_cast<acc_t<T>>(z.N);
}

// Of a panel of two matrices: biased variances and covariance, divided by N.
struct PairStatistics {
  double mean[2][kPanelWidth], variance[2][kPanelWidth], covariance[kPanelWidth];
};

// Deviations are taken from a mean that rounding may put a little off, so that squares of large numbers do not cancel;
// their own mean then puts it right.
template <bool Whole, class T>
static void pair_statistics(const Samples<T>& z1, const Samples<T>& z2, int64_t d, PairStatistics& to) {
  using A = acc_t<T>;
  A mean1[kPanelWidth], mean2[kPanelWidth], one[kPanelWidth], two[kPanelWidth];
  rounded_means<Whole>(z1, d, mean1);
  rounded_means<Whole>(z2, d, mean2);
  double off1[kPanelWidth] = {}, off2[kPanelWidth] = {};
  double square1[kPanelWidth] = {}, square2[kPanelWidth] = {}, cross[kPanelWidth] = {};
  for (int64_t first = 0; first < z1.N; first += kGroup) {
    ColumnSums<A> deviations1, deviations2, squares1, squares2, products;
    for (int64_t n = first; n < first + kGroup && n < z1.N; ++n) {
      load_row<Whole>(z1.at(n, d), z1.column, z1.width(d), one);
      load_row<Whole>(z2.at(n, d), z2.column, z2.width(d), two);
      for (int64_t j = 0; j < kPanelWidth; ++j) one[j] -= mean1[j];
      for (int64_t j = 0; j < kPanelWidth; ++j) two[j] -= mean2[j];
      deviations1.add(one);
      deviations2.add(two);
      squares1.add_product(one, one);
      squares2.add_product(two, two);
      products.add_product(one, two);
    }
    deviations1.add_to(off1);
    deviations2.add_to(off2);
    squares1.add_to(square1);
    squares2.add_to(square2);
    products.add_to(cross);
  }
  const double scale = 1 / static_cast<double>(z1.N);
  for (int64_t j = 0; j < kPanelWidth; ++j) {
    off1[j] *= scale;
    off2[j] *= scale;
    to.mean[0][j] = static_cast<double>(mean1[j]) + off1[j];
    to.mean[1][j] = static_cast<double>(mean2[j]) + off2[j];
    to.variance[0][j] = square1[j] * scale - off1[j] * off1[j];
    to.variance[1][j] = square2[j] * scale - off2[j] * off2[j];
    to.covariance[j] = cross[j] * scale - off1[j] * off2[j];
  }
}

// Standardised z = (z - mean) * scale + shift; shift is what rounding the mean to A took away, so that columns are
// centred however far from zero they lie.
template <class A> struct Standardised {
  A mean[kPanelWidth], scale[kPanelWidth], shift[kPanelWidth];

  Standardised(const double* means, const double* inverse_deviations, int64_t width) {
    for (int64_t j = 0; j < kPanelWidth; ++j) {
      const double exact = j < width ? means[j] : 0, inverse = j < width ? inverse_deviations[j] : 0;
      mean[j] = static_cast<A>(exact);
      scale[j] = static_cast<A>(inverse);
      shift[j] = static_cast<A>((static_cast<double>(mean[j]) - exact) * inverse);
    }
  }
  // Of column j.
  ASMA_INLINE A operator()(A number, int64_t j) const { return (number - mean[j]) * scale[j] + shift[j]; }
};

template <bool Whole, class T>
static void standardise_rows(const Samples<T>& z, const Standardised<acc_t<T>>& standardised, int64_t d, int64_t first,
                             int64_t last, acc_t<T>* __restrict__ panel) {
  for (int64_t n = first; n < last; ++n, panel += kPanelWidth) {
    acc_t<T> numbers[kPanelWidth];
    load_row<Whole>(z.at(n, d), z.column, z.width(d), numbers);
    for (int64_t j = 0; j < kPanelWidth; ++j) panel[j] = standardised(numbers[j], j);
  }
}

// panel [sample - first][32]: the samples [first, last) of the columns from d on; zeros past column D.
template <class T>
static void standardise(const Samples<T>& z, const double* means, const double* inverse_deviations, int64_t d,
                        int64_t first, int64_t last, acc_t<T>* panel) {
  const Standardised<acc_t<T>> standardised(means + d, inverse_deviations + d, z.width(d));
  if (z.whole(d)) standardise_rows<true>(z, standardised, d, first, last, panel);
  else standardise_rows<false>(z, standardised, d, first, last, panel);
}

}  // namespace ASMA_ISA
}  // namespace asma
