#include "../barlow_twins.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "common.h"

namespace asma::bind {
namespace {

constexpr const char* kOp = "barlow_twins";

BarlowTwins arguments(const Tensor& z1, const Tensor& z2, double lambd, double eps) {
  check_dim(kOp, "z1 (N, D)", z1, 2);
  check_dim(kOp, "z2 (N, D)", z2, 2);
  const int64_t N = z1.size(0), D = z1.size(1);
  STD_TORCH_CHECK(z2.size(0) == N && z2.size(1) == D, kOp, ": z1 and z2 must have one shape, got (", N, ", ", D,
                  ") and (", z2.size(0), ", ", z2.size(1), ")");
  STD_TORCH_CHECK(z1.scalar_type() == z2.scalar_type(), kOp, ": z1 and z2 must have one dtype");
  STD_TORCH_CHECK(N > 0, kOp, ": N must be > 0, got 0");
  STD_TORCH_CHECK(eps > 0, kOp, ": eps must be > 0, got ", eps);
  return {N, D, {z1.stride(0), z2.stride(0)}, {z1.stride(1), z2.stride(1)}, lambd, eps};
}

ScalarType sums_dtype(const Tensor& z) {
  return z.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

int64_t panels_of(int64_t size) { return (size + kPanel - 1) / kPanel; }

// Tiles of all products are shared out together.
template <class A> void multiply(const std::vector<PanelProduct<A>>& products) {
  const auto kernel = ASMA_PICK(barlow_twins_multiply<A>);
  const PanelProduct<A>& any = products[0];
  const int64_t count = panels_of(any.size), tiles = any.symmetric ? count * (count + 1) / 2 : count * count;
  const int64_t all = tiles * static_cast<int64_t>(products.size());
  torch::stable::parallel_for(0, all, grain(any.depth * kPanel * kPanel / 16), [&](int64_t begin, int64_t end) {
    for (const PanelProduct<A>& product : products) {
      kernel(product, begin, end);
      begin -= tiles;
      end -= tiles;
    }
  });
}

// N < D: the Gram matrices, in steps of kDepth columns; the statistics come from the same visit to them.
template <class T>
void gram_matrices(const BarlowTwins& a, const Tensor& z1, const Tensor& z2, double* statistics, Tensor& work,
                   acc_t<T>* out) {
  using A = acc_t<T>;
  const auto statistics_of = ASMA_PICK(barlow_twins_statistics<T>);
  const auto pack = ASMA_PICK(barlow_twins_pack_samples<T>);
  A* panels[2] = {mutable_data<A>(work), mutable_data<A>(work) + panels_of(a.N) * kPanel * kDepth};
  for (int64_t first = 0; first < a.D; first += kDepth) {
    const int64_t last = std::min(first + kDepth, a.D);
    const auto prepare = [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t from = panel * kPanel, to = std::min(from + kPanel, a.D);
        statistics_of(a, data<T>(z1), data<T>(z2), statistics, panel, panel + 1);
        pack(a, 0, data<T>(z1), statistics, first, panels[0], from, to);
        pack(a, 1, data<T>(z2), statistics, first, panels[1], from, to);
      }
    };
    torch::stable::parallel_for(first / kPanel, panels_of(last), grain(8 * a.N * kPanel), prepare);
    multiply<A>({{panels[0], panels[0], out, a.N, last - first, true, first > 0},
                 {panels[1], panels[1], out + a.N * a.N, a.N, last - first, true, first > 0}});
  }
}

// N >= D: N c, in steps of kDepth samples.
template <class T>
void correlation(const BarlowTwins& a, const Tensor& z1, const Tensor& z2, double* statistics, Tensor& work,
                 acc_t<T>* out) {
  using A = acc_t<T>;
  const auto statistics_of = ASMA_PICK(barlow_twins_statistics<T>);
  const auto pack = ASMA_PICK(barlow_twins_pack_columns<T>);
  A* panels[2] = {mutable_data<A>(work), mutable_data<A>(work) + panels_of(a.D) * kPanel * kDepth};
  torch::stable::parallel_for(0, panels_of(a.D), grain(8 * a.N * kPanel), [&](int64_t begin, int64_t end) {
    statistics_of(a, data<T>(z1), data<T>(z2), statistics, begin, end);
  });
  for (int64_t first = 0; first < a.N; first += kDepth) {
    const int64_t last = std::min(first + kDepth, a.N);
    torch::stable::parallel_for(0, panels_of(a.D), grain(2 * (last - first) * kPanel), [&](int64_t begin, int64_t end) {
      pack(a, 0, data<T>(z1), statistics, first, last, panels[0], begin, end);
      pack(a, 1, data<T>(z2), statistics, first, last, panels[1], begin, end);
    });
    multiply<A>({{panels[0], panels[1], out, a.D, last - first, false, first > 0}});
  }
}

// sums: N^2 times the sum of c_ij^2, over all i and j (N < D) or over i != j (N >= D). With N < D the diagonal is taken
// out in double, so that nothing is lost beside the rounding of the Gram matrices: a few 1e-8 of lambd * sum c_ij^2.
double loss_of(const BarlowTwins& a, const double* statistics, const double* sums) {
  double on = 0, off = 0, diagonal_squares = 0;
  for (int64_t i = 0; i < a.D; ++i) {
    const double c = statistics[BarlowTwinsStatistic::diagonal * a.D + i];
    on += (c - 1) * (c - 1);
    diagonal_squares += c * c;
  }
  for (int64_t i = 0; i < std::min(a.N, a.D); ++i) off += sums[i];
  off /= static_cast<double>(a.N) * static_cast<double>(a.N);
  return on + a.lambd * (a.N < a.D ? off - diagonal_squares : off);
}

std::tuple<Tensor, Tensor, Tensor> barlow_twins(const Tensor& z1, const Tensor& z2, double lambd, double eps) {
  const BarlowTwins a = arguments(z1, z2, lambd, eps);
  const bool gram = a.N < a.D;
  const int64_t size = std::min(a.N, a.D);
  const ScalarType dtype = sums_dtype(z1);
  Tensor loss = empty_on(z1, {}, dtype);
  Tensor statistics = empty_on(z1, {5, a.D}, ScalarType::Double);
  Tensor products = empty_on(z1, {gram ? 2 : 1, size, size}, dtype);
  Tensor work = empty_on(z1, {2, panels_of(size), kDepth, kPanel}, dtype);
  Tensor sums = empty_on(z1, {size}, ScalarType::Double);
  visit_float(kOp, z1.scalar_type(), [&]<class T>(T) {
    using A = acc_t<T>;
    double* numbers = mutable_data<double>(statistics);
    A* out = mutable_data<A>(products);
    if (gram) gram_matrices<T>(a, z1, z2, numbers, work, out);
    else correlation<T>(a, z1, z2, numbers, work, out);
    const auto row_sums = ASMA_PICK(barlow_twins_row_sums<A>);
    torch::stable::parallel_for(0, size, grain(size), [&](int64_t begin, int64_t end) {
      row_sums(a, out, mutable_data<double>(sums), begin, end);
    });
    *mutable_data<A>(loss) = static_cast<A>(loss_of(a, numbers, data<double>(sums)));
  });
  return {loss, statistics, products};
}

std::tuple<Tensor, Tensor> barlow_twins_backward(const Tensor& grad, const Tensor& z1, const Tensor& z2,
                                                 const Tensor& statistics, const Tensor& products, double lambd,
                                                 double eps) {
  const BarlowTwins a = arguments(z1, z2, lambd, eps);
  const bool gram = a.N < a.D;
  const int64_t size = std::min(a.N, a.D), count = panels_of(size);
  const ScalarType dtype = sums_dtype(z1);
  STD_TORCH_CHECK(grad.dim() == 0 && grad.scalar_type() == dtype, kOp, ": grad must be a number of the loss's dtype");
  check_dtype(kOp, "statistics", statistics, ScalarType::Double, "float64");
  check_contiguous(kOp, "statistics", statistics);
  STD_TORCH_CHECK(statistics.dim() == 2 && statistics.size(0) == 5 && statistics.size(1) == a.D, kOp,
                  ": statistics must be (5, D)");
  STD_TORCH_CHECK(products.scalar_type() == dtype, kOp, ": products must have the loss's dtype");
  check_contiguous(kOp, "products", products);
  STD_TORCH_CHECK(
      products.dim() == 3 && products.size(0) == (gram ? 2 : 1) && products.size(1) == size && products.size(2) == size,
      kOp, ": products must be (2, N, N) with N < D, else (1, D, D)");
  Tensor grad_z1 = empty_on(z1, {a.N, a.D}), grad_z2 = empty_on(z1, {a.N, a.D});
  Tensor work = empty_on(z1, {2, count, count * kPanel, kPanel}, dtype);
  visit_float(kOp, z1.scalar_type(), [&]<class T>(T) {
    using A = acc_t<T>;
    const double scale = static_cast<double>(*data<A>(grad));
    A* panels[2] = {mutable_data<A>(work), mutable_data<A>(work) + count * kPanel * count * kPanel};
    const auto pack = ASMA_PICK(barlow_twins_pack_product<A>);
    for (int side = 0; side < 2; ++side) {
      const A* product = data<A>(products) + (gram ? (1 - side) * size * size : 0);
      torch::stable::parallel_for(0, count, grain(size * kPanel), [&](int64_t begin, int64_t end) {
        pack(size, a.N, product, !gram && side == 0, panels[side], begin, end);
      });
    }
    const int64_t tasks = gram ? panels_of(a.D) : (a.N + kRows - 1) / kRows;
    const auto kernel = ASMA_PICK(barlow_twins_backward<T>);
    torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      kernel(a, scale, data<T>(z1), data<T>(z2), data<double>(statistics), panels[0], panels[1],
             mutable_data<T>(grad_z1), mutable_data<T>(grad_z2), begin, end);
    });
  });
  return {grad_z1, grad_z2};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("barlow_twins", TORCH_BOX(&asma::bind::barlow_twins));
  m.impl("barlow_twins_backward", TORCH_BOX(&asma::bind::barlow_twins_backward));
}
