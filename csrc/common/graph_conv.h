// What graph_conv's kernels share: its arguments.
#pragma once
#include <cstdint>

namespace asma {

// out[n, d, t, w] = sum over k, v, c of A[k, v, w] * weight[k, c, d] * x[n, c, t, v]  (+ bias)
// The features have J joints, a subset of the graph's V where joints are kept.
struct GraphConv {
  int64_t N, C, T, J;      // x (N, C, T, J)
  int64_t K, V, W, D;      // graph (K, V, W), output channels
  int64_t Q;               // joints of the output: W, or J where joints are kept
  int64_t sn, sc, st, sv;  // strides of x, in elements
  int64_t gn, gc, gt, gv;  // strides of the output's gradient (backward)
  int64_t E;               // numbers of the adjacency
  bool dense;              // values are (K, V, W), and the CUDA kernels take no edges; else (E)
  const int64_t* edges;    // (3, E): partition k, source v, target w of each
  bool subset;             // only some joints are kept:
  const int64_t* joints;   // (J) or (N, J), null where J = 0
  int64_t joints_row;      // numbers between two rows of joints; 0 where they are shared
  bool post;               // one bias a channel after the aggregation, else one a partition and channel before it
};

}  // namespace asma
