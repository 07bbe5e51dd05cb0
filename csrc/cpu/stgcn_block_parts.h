// What the forward and the backward of a block share: the norms and the rectifier on vectors, groups of clips, and what
// the convolution over frames reads.
#pragma once
#include "channel_rows.h"
#include "graph_conv_tile.h"
#include "stgcn_block.h"

namespace asma {
namespace ASMA_ISA {
namespace {

template <int L, class A> ASMA_INLINE lanes_t<A, L> normed(const BlockNorm<A>& norm, lanes_t<A, L> y, int64_t d) {
  return (y - load<L>(norm.mean + d)) * load<L>(norm.scale + d) + load<L>(norm.bias + d);
}
template <int L, class A> ASMA_INLINE lanes_t<A, L> standardised(const BlockNorm<A>& norm, lanes_t<A, L> y, int64_t d) {
  return (y - load<L>(norm.mean + d)) * load<L>(norm.inverse + d);
}
template <int L, class A>
ASMA_INLINE lanes_t<A, L> norm_gradient(const BlockNorm<A>& norm, lanes_t<A, L> grad, lanes_t<A, L> y, int64_t d) {
  return load<L>(norm.scale + d) * grad - load<L>(norm.offset + d) -
         (y - load<L>(norm.mean + d)) * load<L>(norm.slope + d);
}
template <int L, class A> ASMA_INLINE lanes_t<A, L> where_positive(lanes_t<A, L> sign, lanes_t<A, L> numbers) {
  return sign > A(0) ? numbers : lanes_t<A, L>{};
}
// NaN stays NaN, as in PyTorch's.
template <int L, class A> ASMA_INLINE lanes_t<A, L> relu(lanes_t<A, L> numbers) {
  return numbers < A(0) ? lanes_t<A, L>{} : numbers;
}

// Clips that the graph convolution takes together: they share a graph, and their frames are one axis.
inline int64_t group_size(const STGCNBlock& a) { return a.graph.joints_row != 0 || a.group < 1 ? 1 : a.group; }

template <class T>
void load_group(const STGCNBlock& a, const T* x, int64_t n, int64_t clips, acc_t<T>* tile) {
  const GraphConv& g = a.graph;
  const int64_t F = clips * g.T;
  for (int64_t clip = 0; clip < clips; ++clip)
    for (int64_t t = 0; t < g.T; ++t)
      gather_transposed(x + (n + clip) * g.sn + t * g.st, g.sc, g.sv, tile + (clip * g.T + t) * g.C, F * g.C, g.C, g.J);
}

// What reaches one target by one partition, from a group's tile [joint][frame][channel].
template <class A> struct Incoming {
  const Edges& edges;
  const A *values, *tile;
  const int64_t block, first, last;
  const A first_value;
  const A* const first_from;

  Incoming(const Edges& edges_, const A* values_, const A* tile_, int64_t block_, int64_t target, int64_t k)
      : edges(edges_),
        values(values_),
        tile(tile_),
        block(block_),
        first(edges.first(target, k)),
        last(edges.last(target, k)),
        first_value(any() ? values[edges.number[first]] : A(0)),
        first_from(any() ? tile + edges.source[first] * block : nullptr) {}
  bool any() const { return first < last; }
  // Numbers i of the block.
  template <int L> ASMA_INLINE lanes_t<A, L> sum(int64_t i) const {
    lanes_t<A, L> sum = first_value * load<L>(first_from + i);
    for (int64_t e = first + 1; e < last; ++e)
      sum += values[edges.number[e]] * load<L>(tile + edges.source[e] * block + i);
    return sum;
  }
};

// Calls body with a P of what the products multiply.
template <class T, class Body> ASMA_INLINE void visit_operands(bool pairs, const Body& body) {
  if constexpr (kHasPairs<T>)
    if (pairs) return body(Pair{});
  body(acc_t<T>{});
}

// The convolution's input: norm 1 and relu of a clip's y1.
template <class T, class Conv>
void load_normed(const STGCNBlock& a, const BlockNorm<acc_t<T>>& norm1, const T* y1, Conv& conv) {
  using A = acc_t<T>;
  const int64_t Q = a.graph.Q, D = a.graph.D;
  for (int64_t t = 0; t < a.graph.T; ++t)
    for (int64_t row = 0; row < Q; ++row) {
      const T* from = y1 + (t * Q + row) * D;
      A* to = conv.frame(t) + row * D;
      for_lanes<kLanes<T>>(
          D, [&]<int L>(int64_t d) { store<L>(to + d, relu<L, A>(normed<L>(norm1, load<L>(from + d), d))); });
    }
}

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
