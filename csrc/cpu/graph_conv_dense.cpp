// Two steps that can come in either order: the aggregation, a product with a plane (V, W) of the adjacency, and the 1x1
// convolution, a product with the weight. An adjacency without an axis C lets the steps change places. A tile is some
// frames of a row of the batch and some channels of the aggregation, [channel][frame][joint] as in the tensors, so both
// steps are plain products without a transpose, and what lies between them, K times as wide as x, stays in the cache.
#include "graph_conv_dense.h"

#include "graph_conv_dense_tile.h"

namespace asma {
namespace ASMA_ISA {

template <class T>
void graph_conv_dense(const GraphConvDense& a, const T* x, const void* graph, const acc_t<T>* weight,
                      const acc_t<T>* bias, T* out, T* hidden, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  Work<T> work(a, graph);
  const Place& p = work.p;
  Scratch<A> tile(work.x_numbers()), between(work.between_numbers()), result(work.out_numbers());
  const int64_t tiles = a.tiles(), all = a.T * a.Q, part = a.keep ? a.D * all : 0;
  for (int64_t item = begin; item < end; ++item) {
    work.enter(item / tiles, item % tiles * a.frames);
    T* corner = out + p.n * work.parts * a.D * all + p.t * a.Q;
    if (work.first) {
      const View<A> to = target(corner, part, all, a.D, work.size_out, result.data);
      for (int64_t c = 0; work.next(c); c += a.channels) {
        const View<A> sums{between.data, p.channels * work.size_out, work.size_out};
        work.aggregate_to(work.load_block(x, tile.data), sums, false);
        for (int64_t k = 0; k < a.K; ++k)
          work.segments[k] = {weight + k * a.D * work.rows + c, sums.data + k * sums.part};
        for (int64_t k = 0; k < work.parts; ++k)
          multiply(Product<A>{work.segments.data + k, a.K / work.parts, p.channels, work.rows, 1, work.size_out,
                              to.data + k * to.part, to.channel, c > 0, bias},
                   a.D, work.size_out);
      }
      store_tile(to, corner, part, all, work.parts, a.D, work.size_out);
      continue;
    }
    const View<const A> features = work.only ? View<const A>{} : work.load_x(x, 0, a.C, tile.data);
    for (int64_t c = 0; work.next(c); c += a.channels) {
      View<A> to = target(corner + c * all, part, all, p.channels, work.size_out, result.data);
      if (!a.keep) to.part = 0;
      work.aggregate_to(
          work.only ? work.load_block(x, tile.data) : work.convolve(weight, bias, features, between.data, hidden), to,
          false);
      store_tile(to, corner + c * all, part, all, work.parts, p.channels, work.size_out);
    }
  }
}

template <class T>
void graph_conv_dense_backward(const GraphConvDense& a, const T* grad, const T* x, const void* graph,
                               const acc_t<T>* weight, const acc_t<T>* bias, const T* hidden, T* grad_x,
                               acc_t<T>* grad_graph, acc_t<T>* grad_weight, acc_t<T>* grad_bias, int64_t begin,
                               int64_t end) {
  using A = acc_t<T>;
  Work<T> work(a, graph);
  const Place& p = work.p;
  const int64_t all = a.T * a.J, part = work.sources > 1 ? a.C * all : 0, wide = work.parts * a.D;
  Scratch<A> tile(work.x_numbers()), grad_tile(work.out_numbers()), between(work.between_numbers()),
      input(work.x_numbers()), plane(a.J * a.Q),
      turned(!grad_weight ? 0
             : work.first ? wide * a.frames * a.Q
                          : a.C * a.frames * a.J);
  const auto tiles = [&](const auto& body) {
    for (int64_t n = begin; n < end; ++n)
      for (int64_t t = 0; t < a.T; t += a.frames) {
        work.enter(n, t);
        body(grad_x ? grad_x + n * work.sources * a.C * all + t * a.J : nullptr);
      }
  };
  const auto aggregate_first = [&](T* corner) {
    const View<const A> gradient = work.load_grad(grad, 0, a.D, grad_tile.data);
    if (grad_bias) add_sums(gradient.data, gradient.channel, a.D, work.size_out, grad_bias);
    for (int64_t k = 0; grad_weight && k < work.parts; ++k)
      gather_transposed(gradient.data + k * gradient.part, gradient.channel, int64_t(1), turned.data + k * a.D, wide,
                        a.D, work.size_out);
    for (int64_t c = 0; work.next(c); c += a.channels) {
      const View<A> sums{between.data, p.channels * work.size_out, work.size_out};
      const View<const A> features = grad_graph || grad_weight ? work.load_block(x, tile.data) : View<const A>{};
      if (grad_weight) {
        work.aggregate_to(features, sums, false);
        for (int64_t k = 0; k < a.K; ++k) {
          const Segment<A> over_frames{sums.data + k * sums.part, turned.data + (a.keep ? k * a.D : 0)};
          multiply(Product<A>{&over_frames, 1, work.size_out, work.size_out, 1, wide,
                              grad_weight + (k * work.rows + c) * a.D, a.D, true},
                   p.channels, a.D);
        }
      }
      if (!grad_graph && !grad_x) continue;
      for (int64_t k = 0; k < a.K; ++k) {
        const Segment<A> over_channels{weight + k * a.D * work.rows + c, gradient.data + k * gradient.part};
        multiply(Product<A>{&over_channels, 1, a.D, 1, work.rows, gradient.channel, sums.data + k * sums.part,
                            work.size_out, false},
                 p.channels, work.size_out);
      }
      const View<const A> of_sums{sums.data, sums.part, sums.channel};
      if (grad_graph) graph_gradient(a, p, features, of_sums, grad_graph, plane.data);
      if (!grad_x) continue;
      const int64_t given = work.given();
      View<A> to = target(corner + c * all, 0, all, given, work.size_in, input.data);
      to.part = 0;
      Place of_x = p;
      of_x.channels = given;
      aggregate(a, of_x, work.planes, true, of_sums, to, work.segments.data);
      store_tile(to, corner + c * all, 0, all, 1, given, work.size_in);
    }
  };
  const auto multiply_first = [&](T* corner) {
    const bool again = grad_graph && !hidden;
    const View<const A> features = again || grad_weight ? work.load_x(x, 0, a.C, tile.data) : View<const A>{};
    if (grad_weight)
      gather_transposed(features.data, features.channel, int64_t(1), turned.data, a.C, a.C, work.size_in);
    const View<A> to = target(corner, 0, all, a.C, work.size_in, input.data);
    for (int64_t c = 0; work.next(c); c += a.channels) {
      const View<const A> gradient = work.load_grad(grad, c, p.channels, grad_tile.data);
      if (grad_graph)
        graph_gradient(a, p,
                       again ? work.convolve(weight, bias, features, between.data, nullptr)
                             : work.load_hidden(hidden, between.data),
                       gradient, grad_graph, plane.data);
      if (!grad_x && !grad_weight && !grad_bias) continue;
      const View<A> h{between.data, p.channels * work.size_in, work.size_in};
      work.aggregate_to(gradient, h, true);
      for (int64_t k = 0; k < a.K; ++k) work.segments[k] = {weight + (k * a.D + c) * a.C, h.data + k * h.part};
      for (int64_t k = 0; k < work.blocks(); ++k) {
        const int64_t channel = k * a.D + c, rows = work.block_rows();
        const A* own = h.data + k * h.part;
        if (grad_bias) add_sums(own, h.channel, rows, work.size_in, grad_bias + channel);
        const Segment<A> over_frames{own, turned.data};
        if (grad_weight)
          multiply(
              Product<A>{&over_frames, 1, work.size_in, work.size_in, 1, a.C, grad_weight + channel * a.C, a.C, true},
              rows, a.C);
      }
      if (grad_x)
        multiply(Product<A>{work.segments.data, a.K, p.channels, 1, a.C, work.size_in, to.data, to.channel, c > 0}, a.C,
                 work.size_in);
    }
    if (grad_x) store_tile(to, corner, 0, all, 1, a.C, work.size_in);
  };
  const auto aggregate_only = [&](T* corner) {
    for (int64_t c = 0; work.next(c); c += a.channels) {
      const View<const A> gradient = work.load_grad(grad, c, p.channels, grad_tile.data);
      if (grad_graph) graph_gradient(a, p, work.load_block(x, tile.data), gradient, grad_graph, plane.data);
      if (!grad_x) continue;
      View<A> to = target(corner + c * all, part, all, p.channels, work.size_in, input.data);
      if (a.shared) to.part = 0;
      work.aggregate_to(gradient, to, true);
      store_tile(to, corner + c * all, part, all, work.sources, p.channels, work.size_in);
    }
  };
  if (work.first) tiles(aggregate_first);
  else if (work.only) tiles(aggregate_only);
  else tiles(multiply_first);
}

#define INSTANTIATE(T)                                                                                                \
  template void graph_conv_dense<T>(const GraphConvDense&, const T*, const void*, const acc_t<T>*, const acc_t<T>*,   \
                                    T*, T*, int64_t, int64_t);                                                        \
  template void graph_conv_dense_backward<T>(const GraphConvDense&, const T*, const T*, const void*, const acc_t<T>*, \
                                             const acc_t<T>*, const T*, T*, acc_t<T>*, acc_t<T>*, acc_t<T>*, int64_t, \
                                             int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
