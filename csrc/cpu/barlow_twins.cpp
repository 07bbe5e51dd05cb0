// c is D x D, but with N < D all that the loss and its gradient need of it is its diagonal and, with the standardised
// Z1 and Z2, the two N x N Gram matrices: sum_ij c_ij^2 = <Z1 Z1^T, Z2 Z2^T> / N^2, and its gradient in Z1 is
// 2 (Z2 Z2^T) Z1 / N^2. The standardised numbers are made afresh where they are used, in panels that stay in cache.
#include "barlow_twins.h"

#include "gemm.h"
#include "scratch.h"
#include "standardise.h"
#include "transpose.h"

namespace asma {
namespace ASMA_ISA {
namespace {

static_assert(kPanel == kPanelWidth);

constexpr int64_t kCached = 128;  // rows of two panels that the first cache holds

ASMA_INLINE int64_t smaller(int64_t p, int64_t q) { return p < q ? p : q; }
ASMA_INLINE int64_t panels_of(int64_t size) { return (size + kPanel - 1) / kPanel; }

template <class T> ASMA_INLINE Samples<T> samples(const BarlowTwins& a, int side, const T* z) {
  return {z, a.row[side], a.column[side], a.N, a.D};
}
ASMA_INLINE const double* means(const BarlowTwins& a, int side, const double* statistics) {
  return statistics + (side == 0 ? mean_1 : mean_2) * a.D;
}
ASMA_INLINE const double* inverses(const BarlowTwins& a, int side, const double* statistics) {
  return statistics + (side == 0 ? inverse_1 : inverse_2) * a.D;
}

template <class A>
ASMA_INLINE void add_row(const A* __restrict__ from, int64_t width, bool add, A* __restrict__ to) {
  if (add)
    for (int64_t j = 0; j < width; ++j) to[j] += from[j];
  else
    for (int64_t j = 0; j < width; ++j) to[j] = from[j];
}

// The gradient of one side, by columns: inverse * (product * P + on * other - along * own), with `product` 2 lambd / N
// times the matrix product and `on` from the diagonal of c. The last term is the gradient through the standardisation;
// its other half, the mean of the first two, is 0 because the columns of both sides have mean 0.
template <class A> struct Terms {
  A product, on[kPanel], along[kPanel], inverse[kPanel];

  // squares: for each column the sum of its c_ij^2
  Terms(const BarlowTwins& a, int side, double grad, const double* statistics, int64_t d, const double* squares) {
    const double scale = 2 * grad / static_cast<double>(a.N), off = a.lambd * scale;
    const double* c = statistics + BarlowTwinsStatistic::diagonal * a.D + d;
    const int64_t width = smaller(kPanel, a.D - d);
    product = static_cast<A>(off);
    for (int64_t j = 0; j < kPanel; ++j) {
      const double weight = j < width ? scale * (c[j] - 1) - off * c[j] : 0;
      on[j] = static_cast<A>(weight);
      along[j] = j < width ? static_cast<A>(off * squares[j] + weight * c[j]) : A(0);
      inverse[j] = j < width ? static_cast<A>(inverses(a, side, statistics)[d + j]) : A(0);
    }
  }
};

// rows x 32 numbers of the gradient, from panels [row][32]; grad at the first of them.
template <class T>
void write_gradient(const BarlowTwins& a, const Terms<acc_t<T>>& terms, const acc_t<T>* __restrict__ product,
                    const acc_t<T>* __restrict__ own, const acc_t<T>* __restrict__ other, int64_t rows, int64_t width,
                    T* __restrict__ grad) {
  for (int64_t n = 0; n < rows; ++n, product += kPanel, own += kPanel, other += kPanel, grad += a.D) {
    acc_t<T> row[kPanel];
    for (int64_t j = 0; j < kPanel; ++j)
      row[j] = terms.inverse[j] * (terms.product * product[j] + (terms.on[j] * other[j] - terms.along[j] * own[j]));
    if (width == kPanel)
      for (int64_t j = 0; j < kPanel; ++j) grad[j] = narrow<T>(row[j]);
    else
      for (int64_t j = 0; j < width; ++j) grad[j] = narrow<T>(row[j]);
  }
}

// The rows of a panel lie whole rows of z apart, beyond the processor's own prefetching: they are asked for while the
// panel before is multiplied and memory rests.
template <class T> ASMA_INLINE void prefetch(const Samples<T>& z, int64_t d, int64_t first, int64_t last) {
  if (d >= z.D) return;
  const int64_t end = d + z.width(d) - 1;
  for (int64_t n = first; n < last; ++n) {
    __builtin_prefetch(z.at(n, d), 0, 2);
    __builtin_prefetch(z.at(n, end), 0, 2);
  }
}

// N < D: a task has all samples of a panel of columns.
template <class T>
void backward_columns(const BarlowTwins& a, double grad, const T* const (&z)[2], const double* statistics,
                      const acc_t<T>* const (&panels)[2], T* const (&grad_z)[2], int64_t begin, int64_t end) {
  using A = acc_t<T>;
  Scratch<A> first(a.N * kPanel), second(a.N * kPanel), product(a.N * kPanel);
  A* const both[2] = {first.data, second.data};
  const int64_t matrix_rows = panels_of(a.N) * kPanel;
  for (int64_t d = begin * kPanel; d < smaller(end * kPanel, a.D); d += kPanel) {
    for (int side = 0; side < 2; ++side)
      standardise(samples(a, side, z[side]), means(a, side, statistics), inverses(a, side, statistics), d, 0, a.N,
                  both[side]);
    for (int side = 0; side < 2; ++side) {
      for (int64_t k = 0; k < a.N; k += kCached)
        for (int64_t n = 0; n < a.N; n += kPanel) {
          const int64_t rows = smaller(kPanel, a.N - n), depth = smaller(kCached, a.N - k);
          if (k == 0) {
            prefetch(samples(a, side, z[side]), d + kPanel, n, n + rows);
            prefetch(Samples<T>{grad_z[side], a.D, 1, a.N, a.D}, d, n, n + rows);
          }
          const Segment<A> segment{panels[side] + n * matrix_rows + k * kPanel, both[side] + k * kPanel};
          A* const to = product.data + n * kPanel;
          multiply(Product<A>{&segment, 1, depth, 1, kPanel, kPanel, to, kPanel, k > 0}, rows, kPanel);
        }
      double squares[kPanel];  // mean over n of own * product
      column_products(product.data, both[side], a.N, squares);
      for (double& square : squares) square /= static_cast<double>(a.N);
      write_gradient(a, Terms<A>(a, side, grad, statistics, d, squares), product.data, both[side], both[1 - side], a.N,
                     smaller(kPanel, a.D - d), grad_z[side] + d);
    }
  }
}

// N >= D: a task has all columns of a block of samples.
template <class T>
void backward_rows(const BarlowTwins& a, double grad, const T* const (&z)[2], const double* statistics,
                   const acc_t<T>* const (&panels)[2], T* const (&grad_z)[2], int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const int64_t count = panels_of(a.D), block = kRows * kPanel, matrix_rows = count * kPanel;
  Scratch<A> first(count * block), second(count * block), product(block);
  Scratch<Segment<A>> segments(count);
  A* const both[2] = {first.data, second.data};
  for (int64_t n = begin * kRows; n < smaller(end * kRows, a.N); n += kRows) {
    const int64_t rows = smaller(kRows, a.N - n);
    for (int side = 0; side < 2; ++side)
      for (int64_t p = 0; p < count; ++p)
        standardise(samples(a, side, z[side]), means(a, side, statistics), inverses(a, side, statistics), p * kPanel, n,
                    n + rows, both[side] + p * block);
    for (int side = 0; side < 2; ++side)
      for (int64_t p = 0; p < count; ++p) {
        const A* const matrix = panels[side] + p * matrix_rows * kPanel;
        for (int64_t s = 0; s < count; ++s) segments[s] = {both[1 - side] + s * block, matrix + s * kPanel * kPanel};
        const Product<A> over_columns{segments.data, count, kPanel, kPanel, 1, kPanel, product.data, kPanel, false};
        multiply(over_columns, rows, kPanel);
        double squares[kPanel];
        column_products(matrix, matrix, a.D, squares);
        const int64_t d = p * kPanel;
        write_gradient(a, Terms<A>(a, side, grad, statistics, d, squares), product.data, both[side] + p * block,
                       both[1 - side] + p * block, rows, smaller(kPanel, a.D - d), grad_z[side] + n * a.D + d);
      }
  }
}

}  // namespace

template <class T>
void barlow_twins_statistics(const BarlowTwins& a, const T* z1, const T* z2, double* statistics, int64_t begin,
                             int64_t end) {
  const Samples<T> one = samples(a, 0, z1), two = samples(a, 1, z2);
  for (int64_t d = begin * kPanel; d < smaller(end * kPanel, a.D); d += kPanel) {
    PairStatistics s;
    if (one.whole(d) && two.whole(d)) pair_statistics<true>(one, two, d, s);
    else pair_statistics<false>(one, two, d, s);
    double* to = statistics + d;
    for (int64_t j = 0; j < one.width(d); ++j, ++to) {
      const double inverse1 = 1 / __builtin_sqrt(s.variance[0][j] + a.eps);
      const double inverse2 = 1 / __builtin_sqrt(s.variance[1][j] + a.eps);
      to[mean_1 * a.D] = s.mean[0][j];
      to[inverse_1 * a.D] = inverse1;
      to[mean_2 * a.D] = s.mean[1][j];
      to[inverse_2 * a.D] = inverse2;
      to[diagonal * a.D] = s.covariance[j] * inverse1 * inverse2;
    }
  }
}

template <class T>
void barlow_twins_pack_samples(const BarlowTwins& a, int side, const T* z, const double* statistics, int64_t first,
                               acc_t<T>* panels, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const Samples<T> from = samples(a, side, z);
  for (int64_t d = begin; d < end; d += kPanel) {
    const int64_t width = smaller(kPanel, end - d);
    const Standardised<A> standardised(means(a, side, statistics) + d, inverses(a, side, statistics) + d, width);
    for (int64_t n = 0; n < a.N; n += kPanel) {
      A* __restrict__ panel = panels + n * kDepth + (d - first) * kPanel;
      const int64_t lanes = smaller(kPanel, a.N - n);
      gather_transposed(from.at(n, d), from.row, from.column, panel, kPanel, lanes, width);
      for (int64_t j = 0; j < width; ++j, panel += kPanel)
        for (int64_t i = 0; i < lanes; ++i) panel[i] = standardised(panel[i], j);
    }
  }
}

template <class T>
void barlow_twins_pack_columns(const BarlowTwins& a, int side, const T* z, const double* statistics, int64_t first,
                               int64_t last, acc_t<T>* panels, int64_t begin, int64_t end) {
  for (int64_t panel = begin; panel < end; ++panel)
    standardise(samples(a, side, z), means(a, side, statistics), inverses(a, side, statistics), panel * kPanel, first,
                last, panels + panel * kDepth * kPanel);
}

template <class A> void barlow_twins_multiply(const PanelProduct<A>& p, int64_t begin, int64_t end) {
  const int64_t count = panels_of(p.size);
  Scratch<A> part(kPanel * kPanel);
  int64_t tile = 0;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t tiles = p.symmetric ? j + 1 : count, width = smaller(kPanel, p.size - j * kPanel);
    for (int64_t i = 0; i < tiles; ++i, ++tile) {
      if (tile < begin || tile >= end) continue;
      const int64_t rows = smaller(kPanel, p.size - i * kPanel);
      // Each part is summed by itself and then added: rounding grows with the longest chain of additions, and the
      // gradient takes differences of these sums.
      for (int64_t k = 0; k < p.depth; k += kCached) {
        const int64_t depth = smaller(kCached, p.depth - k);
        const Segment<A> segment{p.left + (i * kDepth + k) * kPanel, p.right + (j * kDepth + k) * kPanel};
        multiply(Product<A>{&segment, 1, depth, 1, kPanel, kPanel, part.data, kPanel, false}, rows, width);
        for (int64_t m = 0; m < rows; ++m)
          add_row(part.data + m * kPanel, width, p.add || k > 0, p.out + (i * kPanel + m) * p.size + j * kPanel);
      }
    }
  }
}

template <class A>
void barlow_twins_row_sums(const BarlowTwins& a, A* products, double* sums, int64_t begin, int64_t end) {
  if (a.N < a.D) {
    A* const gram[2] = {products, products + a.N * a.N};
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
    if (transposed) gather_transposed(product + first * size, size, 1, panel, kPanel, width, size);
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

#define INSTANTIATE(T)                                                                                             \
  template void barlow_twins_statistics<T>(const BarlowTwins&, const T*, const T*, double*, int64_t, int64_t);     \
  template void barlow_twins_pack_samples<T>(const BarlowTwins&, int, const T*, const double*, int64_t, acc_t<T>*, \
                                             int64_t, int64_t);                                                    \
  template void barlow_twins_pack_columns<T>(const BarlowTwins&, int, const T*, const double*, int64_t, int64_t,   \
                                             acc_t<T>*, int64_t, int64_t);                                         \
  template void barlow_twins_backward<T>(const BarlowTwins&, double, const T*, const T*, const double*,            \
                                         const acc_t<T>*, const acc_t<T>*, T*, T*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

#define INSTANTIATE_PRODUCTS(A)                                                              \
  template void barlow_twins_multiply<A>(const PanelProduct<A>&, int64_t, int64_t);          \
  template void barlow_twins_row_sums<A>(const BarlowTwins&, A*, double*, int64_t, int64_t); \
  template void barlow_twins_pack_product<A>(int64_t, int64_t, const A*, bool, A*, int64_t, int64_t);
INSTANTIATE_PRODUCTS(float)
INSTANTIATE_PRODUCTS(double)

}  // namespace ASMA_ISA
}  // namespace asma
