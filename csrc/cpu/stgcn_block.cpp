// A block of ST-GCN. Each pass over the features does all that can be done while a clip is in the cache: a convolution
// sums what the next norm needs of its result, and the norm is applied where the next convolution reads it. Every clip
// is handled by itself, so that results do not depend on threads; sums over clips are partial results of the binding.
#include "stgcn_block.h"

#include "channel_rows.h"
#include "fast_temporal_conv.h"
#include "graph_conv_tile.h"
#include "temporal_conv.h"

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
int64_t group_size(const STGCNBlock& a) { return a.graph.joints_row != 0 || a.group < 1 ? 1 : a.group; }

template <class T>
void load_group(const STGCNBlock& a, const T* x, int64_t n, int64_t clips, acc_t<T>* tile) {
  const GraphConv& g = a.graph;
  const int64_t F = clips * g.T;
  for (int64_t clip = 0; clip < clips; ++clip)
    for (int64_t t = 0; t < g.T; ++t)
      gather_transposed(x + (n + clip) * g.sn + t * g.st, g.sc, g.sv, tile + (clip * g.T + t) * g.C, F * g.C, g.C, g.J);
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

template <class Conv, class T>
void convolve(const STGCNBlock& a, const T* y1, const BlockNorm<acc_t<T>>& norm1, const acc_t<T>* weight,
              const acc_t<T>* bias, T* y2, double* moments2, int64_t begin, int64_t end) {
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

template <class Conv, class T>
void convolve_backward(const STGCNBlock& a, const T* grad, const T* out, const uint8_t* kept, const T* y1, const T* y2,
                       const BlockNorm<acc_t<T>>& norm1, const BlockNorm<acc_t<T>>& norm2, const acc_t<T>* weight_back,
                       acc_t<T>* grad_z, double* sums, acc_t<T>* grad_weight, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const GraphConv& g = a.graph;
  const int64_t frame = g.Q * g.D, size = a.frames * frame, size1 = g.T * frame, group = a.conv_group;
  Conv conv(a, true);
  conv.begin_weight_gradient(grad_weight);
  Scratch<A> scratch(size), of_z(group * size1);
  const A factor = static_cast<A>(a.kept);
  for (int64_t n = begin; n < end; n += group) {
    const int64_t clips = end - n < group ? end - n : group;
    for (int64_t clip = 0; clip < clips; ++clip) {
      load_normed(a, norm1, y1 + (n + clip) * size1, conv);
      conv.take_input(clip, clips);
      const A* given = channel_rows(grad + (n + clip) * g.gn, g.gc, g.gt, g.gv, g.D, a.frames, g.Q, scratch.data);
      const int64_t first = (n + clip) * size;
      for (int64_t t = 0; t < a.frames; ++t) {
        A* to = conv.gradient_frame(clip, t);
        for (int64_t row = 0; row < g.Q; ++row)
          for_lanes<kLanes<T>>(g.D, [&]<int L>(int64_t d) {
            const int64_t i = (t * g.Q + row) * g.D + d;
            auto behind = where_positive<L, A>(load<L>(out + first + i), load<L>(given + i));
            if (a.drops) behind = where_kept<L, A>(kept + first + i, behind * factor);
            store<L>(to + row * g.D + d, norm_gradient<L>(norm2, behind, load<L>(y2 + first + i), d));
          });
      }
    }
    conv.add_weight_gradient(clips, grad_weight);
    conv.input_gradient(weight_back, clips, of_z.data);
    for (int64_t clip = 0; clip < clips; ++clip) {
      const T* from1 = y1 + (n + clip) * size1;
      const A* from = of_z.data + clip * size1;
      A* to = grad_z + (n + clip) * size1;
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

// to = the gradient of y1 in its clip, [frame][joint][channel].
template <class T>
void gradient_of_y1(const STGCNBlock& a, const BlockNorm<acc_t<T>>& norm1, const acc_t<T>* grad_z, const T* y1,
                    int64_t rows, acc_t<T>* to) {
  const int64_t D = a.graph.D;
  for (int64_t row = 0; row < rows; ++row)
    for_lanes<kLanes<T>>(D, [&]<int L>(int64_t d) {
      const int64_t i = row * D + d;
      store<L>(to + i, norm_gradient<L>(norm1, load<L>(grad_z + i), load<L>(y1 + i), d));
    });
}

}  // namespace

template <class T>
void stgcn_block_graph(const STGCNBlock& a, const T* x, const acc_t<T>* values, const acc_t<T>* weight,
                       const acc_t<T>* bias, const acc_t<T>* by_shortcut, const acc_t<T>* shortcut_bias, T* y1, T* y3,
                       double* moments1, double* moments3, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  constexpr bool narrow = sizeof(T) != sizeof(A);
  const GraphConv& g = a.graph;
  const int64_t group = group_size(a), most = group * g.T, size = g.T * g.Q * g.D, size3 = a.frames * g.Q * g.D;
  Edges edges(g);
  Scratch<A> tile(g.J * most * g.C), aggregated(g.K * most * g.C), result(narrow ? group * size : 0),
      result3(narrow && a.shortcut ? size3 : 0), plane(g.D * g.Q), by_joint(g.Q * g.D), rows(g.T * g.J * g.C);
  Scratch<Segment<A>> segments(g.K);
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
        if (aggregate(edges, values, tile.data, w, k, block, aggregated.data + k * block))
          segments[count++] = {aggregated.data + k * block, weight + k * g.C * g.D};
      multiply(Product<A>{segments.data, count, g.C, g.C, 1, g.D, to + w * g.D, g.Q * g.D, false, nullptr,
                          bias ? by_joint.data + w * g.D : nullptr},
               F, g.D);
    }
    store_rows(to, clips * size, y1 + n * size);
    for (int64_t clip = n; clip < n + clips; ++clip)
      moments_of(to + (clip - n) * size, g.T * g.Q, g.D, moments1 + clip * 2 * g.D);
    for (int64_t clip = n; a.shortcut && clip < n + clips; ++clip) {
      const A* from = channel_rows(x + clip * g.sn, g.sc, g.st, g.sv, g.C, g.T, g.J, rows.data);
      A* to3 = room(y3 + clip * size3, result3.data);
      const int64_t runs = a.stride == 1 ? 1 : a.frames;  // without a stride all frames are one product
      for (int64_t t = 0; t < runs; ++t) {
        const Segment<A> segment{from + t * a.stride * g.J * g.C, by_shortcut};
        multiply(Product<A>{&segment, 1, g.C, g.C, 1, g.D, to3 + t * g.Q * g.D, g.D, false, nullptr, shortcut_bias},
                 a.frames / runs * g.Q, g.D);
      }
      store_rows(to3, size3, y3 + clip * size3);
      moments_of(to3, a.frames * g.Q, g.D, moments3 + clip * 2 * g.D);
    }
  }
}

template <class T>
void stgcn_block_conv_weight(const STGCNBlock& a, const acc_t<T>* weight, bool turned, acc_t<T>* to, int64_t begin,
                             int64_t end) {
  transform_weight(weight, a.graph.T, a.graph.D, turned, to, begin, end);
}

template <class T>
void stgcn_block_conv(const STGCNBlock& a, const T* y1, BlockNorm<acc_t<T>> norm1, const acc_t<T>* weight,
                      const acc_t<T>* bias, T* y2, double* moments2, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const auto with = a.fast ? &convolve<FastTemporalConv<A>, T> : &convolve<TemporalConv<A>, T>;
  with(a, y1, norm1, weight, bias, y2, moments2, begin, end);
}

template <class T>
void stgcn_block_out(const STGCNBlock& a, const T* x, const T* y2, const T* y3, BlockNorm<acc_t<T>> norm2,
                     BlockNorm<acc_t<T>> norm3, T* out, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const GraphConv& g = a.graph;
  const int64_t rows = a.frames * g.Q, size = rows * g.D;
  Scratch<uint8_t> kept(a.drops ? size : 0);
  Scratch<A> scratch(a.identity ? size : 0);
  const A factor = static_cast<A>(a.kept);
  for (int64_t n = begin; n < end; ++n) {
    if (a.drops) draw_kept(a.random, a.last, static_cast<uint32_t>(n), size, kept.data);
    const A* same = a.identity ? channel_rows(x + n * g.sn, g.sc, g.st, g.sv, g.C, g.T, g.J, scratch.data) : nullptr;
    const T *from2 = y2 + n * size, *from3 = a.shortcut ? y3 + n * size : nullptr;
    T* to = out + n * size;
    for (int64_t row = 0; row < rows; ++row)
      for_lanes<kLanes<T>>(g.D, [&]<int L>(int64_t d) {
        const int64_t i = row * g.D + d;
        lanes_t<A, L> sum = normed<L>(norm2, load<L>(from2 + i), d);
        if (a.drops) sum = where_kept<L, A>(kept.data + i, sum * factor);
        if (a.identity) sum += load<L>(same + i);
        if (a.shortcut) sum += normed<L>(norm3, load<L>(from3 + i), d);
        store<L>(to + i, relu<L, A>(sum));
      });
  }
}

template <class T>
void stgcn_block_sums(const STGCNBlock& a, const T* grad, const T* out, const T* y2, const T* y3,
                      BlockNorm<acc_t<T>> norm2, BlockNorm<acc_t<T>> norm3, uint8_t* kept, double* sums, int64_t begin,
                      int64_t end) {
  using A = acc_t<T>;
  const GraphConv& g = a.graph;
  const int64_t rows = a.frames * g.Q, size = rows * g.D;
  Scratch<A> scratch(size);
  const A factor = static_cast<A>(a.kept);
  for (int64_t n = begin; n < end; ++n) {
    uint8_t* keep = a.drops ? kept + n * size : nullptr;
    if (a.drops) draw_kept(a.random, a.last, static_cast<uint32_t>(n), size, keep);
    const A* given = channel_rows(grad + n * g.gn, g.gc, g.gt, g.gv, g.D, a.frames, g.Q, scratch.data);
    const T *result = out + n * size, *from2 = y2 + n * size, *from3 = a.shortcut ? y3 + n * size : nullptr;
    double* to = sums + n * 4 * g.D;
    for_lanes<kLanes<T>>(g.D, [&]<int L>(int64_t d) {
      using Lane = lanes_t<A, L>;
      sum_rows<2, L, A>(rows, to + d, g.D, [&](int64_t row, Lane* sum) __attribute__((always_inline)) {
        const int64_t i = row * g.D + d;
        Lane gradient = where_positive<L, A>(load<L>(result + i), load<L>(given + i));
        if (a.drops) gradient = where_kept<L, A>(keep + i, gradient * factor);
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
                               const acc_t<T>* weight_back, acc_t<T>* grad_z, double* sums, acc_t<T>* grad_weight,
                               int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const auto with = a.fast ? &convolve_backward<FastTemporalConv<A>, T> : &convolve_backward<TemporalConv<A>, T>;
  with(a, grad, out, kept, y1, y2, norm1, norm2, weight_back, grad_z, sums, grad_weight, begin, end);
}

template <class T>
void stgcn_block_graph_backward(const STGCNBlock& a, const T* grad, const T* out, const T* x, const T* y1, const T* y3,
                                const acc_t<T>* grad_z, BlockNorm<acc_t<T>> norm1, BlockNorm<acc_t<T>> norm3,
                                const acc_t<T>* values, const acc_t<T>* weight_back, const acc_t<T>* bias,
                                const acc_t<T>* shortcut_back, T* grad_x, acc_t<T>* grad_values, acc_t<T>* grad_weight,
                                acc_t<T>* grad_bias, acc_t<T>* grad_shortcut, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  const GraphConv& g = a.graph;
  const int64_t group = group_size(a), most = group * g.T, size = g.T * g.Q * g.D, size_x = g.T * g.J * g.C;
  const int64_t size3 = a.frames * g.Q * g.D;
  Edges edges(g);
  Scratch<A> tile(g.J * most * g.C), input_tile(g.J * most * g.C), aggregated(g.Q * most * g.C), input(most * g.C),
      gradient(group * size), sums(g.Q * g.D), of_residual(a.shortcut || a.identity ? size3 : 0),
      scratch(a.shortcut || a.identity ? size3 : 0), rows(a.shortcut ? size_x : 0),
      result(sizeof(T) != sizeof(A) ? size_x : 0);
  Scratch<Segment<A>> segments(g.Q);
  const auto begin_sums = [](A* sums_of, int64_t count) {
    for (int64_t i = 0; i < count; ++i) sums_of[i] = A(0);
  };
  begin_sums(grad_values, g.E);
  begin_sums(grad_weight, g.K * g.C * g.D);
  begin_sums(grad_bias, bias ? g.K * g.D : 0);
  begin_sums(grad_shortcut, a.shortcut ? g.C * g.D : 0);
  for (int64_t n = begin; n < end; n += group) {
    const int64_t clips = end - n < group ? end - n : group, F = clips * g.T, block = F * g.C;
    if (n == begin || g.joints_row != 0) edges.build(g, n);
    load_group(a, x, n, clips, tile.data);
    gradient_of_y1(a, norm1, grad_z + n * size, y1 + n * size, clips * g.T * g.Q, gradient.data);
    input_tile.zero(g.J * block);
    for (int64_t k = 0; k < g.K; ++k) {
      int64_t count = 0;
      for (int64_t w = 0; w < g.Q; ++w)
        if (aggregate(edges, values, tile.data, w, k, block, aggregated.data + w * block))
          segments[count++] = {aggregated.data + w * block, gradient.data + w * g.D};
      multiply(Product<A>{segments.data, count, F, 1, g.C, g.Q * g.D, grad_weight + k * g.C * g.D, g.D, true}, g.C,
               g.D);
      for (int64_t w = 0; w < g.Q; ++w) {
        const int64_t first = edges.first(w, k), last = edges.last(w, k);
        if (first == last) continue;
        const Segment<A> over_channels{gradient.data + w * g.D, weight_back + k * g.D * g.C};
        multiply(Product<A>{&over_channels, 1, g.D, g.Q * g.D, 1, g.C, input.data, g.C, false}, F, g.C);
        for (int64_t e = first; e < last; ++e) {
          const int64_t number = edges.number[e], source = edges.source[e] * block;
          scaled(input_tile.data + source, input.data, values[number], block, true);
          grad_values[number] += dot(tile.data + source, input.data, block);
        }
      }
    }
    if (bias) {
      sums.zero(g.Q * g.D);
      for (int64_t f = 0; f < F; ++f) scaled(sums.data, gradient.data + f * g.Q * g.D, A(1), g.Q * g.D, true);
      for (int64_t w = 0; w < g.Q; ++w)
        for (int64_t k = 0; k < g.K; ++k)
          for (int64_t e = edges.first(w, k); e < edges.last(w, k); ++e) {
            const int64_t number = edges.number[e];
            scaled(grad_bias + k * g.D, sums.data + w * g.D, values[number], g.D, true);
            grad_values[number] += dot(bias + k * g.D, sums.data + w * g.D, g.D);
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

#define INSTANTIATE(T)                                                                                                \
  template void stgcn_block_conv_weight<T>(const STGCNBlock&, const acc_t<T>*, bool, acc_t<T>*, int64_t, int64_t);    \
  template void stgcn_block_graph<T>(const STGCNBlock&, const T*, const acc_t<T>*, const acc_t<T>*, const acc_t<T>*,  \
                                     const acc_t<T>*, const acc_t<T>*, T*, T*, double*, double*, int64_t, int64_t);   \
  template void stgcn_block_conv<T>(const STGCNBlock&, const T*, BlockNorm<acc_t<T>>, const acc_t<T>*,                \
                                    const acc_t<T>*, T*, double*, int64_t, int64_t);                                  \
  template void stgcn_block_out<T>(const STGCNBlock&, const T*, const T*, const T*, BlockNorm<acc_t<T>>,              \
                                   BlockNorm<acc_t<T>>, T*, int64_t, int64_t);                                        \
  template void stgcn_block_sums<T>(const STGCNBlock&, const T*, const T*, const T*, const T*, BlockNorm<acc_t<T>>,   \
                                    BlockNorm<acc_t<T>>, uint8_t*, double*, int64_t, int64_t);                        \
  template void stgcn_block_conv_backward<T>(const STGCNBlock&, const T*, const T*, const uint8_t*, const T*,         \
                                             const T*, BlockNorm<acc_t<T>>, BlockNorm<acc_t<T>>, const acc_t<T>*,     \
                                             acc_t<T>*, double*, acc_t<T>*, int64_t, int64_t);                        \
  template void stgcn_block_graph_backward<T>(const STGCNBlock&, const T*, const T*, const T*, const T*, const T*,    \
                                              const acc_t<T>*, BlockNorm<acc_t<T>>, BlockNorm<acc_t<T>>,              \
                                              const acc_t<T>*, const acc_t<T>*, const acc_t<T>*, const acc_t<T>*, T*, \
                                              acc_t<T>*, acc_t<T>*, acc_t<T>*, acc_t<T>*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
