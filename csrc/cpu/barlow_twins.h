#pragma once
#include <cstdint>

#include "../common/scalar.h"
#include "isa.h"

namespace asma {

struct BarlowTwins {
  int64_t N, D;
  int64_t row[2], column[2];  // strides of z1 and z2 (N, D), in elements
  double eps, lambd;
};

// Working matrices lie in panels of 32 columns, one panel after the other: panel[depth][32].
constexpr int64_t kPanel = 32;
// Rows of a panel that one step of the forward sums over; rows of the batch in one task of the backward, N >= D.
constexpr int64_t kDepth = 512, kRows = 96;

// Rows of `statistics` (5, D).
enum BarlowTwinsStatistic { mean_1, deviation_1, mean_2, deviation_2, diagonal };

// One product of the forward: out (size, size) (+)= left^T right, both in panels of `rows` rows, of which `depth` count.
template <class A> struct PanelProduct {
  const A* left;
  const A* right;
  A* out;
  int64_t size, rows, depth;
  bool symmetric;  // only the panels on and above the diagonal
  bool add;        // else out is overwritten
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // statistics (5, D): mean and inverse deviation of every column of z1 and of z2, and the diagonal of c. Column panels
    // [begin, end).
    template <class T> void barlow_twins_statistics(const ::asma::BarlowTwins& a, const T* z1, const T* z2,
                                                    double* statistics, int64_t begin, int64_t end);
    // N < D: panels [sample / 32][column - first][32] of the standardised z, kDepth rows each; columns [begin, end).
    template <class T> void barlow_twins_pack_samples(const ::asma::BarlowTwins& a, int side, const T* z,
                                                      const double* statistics, int64_t first, ::asma::acc_t<T>* panels,
                                                      int64_t begin, int64_t end);
    // N >= D: panels [column / 32][sample - first][32], kDepth rows each, samples [first, last); column panels [begin, end).
    template <class T> void barlow_twins_pack_columns(const ::asma::BarlowTwins& a, int side, const T* z,
                                                      const double* statistics, int64_t first, int64_t last,
                                                      ::asma::acc_t<T>* panels, int64_t begin, int64_t end);
    // Tiles [begin, end) of 32 x 32, right panel by right panel.
    template <class A> void barlow_twins_multiply(const ::asma::PanelProduct<A>& p, int64_t begin, int64_t end);
    // sums (size), rows [begin, end) of products: N < D: N^2 sum_ij c_ij^2, row by row of the two Gram matrices (2, N, N),
    // whose lower halves are filled in; N >= D: N^2 sum over j != i of c_ij^2, c (1, D, D).
    template <class A> void barlow_twins_row_sums(const ::asma::BarlowTwins& a, A* products, double* sums, int64_t begin,
                                                  int64_t end);
    // panels[k][lane] of product (size, size) / N, or of its transpose, zeros where the panels stand out; panels [begin, end).
    template <class A> void barlow_twins_pack_product(int64_t size, int64_t N, const A* product, bool transposed, A* panels,
                                                      int64_t begin, int64_t end);
    // panels: per side, what multiplies it: N < D: the other side's Gram matrix; N >= D: c transposed, c. grad_z contiguous
    // (N, D). N < D: column panels [begin, end); N >= D: blocks of kRows rows [begin, end).
    template <class T> void barlow_twins_backward(const ::asma::BarlowTwins& a, double grad, const T* z1, const T* z2,
                                                  const double* statistics, const ::asma::acc_t<T>* panels_1,
                                                  const ::asma::acc_t<T>* panels_2, T* grad_z1, T* grad_z2,
                                                  int64_t begin, int64_t end);)
