#pragma once
#include <cstdint>

#include "../common/scalar.h"
#include "isa.h"

namespace asma {

// out[n, d, t, w] = sum over k, v, c of A[k, v, w] * weight[k, c, d] * x[n, c, t, v]  (+ bias)
// The adjacency comes as its E nonzeros; the features have J joints, a subset of the graph's V where `joints` is given.
struct GraphConv {
  int64_t N, C, T, J;      // x (N, C, T, J)
  int64_t K, V, W, D;      // graph (K, V, W), output channels
  int64_t Q;               // joints of the output: W, or J where joints are kept
  int64_t sn, sc, st, sv;  // strides of x, in elements
  int64_t gn, gc, gt, gv;  // strides of the output's gradient (backward)
  int64_t E;
  const int64_t* edges;   // (3, E): partition k, source v, target w of each nonzero
  bool subset;            // only some joints are kept:
  const int64_t* joints;  // (J) or (N, J), null where J = 0
  int64_t joints_row;     // numbers between two rows of joints; 0 where they are shared
  bool post;              // one bias a channel after the aggregation, else one a partition and channel before it
};

// Number of rows of partial sums in the backward: it depends on N alone, so that threads do not change a bit.
inline int64_t graph_conv_chunks(int64_t N) { return N < 16 ? N : 16; }

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // values (E); weight (K, C, D); bias (K, D), (D) with post, or null; out contiguous (N, D, T, Q). Rows [begin,
    // end).
    template <class T> void graph_conv(const ::asma::GraphConv& a, const T* x, const ::asma::acc_t<T>* values,
                                       const ::asma::acc_t<T>* weight, const ::asma::acc_t<T>* bias, T* out,
                                       int64_t begin, int64_t end);
    // weight_back (D, K, C). grad_x contiguous (N, C, T, J) or null. The sums over rows [begin, end) of this chunk are
    // added to grad_values (E), grad_weight (K, C, D) and grad_bias (K, D) or (D); each may be null.
    template <class T> void graph_conv_backward(const ::asma::GraphConv& a, const T* grad, const T* x,
                                                const ::asma::acc_t<T>* values, const ::asma::acc_t<T>* weight_back,
                                                const ::asma::acc_t<T>* bias, T* grad_x, ::asma::acc_t<T>* grad_values,
                                                ::asma::acc_t<T>* grad_weight, ::asma::acc_t<T>* grad_bias,
                                                int64_t begin, int64_t end);)
