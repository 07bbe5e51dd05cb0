#pragma once
#include <cstdint>

#include "../common/scalar.h"
#include "isa.h"

namespace asma {

// out[n, k, d, t, w] = sum over v of A[n, k, d, t, v, w] * h[n, k, d, t, v], summed over k or not, h = weight x + bias;
// or, with post, the weight is applied to what A makes of x. Without a weight C = D, and x is h.
struct GraphConvDense {
  enum Plan { kAggregateFirst, kMultiplyFirst, kAggregateOnly };
  Plan plan;
  int64_t N, T, J, Q;                 // x (N, C, T, J), or without weight and post (N, K * C, T, J); out (N, ., T, Q)
  int64_t K, C, D, V, W;              // partitions, channels in and out of the weight, the graph's joints
  int64_t G;                          // entries of the adjacency's axis C: channel c has entry c % G
  int64_t ones;                       // 1 where the bias is the weight's column C, and x has a channel of ones there
  int64_t sn, sc, st, sv;             // strides of x, in elements
  int64_t gn, gc, gt, gv;             // strides of the output's gradient (backward)
  int64_t an, ak, ac, at, av, aw;     // strides of the adjacency, 0 where it is broadcast
  int64_t bn, bk, bc, bt;             // those of its gradient; v and w are contiguous
  bool wide;                          // the adjacency is in acc_t, else as x
  bool by_row, by_channel, by_frame;  // axes N, C, T that the adjacency has
  bool shared, keep;                  // every partition sees the same x; partitions are not summed
  bool subset;                        // only some joints are kept:
  const int64_t* joints;              // (J) or (N, J)
  int64_t joints_row;                 // numbers between two rows of joints; 0 where they are shared
  int64_t frames, channels;           // of a tile; channels of the aggregation
  const void* turned;                 // planes (W, V) in acc_t, in the order of the gradient's; or null
  int64_t tiles() const { return (T + frames - 1) / frames; }
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // weight (K, D, C + ones) and bias (K, D), (D) with post, or null; out contiguous. hidden: h (N, K * D, T, J),
    // where the weight comes first, or null. Tiles [begin, end) of the N * tiles() there are.
    template <class T> void graph_conv_dense(const ::asma::GraphConvDense& a, const T* x, const void* graph,
                                             const ::asma::acc_t<T>* weight, const ::asma::acc_t<T>* bias, T* out,
                                             T* hidden, int64_t begin, int64_t end);
    // Rows [begin, end). hidden as the forward left it: null, and h is computed again. grad_x contiguous or null.
    // grad_graph is overwritten where the adjacency has an axis N and no joint is left out, else added to; grad_weight,
    // (K, C + ones, D) or where the weight comes first (K, D, C), and grad_bias are added to; each may be null.
    template <class T>
    void graph_conv_dense_backward(const ::asma::GraphConvDense& a, const T* grad, const T* x, const void* graph,
                                   const ::asma::acc_t<T>* weight, const ::asma::acc_t<T>* bias, const T* hidden,
                                   T* grad_x, ::asma::acc_t<T>* grad_graph, ::asma::acc_t<T>* grad_weight,
                                   ::asma::acc_t<T>* grad_bias, int64_t begin, int64_t end);)
