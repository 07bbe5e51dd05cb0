// A block of ST-GCN, forward; stgcn_block_backward.cpp has the rest. Each pass over the features does all that can be
// done while a clip is in the cache: a convolution sums what the next norm needs of its result, and the norm is applied
// where the next convolution reads it. Every clip is handled by itself, so that results do not depend on threads; sums
// over clips are partial results of the binding.
#include "stgcn_block.h"

#include "fast_temporal_conv.h"
#include "stgcn_block_parts.h"
#include "temporal_conv.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// Rows (frame, joint) of a clip as operands of a product over channels: where they lie, or in one of the scratches.
template <class P, class T>
const P* operand_rows(const T* from, const GraphConv& g, acc_t<T>* scratch, bf16* narrow_scratch) {
  using A = acc_t<T>;
  if constexpr (Operand<P>::depth == 1) {
    return channel_rows(from, g.sc, g.st, g.sv, g.C, g.T, g.J, scratch);
  } else {
    if (g.sc == 1 && g.sv == g.C && g.st == g.J * g.C) return reinterpret_cast<const P*>(from);
    const A* rows = channel_rows(from, g.sc, g.st, g.sv, g.C, g.T, g.J, scratch);
    for_lanes<kLanes<A>>(g.T * g.J * g.C,
                         [&]<int L>(int64_t i) { store_operand<L>(narrow_scratch + i, load<L>(rows + i)); });
    return reinterpret_cast<const P*>(narrow_scratch);
  }
}

template <class P, class T>
void convolve_graph(const STGCNBlock& a, const T* x, const acc_t<T>* values, const P* weight, const acc_t<T>* bias,
                    const P* by_shortcut, const acc_t<T>* shortcut_bias, T* y1, T* y3, double* moments1,
                    double* moments3, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  constexpr bool narrow = sizeof(T) != sizeof(A);
  constexpr int64_t pair = Operand<P>::depth;
  const GraphConv& g = a.graph;
  const int64_t group = group_size(a), most = group * g.T, size = g.T * g.Q * g.D, size3 = a.frames * g.Q * g.D;
  const int64_t depth = g.C / pair, size_x = a.shortcut ? g.T * g.J * g.C : 0;
  Edges edges(g);
  Scratch<A> tile(g.J * most * g.C), result(narrow ? group * size : 0), result3(narrow && a.shortcut ? size3 : 0),
      plane(g.D * g.Q), by_joint(g.Q * g.D), rows(size_x);
  Scratch<P> aggregated(g.K * most * depth);
  Scratch<bf16> narrow_rows(pair == 2 ? size_x : 0);
  Scratch<Segment<P>> segments(g.K);
  for (int64_t n = begin; n < end; n += group) {
    const int64_t clips = end - n < group ? end - n : group, F = clips * g.T, block = F * g.C;
    if (n == begin || g.joints_row != 0) {
      edges.build(g, n);
      if (bias) {
        bias_plane(g, edges, values, bias, plane.data);
        for (int64_t d = 0; d < g.D; ++d)
          for (int64_t w = 0; w < g.Q; ++w) by_joint[w * g.D + d] = plane[d * g.Q + w];
      }
    }
    load_group(a, x, n, clips, tile.data);
    A* to = room(y1 + n * size, result.data);
    for (int64_t w = 0; w < g.Q; ++w) {
      int64_t count = 0;
      for (int64_t k = 0; k < g.K; ++k)
        if (const Incoming<A> incoming(edges, values, tile.data, block, w, k); incoming.any()) {
          P* const at = aggregated.data + k * F * depth;
          for_lanes<kLanes<A>>(block, [&]<int L>(int64_t i) {
            store_operand<L>(reinterpret_cast<typename Operand<P>::stored*>(at) + i, incoming.template sum<L>(i));
          });
          segments[count++] = {at, weight + k * depth * g.D};
        }
      multiply(Product<A, P>{segments.data, count, depth, depth, 1, g.D, to + w * g.D, g.Q * g.D, false, nullptr,
                             bias ? by_joint.data + w * g.D : nullptr},
               F, g.D);
    }
    store_rows(to, clips * size, y1 + n * size);
    for (int64_t clip = n; clip < n + clips; ++clip)
      moments_of(to + (clip - n) * size, g.T * g.Q, g.D, moments1 + clip * 2 * g.D);
    for (int64_t clip = n; a.shortcut && clip < n + clips; ++clip) {
      const P* from = operand_rows<P>(x + clip * g.sn, g, rows.data, narrow_rows.data);
      A* to3 = room(y3 + clip * size3, result3.data);
      const int64_t runs = a.stride == 1 ? 1 : a.frames;  // without a stride all frames are one product
      for (int64_t t = 0; t < runs; ++t) {
        const Segment<P> segment{from + t * a.stride * g.J * depth, by_shortcut};
        multiply(
            Product<A, P>{&segment, 1, depth, depth, 1, g.D, to3 + t * g.Q * g.D, g.D, false, nullptr, shortcut_bias},
            a.frames / runs * g.Q, g.D);
      }
      store_rows(to3, size3, y3 + clip * size3);
      moments_of(to3, a.frames * g.Q, g.D, moments3 + clip * 2 * g.D);
    }
  }
}

template <class Conv, class P, class T>
void convolve(const STGCNBlock& a, const T* y1, const BlockNorm<acc_t<T>>& norm1, const P* weight, const acc_t<T>* bias,
              T* y2, double* moments2, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const GraphConv& g = a.graph;
  const int64_t frame = g.Q * g.D, size = a.frames * frame, group = a.conv_group;
  Conv conv(a, false);
  Scratch<A> result(sizeof(T) != sizeof(A) ? group * size : 0);
  for (int64_t n = begin; n < end; n += group) {
    const int64_t clips = end - n < group ? end - n : group;
    for (int64_t clip = 0; clip < clips; ++clip) {
      load_normed(a, norm1, y1 + (n + clip) * g.T * frame, conv);
      conv.take_input(clip, clips);
    }
    A* to = room(y2 + n * size, result.data);
    conv.forward(weight, bias, clips, to);
    store_rows(to, clips * size, y2 + n * size);
    for (int64_t clip = 0; clip < clips; ++clip)
      moments_of(to + clip * size, a.frames * g.Q, g.D, moments2 + (n + clip) * 2 * g.D);
  }
}

}  // namespace

template <class T>
void stgcn_block_graph(const STGCNBlock& a, const T* x, const acc_t<T>* values, const void* weight,
                       const acc_t<T>* bias, const void* by_shortcut, const acc_t<T>* shortcut_bias, T* y1, T* y3,
                       double* moments1, double* moments3, int64_t begin, int64_t end) {
  visit_operands<T>(a.graph_pairs, [&]<class P>(P) {
    convolve_graph<P>(a, x, values, static_cast<const P*>(weight), bias, static_cast<const P*>(by_shortcut),
                      shortcut_bias, y1, y3, moments1, moments3, begin, end);
  });
}

template <class T>
void stgcn_block_conv_weight(const STGCNBlock& a, const acc_t<T>* weight, bool turned, void* to, int64_t begin,
                             int64_t end) {
  visit_operands<T>(a.conv_pairs, [&]<class P>(P) {
    transform_weight(weight, a.graph.T, a.graph.D, turned, static_cast<P*>(to), begin, end);
  });
}

template <class T>
void stgcn_block_conv(const STGCNBlock& a, const T* y1, BlockNorm<acc_t<T>> norm1, const void* weight,
                      const acc_t<T>* bias, T* y2, double* moments2, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  visit_operands<T>(a.conv_pairs, [&]<class P>(P) {
    const auto with = a.fast ? &convolve<FastTemporalConv<A, P>, P, T> : &convolve<TemporalConv<A, P>, P, T>;
    with(a, y1, norm1, static_cast<const P*>(weight), bias, y2, moments2, begin, end);
  });
}

template <class T>
void stgcn_block_out(const STGCNBlock& a, const T* x, const T* y2, const T* y3, BlockNorm<acc_t<T>> norm2,
                     BlockNorm<acc_t<T>> norm3, T* out, uint8_t* kept, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const GraphConv& g = a.graph;
  const int64_t rows = a.frames * g.Q, size = rows * g.D;
  const int64_t bytes = bytes_of_bits(size);
  Scratch<uint8_t> keep(a.drops ? 8 * bytes : 0);
  for (int64_t i = size; a.drops && i < 8 * bytes; ++i) keep[i] = 0;
  Scratch<A> scratch(a.identity ? size : 0);
  const A factor = static_cast<A>(a.kept);
  for (int64_t n = begin; n < end; ++n) {
    if (a.drops) {
      draw_kept(a.random, a.last, static_cast<uint32_t>(n), size, keep.data);
      pack_bits(keep.data, size, kept + n * bytes);
    }
    const A* same = a.identity ? channel_rows(x + n * g.sn, g.sc, g.st, g.sv, g.C, g.T, g.J, scratch.data) : nullptr;
    const T *from2 = y2 + n * size, *from3 = a.shortcut ? y3 + n * size : nullptr;
    T* to = out + n * size;
    for (int64_t row = 0; row < rows; ++row)
      for_lanes<kLanes<T>>(g.D, [&]<int L>(int64_t d) {
        const int64_t i = row * g.D + d;
        lanes_t<A, L> sum = normed<L>(norm2, load<L>(from2 + i), d);
        if (a.drops) sum = where_kept<L, A>(keep.data + i, sum * factor);
        if (a.identity) sum += load<L>(same + i);
        if (a.shortcut) sum += normed<L>(norm3, load<L>(from3 + i), d);
        store<L>(to + i, relu<L, A>(sum));
      });
  }
}

#define INSTANTIATE(T)                                                                                              \
  template void stgcn_block_conv_weight<T>(const STGCNBlock&, const acc_t<T>*, bool, void*, int64_t, int64_t);      \
  template void stgcn_block_graph<T>(const STGCNBlock&, const T*, const acc_t<T>*, const void*, const acc_t<T>*,    \
                                     const void*, const acc_t<T>*, T*, T*, double*, double*, int64_t, int64_t);     \
  template void stgcn_block_conv<T>(const STGCNBlock&, const T*, BlockNorm<acc_t<T>>, const void*, const acc_t<T>*, \
                                    T*, double*, int64_t, int64_t);                                                 \
  template void stgcn_block_out<T>(const STGCNBlock&, const T*, const T*, const T*, BlockNorm<acc_t<T>>,            \
                                   BlockNorm<acc_t<T>>, T*, uint8_t*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
