// A block of ST-GCN, backward: the sums of norms 2 and 3, then the convolution over frames with the sums of norm 1,
// then the graph convolution. As in stgcn_block.cpp a pass does all it can while a clip is in the cache.
#include "fast_temporal_conv.h"
#include "stgcn_block.h"
#include "stgcn_block_parts.h"
#include "temporal_conv.h"

namespace asma {
namespace ASMA_ISA {
namespace {

template <class Conv, class P, class T>
void convolve_backward(const STGCNBlock& a, const T* grad, const T* out, const uint8_t* kept, const T* y1, const T* y2,
                       const BlockNorm<acc_t<T>>& norm1, const BlockNorm<acc_t<T>>& norm2, const P* weight_back,
                       T* grad_z, double* sums, acc_t<T>* grad_weight, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const GraphConv& g = a.graph;
  const int64_t frame = g.Q * g.D, size = a.frames * frame, size1 = g.T * frame, group = a.conv_group;
  Conv conv(a, true);
  conv.begin_weight_gradient(grad_weight);
  Scratch<A> scratch(size), of_z(group * size1);
  Scratch<uint8_t> keep(a.drops ? 8 * bytes_of_bits(size) : 0);
  const A factor = static_cast<A>(a.kept);
  for (int64_t n = begin; n < end; n += group) {
    const int64_t clips = end - n < group ? end - n : group;
    for (int64_t clip = 0; clip < clips; ++clip) {
      load_normed(a, norm1, y1 + (n + clip) * size1, conv);
      conv.take_input(clip, clips);
      const A* given = channel_rows(grad + (n + clip) * g.gn, g.gc, g.gt, g.gv, g.D, a.frames, g.Q, scratch.data);
      const int64_t first = (n + clip) * size;
      if (a.drops) unpack_bits(kept + (n + clip) * bytes_of_bits(size), size, keep.data);
      for (int64_t t = 0; t < a.frames; ++t) {
        A* to = conv.gradient_frame(clip, t);
        for (int64_t row = 0; row < g.Q; ++row)
          for_lanes<kLanes<T>>(g.D, [&]<int L>(int64_t d) {
            const int64_t i = (t * g.Q + row) * g.D + d;
            auto behind = where_positive<L, A>(load<L>(out + first + i), load<L>(given + i));
            if (a.drops) behind = where_kept<L, A>(keep.data + i, behind * factor);
            store<L>(to + row * g.D + d, norm_gradient<L>(norm2, behind, load<L>(y2 + first + i), d));
          });
      }
      conv.take_gradient(clip, clips);
    }
    conv.add_weight_gradient(clips, grad_weight);
    conv.input_gradient(weight_back, clips, of_z.data);
    for (int64_t clip = 0; clip < clips; ++clip) {
      const T* from1 = y1 + (n + clip) * size1;
      const A* from = of_z.data + clip * size1;
      T* to = grad_z + (n + clip) * size1;
      for_lanes<kLanes<T>>(g.D, [&]<int L>(int64_t d) {
        using Lane = lanes_t<A, L>;
        sum_rows<2, L, A>(g.T * g.Q, sums + (n + clip) * 2 * g.D + d, g.D,
                          [&](int64_t row, Lane* sum) __attribute__((always_inline)) {
                            const int64_t i = row * g.D + d;
                            const Lane y = load<L>(from1 + i);
                            const Lane gradient = where_positive<L, A>(normed<L>(norm1, y, d), load<L>(from + i));
                            store<L>(to + i, gradient);
                            sum[0] += gradient;
                            sum[1] += gradient * standardised<L>(norm1, y, d);
                          });
      });
    }
  }
  conv.end_weight_gradient(grad_weight);
}

// The gradient of y1 in the frames of a group, [frame][joint][channel]: as operands of products over channels, and of
// products over frames where those are others; and summed over the frames.
template <class P, class T> struct GradientOfY1 {
  using A = acc_t<T>;
  using E = typename Operand<P>::stored;
  static constexpr int64_t kDepth = Operand<P>::depth;
  const int64_t Q, D, frame;
  Scratch<P> over_channels, pairs_of_frames;
  Scratch<A> sums, row;

  GradientOfY1(const GraphConv& g, int64_t most)
      : Q(g.Q),
        D(g.D),
        frame(Q * D),
        over_channels(most * frame / kDepth),
        pairs_of_frames(kDepth == 2 ? (most + 1) / 2 * frame : 0),
        sums(frame),
        row(frame) {}
  const P* over_frames() const { return kDepth == 2 ? pairs_of_frames.data : over_channels.data; }

  void make(const BlockNorm<A>& norm1, const T* grad_z, const T* y1, int64_t F) {
    E* const to = reinterpret_cast<E*>(over_channels.data);
    sums.zero(frame);
    for (int64_t f = 0; f < F; f += kDepth) {
      for (int64_t v = 0; v < Q; ++v)
        for_lanes<kLanes<T>>(D, [&]<int L>(int64_t d) {
          const int64_t i = v * D + d;
          const auto at = [&](int64_t place) __attribute__((always_inline)) {
            const auto gradient = norm_gradient<L>(norm1, load<L>(grad_z + place), load<L>(y1 + place), d);
            store_operand<L>(to + place, gradient);
            return gradient;
          };
          auto sum = at(f * frame + i);
          if constexpr (kDepth == 2) {
            const auto second = f + 1 < F ? at((f + 1) * frame + i) : lanes_t<A, L>{};
            store_pairs<L>(pairs_of_frames.data + f / 2 * frame + i, sum, second);
            sum += second;
          }
          store<L>(row.data + i, sum);
        });
      scaled(sums.data, row.data, A(1), frame, true);
    }
  }
};

// What reaches a target by a partition, as operands of a product over frames, [frame][channel].
template <class P, class A> void store_over_frames(const Incoming<A>& incoming, int64_t F, int64_t C, P* to) {
  if constexpr (Operand<P>::depth == 1) {
    for_lanes<kLanes<A>>(F * C, [&]<int L>(int64_t i) { store<L>(to + i, incoming.template sum<L>(i)); });
  } else {
    for (int64_t f = 0; f < F; f += 2)
      for_lanes<kLanes<A>>(C, [&]<int L>(int64_t c) {
        const int64_t i = f * C + c;
        const auto second = f + 1 < F ? incoming.template sum<L>(i + C) : lanes_t<A, L>{};
        store_pairs<L>(to + f / 2 * C + c, incoming.template sum<L>(i), second);
      });
  }
}

template <class P, class T>
void graph_backward(const STGCNBlock& a, const T* grad, const T* out, const T* x, const T* y1, const T* y3,
                    const T* grad_z, BlockNorm<acc_t<T>> norm1, BlockNorm<acc_t<T>> norm3, const acc_t<T>* values,
                    const P* weight_back, const acc_t<T>* bias, const acc_t<T>* shortcut_back, T* grad_x,
                    acc_t<T>* grad_values, acc_t<T>* grad_weight, acc_t<T>* grad_bias, acc_t<T>* grad_shortcut,
                    int64_t begin, int64_t end) {
  using A = acc_t<T>;
  constexpr int64_t pair = Operand<P>::depth;
  const GraphConv& g = a.graph;
  const int64_t group = group_size(a), most = group * g.T, size = g.T * g.Q * g.D, size_x = g.T * g.J * g.C;
  const int64_t size3 = a.frames * g.Q * g.D;
  Edges edges(g);
  GradientOfY1<P, T> gradient(g, most);
  Scratch<P> aggregated(g.Q * ((most + pair - 1) / pair) * g.C);
  Scratch<A> tile(g.J * most * g.C), input_tile(g.J * most * g.C), input(most * g.C),
      of_residual(a.shortcut || a.identity ? size3 : 0), scratch(a.shortcut || a.identity ? size3 : 0),
      rows(a.shortcut ? size_x : 0), result(sizeof(T) != sizeof(A) ? size_x : 0);
  Scratch<Segment<P>> segments(g.Q);
  const auto begin_sums = [](A* sums_of, int64_t count) {
    for (int64_t i = 0; i < count; ++i) sums_of[i] = A(0);
  };
  begin_sums(grad_values, g.E);
  begin_sums(grad_weight, g.K * g.C * g.D);
  begin_sums(grad_bias, bias ? g.K * g.D : 0);
  begin_sums(grad_shortcut, a.shortcut ? g.C * g.D : 0);
  for (int64_t n = begin; n < end; n += group) {
    const int64_t clips = end - n < group ? end - n : group, F = clips * g.T, block = F * g.C;
    const int64_t deep = (F + pair - 1) / pair;
    if (n == begin || g.joints_row != 0) edges.build(g, n);
    load_group(a, x, n, clips, tile.data);
    gradient.make(norm1, grad_z + n * size, y1 + n * size, F);
    input_tile.zero(g.J * block);
    for (int64_t k = 0; k < g.K; ++k) {
      int64_t count = 0;
      for (int64_t w = 0; w < g.Q; ++w)
        if (const Incoming<A> incoming(edges, values, tile.data, block, w, k); incoming.any()) {
          P* const at = aggregated.data + w * deep * g.C;
          store_over_frames(incoming, F, g.C, at);
          segments[count++] = {at, gradient.over_frames() + w * g.D};
        }
      multiply(Product<A, P>{segments.data, count, deep, 1, g.C, g.Q * g.D, grad_weight + k * g.C * g.D, g.D, true},
               g.C, g.D);
      for (int64_t w = 0; w < g.Q; ++w) {
        const int64_t first = edges.first(w, k), last = edges.last(w, k);
        if (first == last) continue;
        const int64_t depth = g.D / pair;
        const Segment<P> over_channels{gradient.over_channels.data + w * depth, weight_back + k * depth * g.C};
        multiply(Product<A, P>{&over_channels, 1, depth, g.Q * depth, 1, g.C, input.data, g.C, false}, F, g.C);
        for (int64_t e = first; e < last; ++e) {
          const int64_t number = edges.number[e], source = edges.source[e] * block;
          scaled(input_tile.data + source, input.data, values[number], block, true);
          grad_values[number] += dot(tile.data + source, input.data, block);
        }
      }
    }
    if (bias) {
      for (int64_t w = 0; w < g.Q; ++w)
        for (int64_t k = 0; k < g.K; ++k)
          for (int64_t e = edges.first(w, k); e < edges.last(w, k); ++e) {
            const int64_t number = edges.number[e];
            scaled(grad_bias + k * g.D, gradient.sums.data + w * g.D, values[number], g.D, true);
            grad_values[number] += dot(bias + k * g.D, gradient.sums.data + w * g.D, g.D);
          }
    }
    for (int64_t clip = n; clip < n + clips; ++clip) {
      const A* of_clip = input_tile.data + (clip - n) * g.T * g.C;
      T* to = grad_x + clip * size_x;
      const A* residual = nullptr;
      if (a.identity || a.shortcut) {
        const A* given = channel_rows(grad + clip * g.gn, g.gc, g.gt, g.gv, g.D, a.frames, g.Q, scratch.data);
        const T *from = out + clip * size3, *from3 = a.shortcut ? y3 + clip * size3 : nullptr;
        for (int64_t row = 0; row < a.frames * g.Q; ++row)
          for_lanes<kLanes<T>>(g.D, [&]<int L>(int64_t d) {
            const int64_t i = row * g.D + d;
            auto behind = where_positive<L, A>(load<L>(from + i), load<L>(given + i));
            if (a.shortcut) behind = norm_gradient<L>(norm3, behind, load<L>(from3 + i), d);
            store<L>(of_residual.data + i, behind);
          });
        residual = of_residual.data;
      }
      const int64_t frame = g.J * g.C;
      if (a.shortcut) {
        const A* features = channel_rows(x + clip * g.sn, g.sc, g.st, g.sv, g.C, g.T, g.J, rows.data);
        for (int64_t t = 0; t < a.frames; ++t) {
          const A* of_frame = residual + t * g.Q * g.D;
          const Segment<A> over_rows{features + t * a.stride * frame, of_frame};
          multiply(Product<A>{&over_rows, 1, g.Q, 1, g.C, g.D, grad_shortcut, g.D, true}, g.C, g.D);
        }
      }
      A* sum = room(to, result.data);
      for (int64_t t = 0; t < g.T; ++t) {
        A* of_frame = sum + t * frame;
        const bool reached = a.identity || (a.shortcut && t % a.stride == 0);
        if (a.shortcut && reached) {
          const Segment<A> over_channels{residual + t / a.stride * g.Q * g.D, shortcut_back};
          multiply(Product<A>{&over_channels, 1, g.D, g.D, 1, g.C, of_frame, g.C, false}, g.J, g.C);
        } else {
          for (int64_t i = 0; i < frame; ++i) of_frame[i] = reached ? residual[t * frame + i] : A(0);
        }
        for (int64_t j = 0; j < g.J; ++j) scaled(of_frame + j * g.C, of_clip + j * block + t * g.C, A(1), g.C, true);
      }
      store_rows(sum, size_x, to);
    }
  }
}

}  // namespace

template <class T>
void stgcn_block_sums(const STGCNBlock& a, const T* grad, const T* out, const T* y2, const T* y3,
                      BlockNorm<acc_t<T>> norm2, BlockNorm<acc_t<T>> norm3, const uint8_t* kept, double* sums,
                      int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const GraphConv& g = a.graph;
  const int64_t rows = a.frames * g.Q, size = rows * g.D;
  Scratch<A> scratch(size);
  Scratch<uint8_t> keep(a.drops ? 8 * bytes_of_bits(size) : 0);
  const A factor = static_cast<A>(a.kept);
  for (int64_t n = begin; n < end; ++n) {
    if (a.drops) unpack_bits(kept + n * bytes_of_bits(size), size, keep.data);
    const A* given = channel_rows(grad + n * g.gn, g.gc, g.gt, g.gv, g.D, a.frames, g.Q, scratch.data);
    const T *result = out + n * size, *from2 = y2 + n * size, *from3 = a.shortcut ? y3 + n * size : nullptr;
    double* to = sums + n * 4 * g.D;
    for_lanes<kLanes<T>>(g.D, [&]<int L>(int64_t d) {
      using Lane = lanes_t<A, L>;
      sum_rows<2, L, A>(rows, to + d, g.D, [&](int64_t row, Lane* sum) __attribute__((always_inline)) {
        const int64_t i = row * g.D + d;
        Lane gradient = where_positive<L, A>(load<L>(result + i), load<L>(given + i));
        if (a.drops) gradient = where_kept<L, A>(keep.data + i, gradient * factor);
        sum[0] += gradient;
        sum[1] += gradient * standardised<L>(norm2, load<L>(from2 + i), d);
      });
      if (!a.shortcut) return;
      sum_rows<2, L, A>(rows, to + 2 * g.D + d, g.D, [&](int64_t row, Lane* sum) __attribute__((always_inline)) {
        const int64_t i = row * g.D + d;
        const Lane gradient = where_positive<L, A>(load<L>(result + i), load<L>(given + i));
        sum[0] += gradient;
        sum[1] += gradient * standardised<L>(norm3, load<L>(from3 + i), d);
      });
    });
  }
}

template <class T>
void stgcn_block_conv_backward(const STGCNBlock& a, const T* grad, const T* out, const uint8_t* kept, const T* y1,
                               const T* y2, BlockNorm<acc_t<T>> norm1, BlockNorm<acc_t<T>> norm2,
                               const void* weight_back, T* grad_z, double* sums, acc_t<T>* grad_weight, int64_t begin,
                               int64_t end) {
  using A = acc_t<T>;
  visit_operands<T>(a.conv_pairs, [&]<class P>(P) {
    const auto with =
        a.fast ? &convolve_backward<FastTemporalConv<A, P>, P, T> : &convolve_backward<TemporalConv<A, P>, P, T>;
    with(a, grad, out, kept, y1, y2, norm1, norm2, static_cast<const P*>(weight_back), grad_z, sums, grad_weight, begin,
         end);
  });
}

template <class T>
void stgcn_block_graph_backward(const STGCNBlock& a, const T* grad, const T* out, const T* x, const T* y1, const T* y3,
                                const T* grad_z, BlockNorm<acc_t<T>> norm1, BlockNorm<acc_t<T>> norm3,
                                const acc_t<T>* values, const void* weight_back, const acc_t<T>* bias,
                                const acc_t<T>* shortcut_back, T* grad_x, acc_t<T>* grad_values, acc_t<T>* grad_weight,
                                acc_t<T>* grad_bias, acc_t<T>* grad_shortcut, int64_t begin, int64_t end) {
  visit_operands<T>(a.graph_pairs, [&]<class P>(P) {
    graph_backward<P>(a, grad, out, x, y1, y3, grad_z, norm1, norm3, values, static_cast<const P*>(weight_back), bias,
                      shortcut_back, grad_x, grad_values, grad_weight, grad_bias, grad_shortcut, begin, end);
  });
}

#define INSTANTIATE(T)                                                                                                 \
  template void stgcn_block_sums<T>(const STGCNBlock&, const T*, const T*, const T*, const T*, BlockNorm<acc_t<T>>,    \
                                    BlockNorm<acc_t<T>>, const uint8_t*, double*, int64_t, int64_t);                   \
  template void stgcn_block_conv_backward<T>(const STGCNBlock&, const T*, const T*, const uint8_t*, const T*,          \
                                             const T*, BlockNorm<acc_t<T>>, BlockNorm<acc_t<T>>, const void*, T*,      \
                                             double*, acc_t<T>*, int64_t, int64_t);                                    \
  template void stgcn_block_graph_backward<T>(const STGCNBlock&, const T*, const T*, const T*, const T*, const T*,     \
                                              const T*, BlockNorm<acc_t<T>>, BlockNorm<acc_t<T>>, const acc_t<T>*,     \
                                              const void*, const acc_t<T>*, const acc_t<T>*, T*, acc_t<T>*, acc_t<T>*, \
                                              acc_t<T>*, acc_t<T>*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
