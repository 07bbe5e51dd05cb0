// c is D x D, but with N < D all that the loss and its gradient need of it is its diagonal and, with the standardised
// Z1 and Z2, the two N x N Gram matrices: sum_ij c_ij^2 = <Z1 Z1^T, Z2 Z2^T> / N^2, and its gradient in Z1 is
// 2 (Z2 Z2^T) Z1 / N^2. The standardised numbers are made afresh where they are used, in panels that stay in cache.
#include "barlow_twins.h"

#include "gemm.h"
#include "scratch.h"
#include "transpose.h"

namespace asma {
namespace ASMA_ISA {
namespace {

ASMA_INLINE int64_t smaller(int64_t p, int64_t q) { return p < q ? p : q; }
ASMA_INLINE int64_t panels_of(int64_t size) { return (size + kPanel - 1) / kPanel; }

constexpr int64_t kGroup = 16;    // rows summed in the accumulation type before the sum goes to double
constexpr int64_t kCached = 128;  // rows of two panels that fit in the first cache together

// One row of a column panel, zeros past `width`. Whole: 32 neighbours; the general path, which may call memset, is kept
// out of that one, so that sums stay in registers there.
template <bool Whole, class T>
ASMA_INLINE void load_row(const T* __restrict__ from, int64_t stride, int64_t width, acc_t<T>* __restrict__ to) {
  if constexpr (Whole) {
    for (int64_t j = 0; j < kPanel; ++j) to[j] = widen(from[j]);
  } else {
    for (int64_t j = 0; j < width; ++j) to[j] = widen(from[j * stride]);
    for (int64_t j = width; j < kPanel; ++j) to[j] = 0;
  }
}

// Standardised z = (z - mean) * scale + shift; shift is what rounding the mean to A took away, so that columns are
// centred however far from zero they lie.
template <class A> struct Columns {
  A mean[kPanel], scale[kPanel], shift[kPanel];
  ASMA_INLINE void set(int64_t j, double exact_mean, double deviation) {
    mean[j] = static_cast<A>(exact_mean);
    scale[j] = static_cast<A>(deviation);
    shift[j] = static_cast<A>((static_cast<double>(mean[j]) - exact_mean) * deviation);
  }
  Columns(const BarlowTwins& a, int side, const double* statistics, int64_t first) {
    const double* means = statistics + (side == 0 ? mean_1 : mean_2) * a.D + first;
    const double* deviations = statistics + (side == 0 ? deviation_1 : deviation_2) * a.D + first;
    const int64_t width = smaller(kPanel, a.D - first);
    for (int64_t j = 0; j < kPanel; ++j) set(j, j < width ? means[j] : 0, j < width ? deviations[j] : 0);
  }
};

template <bool Whole, class T>
void standardise_rows(const Columns<acc_t<T>>& columns, const T* z, int64_t row, int64_t column, int64_t rows, int64_t width,
                      acc_t<T>* __restrict__ to) {
  for (int64_t n = 0; n < rows; ++n, z += row, to += kPanel) {
    acc_t<T> numbers[kPanel];
    load_row<Whole>(z, column, width, numbers);
    for (int64_t j = 0; j < kPanel; ++j) to[j] = (numbers[j] - columns.mean[j]) * columns.scale[j] + columns.shift[j];
  }
}

// to [sample - first][32]: the standardised samples [first, last) of the column panel that begins at `column`.
template <class T>
void standardise(const BarlowTwins& a, int side, const T* z, const double* statistics, int64_t column, int64_t first,
                 int64_t last, acc_t<T>* to) {
  const Columns<acc_t<T>> columns(a, side, statistics, column);
  const int64_t row = a.row[side], step = a.column[side], width = smaller(kPanel, a.D - column);
  z += first * row + column * step;
  if (step == 1 && width == kPanel) standardise_rows<true>(columns, z, row, step, last - first, width, to);
  else standardise_rows<false>(columns, z, row, step, last - first, width, to);
}

// Running sums of the columns of a panel, kept in registers.
template <class A> struct Sums {
  static constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(A)), kParts = kPanel / kLanes;
  using V = typename Vector<A, static_cast<int>(kLanes)>::type;
  V part[kParts];

  ASMA_INLINE Sums() {
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
    A numbers[kPanel];
    store(numbers);
    for (int64_t j = 0; j < kPanel; ++j) totals[j] += static_cast<double>(numbers[j]);
  }
};

// A first mean, which rounding may put a little off: deviations are taken from it, so that squares of large numbers do
// not cancel, and their own mean puts it right.
template <bool Whole, class T>
void first_means(const T* z, int64_t row, int64_t column, int64_t rows, int64_t width, acc_t<T>* means) {
  acc_t<T> numbers[kPanel];
  Sums<acc_t<T>> sums;
  for (int64_t n = 0; n < rows; ++n) {
    load_row<Whole>(z + n * row, column, width, numbers);
    sums.add(numbers);
  }
  sums.store(means);
  for (int64_t j = 0; j < kPanel; ++j) means[j] /= static_cast<acc_t<T>>(rows);
}

template <bool Whole, class T>
void panel_statistics(const BarlowTwins& a, const T* const (&z)[2], int64_t width, double* statistics) {
  using A = acc_t<T>;
  const double samples = static_cast<double>(a.N);
  A mean[2][kPanel], one[kPanel], two[kPanel];
  for (int side = 0; side < 2; ++side)
    first_means<Whole>(z[side], a.row[side], a.column[side], a.N, width, mean[side]);
  double off1[kPanel] = {}, off2[kPanel] = {}, square1[kPanel] = {}, square2[kPanel] = {}, cross[kPanel] = {};
  for (int64_t first = 0; first < a.N; first += kGroup) {
    Sums<A> deviations1, deviations2, squares1, squares2, products;
    for (int64_t n = first; n < smaller(first + kGroup, a.N); ++n) {
      load_row<Whole>(z[0] + n * a.row[0], a.column[0], width, one);
      load_row<Whole>(z[1] + n * a.row[1], a.column[1], width, two);
      for (int64_t j = 0; j < kPanel; ++j) one[j] -= mean[0][j];
      for (int64_t j = 0; j < kPanel; ++j) two[j] -= mean[1][j];
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
  for (int64_t j = 0; j < width; ++j, ++statistics) {
    const double o1 = off1[j] / samples, o2 = off2[j] / samples;
    const double d1 = 1 / __builtin_sqrt(square1[j] / samples - o1 * o1 + a.eps);
    const double d2 = 1 / __builtin_sqrt(square2[j] / samples - o2 * o2 + a.eps);
    statistics[mean_1 * a.D] = static_cast<double>(mean[0][j]) + o1;
    statistics[deviation_1 * a.D] = d1;
    statistics[mean_2 * a.D] = static_cast<double>(mean[1][j]) + o2;
    statistics[deviation_2 * a.D] = d2;
    statistics[diagonal * a.D] = (cross[j] / samples - o1 * o2) * d1 * d2;
  }
}

// What the gradient of one side is made of, per column: 2 lambd / N * product + diagonal * other - along * own, all
// times the inverse deviation. The last term, with the fact that columns of the product have mean 0, is the gradient
// through the standardisation.
template <class A> struct Terms {
  A product;
  A diagonal[kPanel], along[kPanel], deviation[kPanel];
  // squares: sum over the other side's columns of c_ij^2
  Terms(const BarlowTwins& a, int side, double grad, const double* statistics, int64_t first, const A* squares) {
    const double* deviations = statistics + (side == 0 ? deviation_1 : deviation_2) * a.D + first;
    const double* correlation = statistics + BarlowTwinsStatistic::diagonal * a.D + first;
    const double scale = 2 * grad / static_cast<double>(a.N);
    product = static_cast<A>(a.lambd * scale);
    for (int64_t j = 0; j < kPanel; ++j) diagonal[j] = along[j] = deviation[j] = 0;
    for (int64_t j = 0; j < smaller(kPanel, a.D - first); ++j) {
      const double on = scale * (correlation[j] - 1 - a.lambd * correlation[j]);
      diagonal[j] = static_cast<A>(on);
      along[j] = static_cast<A>(a.lambd * scale * static_cast<double>(squares[j]) + on * correlation[j]);
      deviation[j] = static_cast<A>(deviations[j]);
    }
  }
};

// rows x 32 of the gradient, from panels [row][32].
template <class T>
void write_gradient(const BarlowTwins& a, const Terms<acc_t<T>>& terms, const acc_t<T>* __restrict__ product,
                    const acc_t<T>* __restrict__ own, const acc_t<T>* __restrict__ other, int64_t rows, int64_t column,
                    T* __restrict__ grad) {
  using A = acc_t<T>;
  const int64_t width = smaller(kPanel, a.D - column);
  for (int64_t n = 0; n < rows; ++n, product += kPanel, own += kPanel, other += kPanel) {
    A row[kPanel];
    for (int64_t j = 0; j < kPanel; ++j)
      row[j] = terms.deviation[j] *
               (terms.product * product[j] + (terms.diagonal[j] * other[j] - terms.along[j] * own[j]));
    T* out = grad + n * a.D + column;
    if (width == kPanel)
      for (int64_t j = 0; j < kPanel; ++j) out[j] = narrow<T>(row[j]);
    else
      for (int64_t j = 0; j < width; ++j) out[j] = narrow<T>(row[j]);
  }
}

// sums[j] = scale * sum over k of p[k][j] * q[k][j]
template <class A> void column_products(const A* p, const A* q, int64_t rows, A scale, A* sums) {
  Sums<A> products;
  for (int64_t k = 0; k < rows; ++k) products.add_product(p + k * kPanel, q + k * kPanel);
  products.store(sums);
  for (int64_t j = 0; j < kPanel; ++j) sums[j] *= scale;
}

// The rows of a panel lie whole rows of z apart, beyond the processor's own prefetching: they are asked for while a panel
// is multiplied and memory rests.
template <class T>
ASMA_INLINE void prefetch(const T* z, int64_t row, int64_t column, int64_t n, int64_t rows, int64_t first, int64_t end) {
  if (first >= end) return;
  for (int64_t last = n + rows; n < last; ++n) {
    __builtin_prefetch(z + n * row + first * column, 0, 2);
    __builtin_prefetch(z + n * row + (end - 1) * column, 0, 2);
  }
}

// N < D: all samples of a panel of columns are at hand, and the product is (other Gram matrix / N) * own.
template <class T>
void backward_columns(const BarlowTwins& a, double grad, const T* const (&z)[2], const double* statistics,
                      const acc_t<T>* const (&panels)[2], T* const (&grad_z)[2], int64_t begin, int64_t end) {
  using A = acc_t<T>;
  Scratch<A> first(a.N * kPanel), second(a.N * kPanel), product(a.N * kPanel);
  const A* const both[2] = {first.data, second.data};
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t column = panel * kPanel;
    standardise(a, 0, z[0], statistics, column, 0, a.N, first.data);
    standardise(a, 1, z[1], statistics, column, 0, a.N, second.data);
    for (int side = 0; side < 2; ++side) {
      for (int64_t k = 0; k < a.N; k += kCached)
        for (int64_t n = 0; n < a.N; n += kPanel) {
          const int64_t rows = smaller(kPanel, a.N - n);
          if (k == 0) {
            prefetch(grad_z[side], a.D, 1, n, rows, column, smaller(column + kPanel, a.D));
            prefetch(z[side], a.row[side], a.column[side], n, rows, column + kPanel, smaller(column + 2 * kPanel, a.D));
          }
          const Segment<A> segment{panels[side] + n * panels_of(a.N) * kPanel + k * kPanel, both[side] + k * kPanel};
          multiply(Product<A>{&segment, 1, smaller(kCached, a.N - k), 1, kPanel, kPanel, product.data + n * kPanel, kPanel,
                              k > 0},
                   rows, kPanel);
        }
      A squares[kPanel];
      column_products(product.data, both[side], a.N, A(1) / static_cast<A>(a.N), squares);
      write_gradient(a, Terms<A>(a, side, grad, statistics, column, squares), product.data, both[side], both[1 - side],
                     a.N, column, grad_z[side]);
    }
  }
}

// N >= D: all columns of a block of samples are at hand, and the product is other * c^T or other * c.
template <class T>
void backward_rows(const BarlowTwins& a, double grad, const T* const (&z)[2], const double* statistics,
                   const acc_t<T>* const (&panels)[2], T* const (&grad_z)[2], int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const int64_t count = panels_of(a.D), size = count * kPanel, block = kRows * kPanel;
  Scratch<A> first(count * block), second(count * block), product(block);
  Scratch<Segment<A>> segments(count);
  const A* const both[2] = {first.data, second.data};
  for (int64_t n = begin * kRows; n < smaller(end * kRows, a.N); n += kRows) {
    const int64_t rows = smaller(kRows, a.N - n);
    for (int64_t p = 0; p < count; ++p) {
      standardise(a, 0, z[0], statistics, p * kPanel, n, n + rows, first.data + p * block);
      standardise(a, 1, z[1], statistics, p * kPanel, n, n + rows, second.data + p * block);
    }
    for (int side = 0; side < 2; ++side)
      for (int64_t p = 0; p < count; ++p) {
        const A* matrix = panels[side] + p * size * kPanel;
        for (int64_t s = 0; s < count; ++s) segments[s] = {both[1 - side] + s * block, matrix + s * kPanel * kPanel};
        multiply(Product<A>{segments.data, count, kPanel, kPanel, 1, kPanel, product.data, kPanel, false}, rows, kPanel);
        A squares[kPanel];
        column_products(matrix, matrix, a.D, A(1), squares);
        write_gradient(a, Terms<A>(a, side, grad, statistics, p * kPanel, squares), product.data, both[side] + p * block,
                       both[1 - side] + p * block, rows, p * kPanel, grad_z[side] + n * a.D);
      }
  }
}

}  // namespace

template <class T>
void barlow_twins_statistics(const BarlowTwins& a, const T* z1, const T* z2, double* statistics, int64_t begin,
                             int64_t end) {
  for (int64_t column = begin * kPanel; column < smaller(end * kPanel, a.D); column += kPanel) {
    const T* const from[2] = {z1 + column * a.column[0], z2 + column * a.column[1]};
    const bool whole = a.column[0] == 1 && a.column[1] == 1 && column + kPanel <= a.D;
    if (whole) panel_statistics<true>(a, from, kPanel, statistics + column);
    else panel_statistics<false>(a, from, smaller(kPanel, a.D - column), statistics + column);
  }
}

template <class T>
void barlow_twins_pack_samples(const BarlowTwins& a, int side, const T* z, const double* statistics, int64_t first,
                               acc_t<T>* panels, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  for (int64_t column = begin; column < end; column += kPanel) {
    const Columns<A> columns(a, side, statistics, column);
    const int64_t width = smaller(kPanel, end - column);
    for (int64_t n = 0; n < a.N; n += kPanel) {
      A* __restrict__ panel = panels + n * kDepth + (column - first) * kPanel;
      const int64_t samples = smaller(kPanel, a.N - n);
      gather_transposed(z + n * a.row[side] + column * a.column[side], a.row[side], a.column[side], panel, kPanel, samples,
                        width);
      for (int64_t k = 0; k < width; ++k, panel += kPanel)
        for (int64_t i = 0; i < samples; ++i) panel[i] = (panel[i] - columns.mean[k]) * columns.scale[k] + columns.shift[k];
    }
  }
}

template <class T>
void barlow_twins_pack_columns(const BarlowTwins& a, int side, const T* z, const double* statistics, int64_t first,
                               int64_t last, acc_t<T>* panels, int64_t begin, int64_t end) {
  for (int64_t panel = begin; panel < end; ++panel)
    standardise(a, side, z, statistics, panel * kPanel, first, last, panels + panel * kDepth * kPanel);
}

template <class A> void barlow_twins_multiply(const PanelProduct<A>& p, int64_t begin, int64_t end) {
  const int64_t count = panels_of(p.size);
  int64_t tile = 0;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t tiles = p.symmetric ? j + 1 : count;
    for (int64_t i = 0; i < tiles; ++i, ++tile) {
      if (tile < begin || tile >= end) continue;
      for (int64_t k = 0; k < p.depth; k += kCached) {
        const Segment<A> segment{p.left + (i * p.rows + k) * kPanel, p.right + (j * p.rows + k) * kPanel};
        multiply(Product<A>{&segment, 1, smaller(kCached, p.depth - k), 1, kPanel, kPanel,
                            p.out + i * kPanel * p.size + j * kPanel, p.size, p.add || k > 0},
                 smaller(kPanel, p.size - i * kPanel), smaller(kPanel, p.size - j * kPanel));
      }
    }
  }
}

template <class A>
void barlow_twins_row_sums(const BarlowTwins& a, A* products, double* sums, int64_t begin, int64_t end) {
  if (a.N < a.D) {
    A* gram[2] = {products, products + a.N * a.N};
    for (int64_t i = begin; i < end; ++i) {
      for (A* matrix : gram)
        for (int64_t j = 0; j < i; ++j) matrix[i * a.N + j] = matrix[j * a.N + i];
      double sum = 0;
      for (int64_t j = 0; j < a.N; ++j)
        sum += static_cast<double>(gram[0][i * a.N + j]) * static_cast<double>(gram[1][i * a.N + j]);
      sums[i] = sum;
    }
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < a.D; ++j) {
      const double number = static_cast<double>(products[i * a.D + j]);
      sum += j == i ? 0 : number * number;
    }
    sums[i] = sum;
  }
}

template <class A>
void barlow_twins_pack_product(int64_t size, int64_t N, const A* product, bool transposed, A* panels, int64_t begin,
                               int64_t end) {
  const int64_t rows = panels_of(size) * kPanel;
  const A scale = A(1) / static_cast<A>(N);
  for (int64_t p = begin; p < end; ++p) {
    const int64_t first = p * kPanel, width = smaller(kPanel, size - first);
    A* panel = panels + first * rows;
    for (int64_t i = 0; i < rows * kPanel; ++i) panel[i] = 0;
    if (transposed)
      gather_transposed(product + first * size, size, 1, panel, kPanel, width, size);
    else
      for (int64_t k = 0; k < size; ++k)
        for (int64_t j = 0; j < width; ++j) panel[k * kPanel + j] = product[k * size + first + j];
    for (int64_t i = 0; i < size * kPanel; ++i) panel[i] *= scale;
  }
}

template <class T>
void barlow_twins_backward(const BarlowTwins& a, double grad, const T* z1, const T* z2, const double* statistics,
                           const acc_t<T>* panels_1, const acc_t<T>* panels_2, T* grad_z1, T* grad_z2, int64_t begin,
                           int64_t end) {
  const T* const z[2] = {z1, z2};
  const acc_t<T>* const panels[2] = {panels_1, panels_2};
  T* const grad_z[2] = {grad_z1, grad_z2};
  if (a.N < a.D) backward_columns<T>(a, grad, z, statistics, panels, grad_z, begin, end);
  else backward_rows<T>(a, grad, z, statistics, panels, grad_z, begin, end);
}

#define INSTANTIATE(T)                                                                                                  \
  template void barlow_twins_statistics<T>(const BarlowTwins&, const T*, const T*, double*, int64_t, int64_t);          \
  template void barlow_twins_pack_samples<T>(const BarlowTwins&, int, const T*, const double*, int64_t, acc_t<T>*,      \
                                             int64_t, int64_t);                                                         \
  template void barlow_twins_pack_columns<T>(const BarlowTwins&, int, const T*, const double*, int64_t, int64_t,        \
                                             acc_t<T>*, int64_t, int64_t);                                              \
  template void barlow_twins_backward<T>(const BarlowTwins&, double, const T*, const T*, const double*, const acc_t<T>*, \
                                         const acc_t<T>*, T*, T*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

#define INSTANTIATE_SUMS(A)                                                                                             \
  template void barlow_twins_multiply<A>(const PanelProduct<A>&, int64_t, int64_t);                                     \
  template void barlow_twins_row_sums<A>(const BarlowTwins&, A*, double*, int64_t, int64_t);                            \
  template void barlow_twins_pack_product<A>(int64_t, int64_t, const A*, bool, A*, int64_t, int64_t);
INSTANTIATE_SUMS(float)
INSTANTIATE_SUMS(double)

}  // namespace ASMA_ISA
}  // namespace asma
