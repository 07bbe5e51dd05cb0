// Aggregate first, multiply after: sum_k A_k^T (x W_k) = sum_k (A_k^T x) W_k, so the K-times-wide intermediate of the
// definition is never there, and the nonzeros act on C channels, not on K * D. Inside, a row of the batch is handled in
// tiles of F frames with channels contiguous: x [joint][frame][channel], gradient [target][frame][channel]. For one
// target joint the aggregated input [partition][frame][channel] stays in the first cache, and partitions that no edge
// brings to that joint are skipped in every product.
#include "graph_conv.h"

#include "graph_conv_tile.h"

namespace asma {
namespace ASMA_ISA {
namespace {

constexpr int64_t kTile = 48;  // frames, a multiple of the row blocks of gemm.h

}  // namespace

template <class T>
void graph_conv(const GraphConv& a, const T* x, const acc_t<T>* values, const acc_t<T>* weight, const acc_t<T>* bias,
                T* out, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const int64_t F = a.T < kTile ? a.T : kTile;
  Edges edges(a);
  Scratch<A> tile(a.J * F * a.C), aggregated(a.K * F * a.C), result(a.Q * F * a.D), plane(a.D * a.Q);
  Scratch<Segment<A>> segments(a.K);
  for (int64_t n = begin; n < end; ++n) {
    if (n == begin || a.joints_row != 0) {
      edges.build(a, n);
      if (bias) bias_plane(a, edges, values, bias, plane.data);
    }
    for (int64_t t = 0; t < a.T; t += F) {
      const int64_t frames = a.T - t < F ? a.T - t : F, block = frames * a.C;
      load_tile(x + n * a.sn + t * a.st, a.sc, a.st, a.sv, a.C, frames, a.J, tile.data);
      for (int64_t w = 0; w < a.Q; ++w) {
        int64_t count = 0;
        for (int64_t k = 0; k < a.K; ++k)
          if (aggregate(edges, values, tile.data, w, k, block, aggregated.data + k * block))
            segments[count++] = {aggregated.data + k * block, weight + k * a.C * a.D};
        multiply(Product<A>{segments.data, count, a.C, a.C, 1, a.D, result.data + w * frames * a.D, a.D, false}, frames,
                 a.D);
      }
      store_tile(result.data, bias ? plane.data : nullptr, a.D, frames, a.Q, a.T, out + (n * a.D * a.T + t) * a.Q);
    }
  }
}

template <class T>
void graph_conv_backward(const GraphConv& a, const T* grad, const T* x, const acc_t<T>* values,
                         const acc_t<T>* weight_back, const acc_t<T>* bias, T* grad_x, acc_t<T>* grad_values,
                         acc_t<T>* grad_weight, acc_t<T>* grad_bias, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const int64_t F = a.T < kTile ? a.T : kTile;
  const bool needs_x = grad_weight || grad_values, needs_input = grad_x || grad_values;
  const bool needs_sums = grad_bias || (grad_values && bias && !a.post);
  Edges edges(a);
  Scratch<A> tile(needs_x ? a.J * F * a.C : 0), grad_tile(a.Q * F * a.D), aggregated(F * a.C), input(F * a.C),
      input_tile(grad_x ? a.J * F * a.C : 0), sums(a.Q * a.D);
  for (int64_t n = begin; n < end; ++n) {
    if (n == begin || a.joints_row != 0) edges.build(a, n);
    if (needs_sums) sums.zero(a.Q * a.D);
    for (int64_t t = 0; t < a.T; t += F) {
      const int64_t frames = a.T - t < F ? a.T - t : F, block = frames * a.C;
      load_tile(grad + n * a.gn + t * a.gt, a.gc, a.gt, a.gv, a.D, frames, a.Q, grad_tile.data);
      if (needs_x) load_tile(x + n * a.sn + t * a.st, a.sc, a.st, a.sv, a.C, frames, a.J, tile.data);
      if (grad_x) input_tile.zero(a.J * block);
      for (int64_t w = 0; w < a.Q; ++w) {
        const A* gradient = grad_tile.data + w * frames * a.D;
        if (needs_sums)
          for (int64_t f = 0; f < frames; ++f) scaled(sums.data + w * a.D, gradient + f * a.D, A(1), a.D, true);
        for (int64_t k = 0; k < a.K; ++k) {
          const int64_t first = edges.first(w, k), last = edges.last(w, k);
          if (first == last) continue;
          if (grad_weight) {
            aggregate(edges, values, tile.data, w, k, block, aggregated.data);
            const Segment<A> over_frames{aggregated.data, gradient};
            multiply(Product<A>{&over_frames, 1, frames, 1, a.C, a.D, grad_weight + k * a.C * a.D, a.D, true}, a.C,
                     a.D);
          }
          if (!needs_input) continue;
          const Segment<A> over_channels{gradient, weight_back + k * a.C};
          multiply(Product<A>{&over_channels, 1, a.D, a.D, 1, a.K * a.C, input.data, a.C, false}, frames, a.C);
          for (int64_t e = first; e < last; ++e) {
            const int64_t number = edges.number[e], source = edges.source[e] * block;
            if (grad_x) scaled(input_tile.data + source, input.data, values[number], block, true);
            if (grad_values) grad_values[number] += dot(tile.data + source, input.data, block);
          }
        }
      }
      if (grad_x) store_tile<T>(input_tile.data, nullptr, a.C, frames, a.J, a.T, grad_x + (n * a.C * a.T + t) * a.J);
    }
    if (!needs_sums) continue;
    for (int64_t w = 0; w < a.Q; ++w) {
      const A* sum = sums.data + w * a.D;
      if (a.post) {
        if (grad_bias) scaled(grad_bias, sum, A(1), a.D, true);
        continue;
      }
      for (int64_t k = 0; k < a.K; ++k)
        for (int64_t e = edges.first(w, k); e < edges.last(w, k); ++e) {
          const int64_t number = edges.number[e];
          if (grad_bias) scaled(grad_bias + k * a.D, sum, values[number], a.D, true);
          if (grad_values && bias) grad_values[number] += dot(bias + k * a.D, sum, a.D);
        }
    }
  }
}

#define INSTANTIATE(T)                                                                                           \
  template void graph_conv<T>(const GraphConv&, const T*, const acc_t<T>*, const acc_t<T>*, const acc_t<T>*, T*, \
                              int64_t, int64_t);                                                                 \
  template void graph_conv_backward<T>(const GraphConv&, const T*, const T*, const acc_t<T>*, const acc_t<T>*,   \
                                       const acc_t<T>*, T*, acc_t<T>*, acc_t<T>*, acc_t<T>*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
