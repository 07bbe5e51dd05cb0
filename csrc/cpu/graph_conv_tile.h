// The steps of graph_conv by its nonzeros on one tile: some frames of the batch, channels contiguous.
#pragma once
#include "../common/graph_conv.h"
#include "gemm.h"
#include "scratch.h"
#include "transpose.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// The nonzeros of one row of the batch, sorted by target and partition.
struct Edges {
  Scratch<int64_t> start;     // (Q * K + 1): first edge of a target and partition
  Scratch<int64_t> source;    // position in x
  Scratch<int64_t> number;    // place in values
  Scratch<int64_t> position;  // of each of the graph's joints in the row, or -1
  int64_t K, Q;

  explicit Edges(const GraphConv& a) : start(a.Q * a.K + 2), source(a.E), number(a.E), position(a.V), K(a.K), Q(a.Q) {}

  void build(const GraphConv& a, int64_t row) {
    if (a.subset) {
      const int64_t* kept = a.joints + row * a.joints_row;
      for (int64_t v = 0; v < a.V; ++v) position[v] = -1;
      for (int64_t j = 0; j < a.J; ++j) position[kept[j]] = j;
    }
    const int64_t cells = Q * K;
    for (int64_t i = 0; i < cells + 2; ++i) start[i] = 0;
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t e = 0; e < a.E; ++e) {
        const int64_t k = a.edges[e], v = a.edges[a.E + e], w = a.edges[2 * a.E + e];
        const int64_t from = a.subset ? position[v] : v, to = a.subset ? position[w] : w;
        if (from < 0 || to < 0) continue;
        const int64_t cell = to * K + k;
        if (pass == 0) {
          ++start[cell + 2];
        } else {
          const int64_t place = start[cell + 1]++;
          source[place] = from;
          number[place] = e;
        }
      }
      if (pass == 0)
        for (int64_t i = 2; i < cells + 2; ++i) start[i] += start[i - 1];
    }
  }
  int64_t first(int64_t target, int64_t k) const { return start[target * K + k]; }
  int64_t last(int64_t target, int64_t k) const { return start[target * K + k + 1]; }
};

// to (+)= scale * from
template <class A>
ASMA_INLINE void scaled(A* __restrict__ to, const A* __restrict__ from, A scale, int64_t size, bool add) {
  if (add)
    for (int64_t i = 0; i < size; ++i) to[i] += scale * from[i];
  else
    for (int64_t i = 0; i < size; ++i) to[i] = scale * from[i];
}

template <class A> ASMA_INLINE A dot(const A* __restrict__ p, const A* __restrict__ q, int64_t size) {
  constexpr int L = 16;
  A lanes[L] = {};
  int64_t i = 0;
  for (; i + L <= size; i += L)
    for (int lane = 0; lane < L; ++lane) lanes[lane] += p[i + lane] * q[i + lane];
  A sum = 0;
  for (; i < size; ++i) sum += p[i] * q[i];
  for (int lane = 0; lane < L; ++lane) sum += lanes[lane];
  return sum;
}

// aggregated [k][frame][channel] of one target; false where no edge of the partition reaches it.
template <class A>
ASMA_INLINE bool aggregate(Edges& edges, const A* values, const A* tile, int64_t target, int64_t k, int64_t block,
                           A* to) {
  const int64_t first = edges.first(target, k), last = edges.last(target, k);
  for (int64_t e = first; e < last; ++e)
    scaled(to, tile + edges.source[e] * block, values[edges.number[e]], block, e > first);
  return first < last;
}

// tile[joint][frame][channel] from a strided (channel, frame, joint) tensor.
template <class T>
void load_tile(const T* from, int64_t sc, int64_t st, int64_t sv, int64_t channels, int64_t frames, int64_t joints,
               acc_t<T>* tile) {
  for (int64_t t = 0; t < frames; ++t)
    gather_transposed(from + t * st, sc, sv, tile + t * channels, frames * channels, channels, joints);
}

// to(channel, frame, joint) = tile[joint][frame][channel] (+ plus[channel][joint]); to has T frames a channel.
template <class T>
void store_tile(const acc_t<T>* tile, const acc_t<T>* plus, int64_t channels, int64_t frames, int64_t joints,
                int64_t T_all, T* to) {
  for (int64_t t = 0; t < frames; ++t)
    scatter_transposed(tile + t * channels, frames * channels, plus, to + t * joints, T_all * joints, joints, channels);
}

// What the bias adds to channel d of target w, [d][target]: before the aggregation it passes through the column sums.
template <class A>
void bias_plane(const GraphConv& a, Edges& edges, const A* values, const A* bias, A* plane) {
  for (int64_t d = 0; d < a.D; ++d)
    for (int64_t w = 0; w < a.Q; ++w) {
      A sum = a.post ? bias[d] : A(0);
      if (!a.post)
        for (int64_t k = 0; k < a.K; ++k)
          for (int64_t e = edges.first(w, k); e < edges.last(w, k); ++e)
            sum += values[edges.number[e]] * bias[k * a.D + d];
      plane[d * a.Q + w] = sum;
    }
}

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
