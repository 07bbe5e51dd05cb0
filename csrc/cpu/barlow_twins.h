#pragma once
#include <cstdint>

#include "../common/scalar.h"
#include "isa.h"

namespace asma {

struct BarlowTwins {
  int64_t N, D;
  int64_t row[2], column[2];  // strides of z1 and z2 (N, D), in elements
  double lambd, eps;
};

// Working matrices lie in panels of 32 columns, one panel after the other: panel[depth][32].
constexpr int64_t kPanel = 32;
// Rows of a panel that one step of the forward sums over; samples in one task of the backward with N >= D.
constexpr int64_t kDepth = 1024, kRows = 96;

// Rows of `statistics` (5, D): the mean and 1 / sqrt(variance + eps) of the columns of z1 and of z2; the diagonal of c.
enum BarlowTwinsStatistic { mean_1, inverse_1, mean_2, inverse_2, diagonal };

// One product of the forward: out (size, size) (+)= left^T right, panels of kDepth rows, of which `depth` count.
template <class A> struct PanelProduct {
  const A* left;
  const A* right;
  A* out;
  int64_t size, depth;
  bool symmetric;  // only the panels on and above the diagonal
  bool add;        // else out is overwritten
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // Columns of the panels [begin, end).
    template <class T> void barlow_twins_statistics(const ::asma::BarlowTwins& a, const T* z1, const T* z2,
                                                    double* statistics, int64_t begin, int64_t end);
    // N < D: panels [sample / 32][column - first][32] of one side's standardised z; columns [begin, end).
    template <class T> void barlow_twins_pack_samples(const ::asma::BarlowTwins& a, int side, const T* z,
                                                      const double* statistics, int64_t first, ::asma::acc_t<T>* panels,
                                                      int64_t begin, int64_t end);
    // N >= D: panels [column / 32][sample - first][32], samples [first, last); columns of the panels [begin, end).
    template <class T> void barlow_twins_pack_columns(const ::asma::BarlowTwins& a, int side, const T* z,
                                                      const double* statistics, int64_t first, int64_t last,
                                                      ::asma::acc_t<T>* panels, int64_t begin, int64_t end);
    // Tiles [begin, end) of 32 x 32, right panel by right panel.
    template <class A> void barlow_twins_multiply(const ::asma::PanelProduct<A>& p, int64_t begin, int64_t end);
    // Rows [begin, end) of the products (N times what the definition has), and their sums (size):
    // N < D: of N^2 c_ij^2 over all i, j, as the two Gram matrices (2, N, N) give it; their lower halves are filled in.
    // N >= D: of N^2 c_ij^2 over j != i, from c (1, D, D).
    template <class A> void barlow_twins_row_sums(const ::asma::BarlowTwins& a, A* products, double* sums,
                                                  int64_t begin, int64_t end);
    // panels[row][32] of a product (size, size) / N, or of its transpose, with zeros past it; panels [begin, end).
    template <class A> void barlow_twins_pack_product(int64_t size, int64_t N, const A* product, bool transposed,
                                                      A* panels, int64_t begin, int64_t end);
    // panels_1 and panels_2: what multiplies a side. N < D: its own z is multiplied by the other's Gram matrix, column
    // panels [begin, end). N >= D: the other's z by c transposed and by c, blocks [begin, end) of kRows samples.
    // grad_z1, grad_z2: contiguous (N, D).
    template <class T> void barlow_twins_backward(const ::asma::BarlowTwins& a, double grad, const T* z1, const T* z2,
                                                  const double* statistics, const ::asma::acc_t<T>* panels_1,
                                                  const ::asma::acc_t<T>* panels_2, T* grad_z1, T* grad_z2,
                                                  int64_t begin, int64_t end);)
