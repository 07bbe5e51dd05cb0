// The convolution of nine taps over frames with 50 products for 27 outputs of 9 taps each, in place of 243, by nested
// minimal filtering (Winograd 1980; Lavin and Gray 2016; Agarwal and Burrus 1974 for the nesting). With tap 3 a + b and
// frame 3 u + w,
//
//   y[3 u + w] = sum over a, b of h[3 a + b] x[3 (u + a) + (w + b) - 4],
//
// a correlation of length three inside one of length three. Inside, F(3, 3) at the points 0, 1, -1, 2 and infinity:
// five products for three frames. Its tiles start every three frames, which is what lets one transformed tile serve all
// a. Outside, F(2, 3) at 0, 1, -1 and infinity over pairs of u: four products for six. A u that is left over takes its
// three products, of which the last falls away where its tile is all padding; if it is one frame alone, that takes the
// five taps that do not fall on padding as they are. The weight's gradient is the same
// correlation with the gradient as its taps, at the same points, so it reads the same transformed tiles.
//
// Rows [clip][pair][joint] of each of the 25 places (outside 0, 1, -1, infinity, left over; inside five) are one
// matrix. Where operands are Pairs, a product over channels takes rows of pairs of channels, and a product over rows
// (the weight's gradient) pairs of rows, of which a unit has `deep`, the last with a row of zeros where joints are odd.
#pragma once
#include "channel_rows.h"
#include "gemm.h"
#include "scratch.h"
#include "stgcn_block.h"

namespace asma {
namespace ASMA_ISA {
namespace {

constexpr int kInside = 5, kOutside = 5, kPlaces = kInside * kOutside, kLeft = 4;

template <class V> ASMA_INLINE void inside_input(const V (&x)[5], V (&to)[5]) {
  to[0] = (x[0] - x[2]) * 2 + (x[3] - x[1]);
  to[1] = x[3] - x[2] - x[1] * 2;
  to[2] = x[3] - x[2] * 3 + x[1] * 2;
  to[3] = x[3] - x[1];
  to[4] = (x[4] - x[2]) - (x[3] - x[1]) * 2;
}
template <class V> ASMA_INLINE void inside_filter(V h0, V h1, V h2, V (&to)[5]) {
  const V even = h0 + h2;
  to[0] = h0 / 2;
  to[1] = (even + h1) / -2;
  to[2] = (even - h1) / -6;
  to[3] = (h0 + h1 * 2 + h2 * 4) / 6;
  to[4] = h2;
}
template <class V> ASMA_INLINE void inside_output(const V (&m)[5], V (&to)[3]) {
  const V even = m[1] + m[2];
  to[0] = m[0] + even + m[3];
  to[1] = m[1] - m[2] + m[3] * 2;
  to[2] = even + m[3] * 4 + m[4];
}

// A: of the sums, P: of what is multiplied.
template <class A, class P = A> struct FastTemporalConv {
  using E = typename Operand<P>::stored;
  static constexpr int64_t kDepth = Operand<P>::depth;
  static constexpr int64_t kPanel = 64;  // channels out that are held between products and their sums
  const int64_t T, Q, D, units, pairs;   // units of three frames
  const bool left, tail, alone;          // a unit is left over; its last tile holds frames; it is one frame
  const bool backward;
  const int64_t width, padded, panel, deep;
  int64_t units_of[kOutside];   // pairs or units that a place has of a clip
  int64_t start[kOutside + 1];  // those of one clip before it, of one place inside
  Scratch<A> input, gradient;
  Scratch<P> tiles, filters;
  Scratch<A> products, sums;

  FastTemporalConv(const STGCNBlock& a, bool backward_)
      : T(a.graph.T),
        Q(a.graph.Q),
        D(a.graph.D),
        units((T + 2) / 3),
        pairs(units / 2),
        left(units % 2 == 1),
        tail(3 * units - 1 < T),
        alone(left && T % 3 == 1),
        backward(backward_),
        width(Q * D),
        padded(3 * units + 8),
        panel(D < kPanel ? D : kPanel),
        deep((Q + kDepth - 1) / kDepth),
        units_of{pairs + (left && !alone), pairs, pairs, pairs + (left && tail), left},
        start{},
        input(padded * width),
        gradient(backward ? a.conv_group * padded * width : 0),
        tiles(a.conv_group * all_units() * deep * D),
        filters(backward ? a.conv_group * all_units() * deep * D : 0),
        products(a.conv_group * all_units() * Q * panel),
        sums(backward ? kPlaces * D * D : 0) {
    input.zero(padded * width);
    gradient.zero(backward ? a.conv_group * padded * width : 0);
    for (int q = 0; q < kOutside; ++q) start[q + 1] = start[q] + units_of[q];
  }

  int64_t all_units() const { return kInside * (4 * pairs + left * (alone ? 1 : 2 + tail)); }
  // The first unit of a clip at a place, among `clips` of them.
  int64_t unit_of(int q, int p, int64_t clip, int64_t clips) const {
    return clips * (kInside * start[q] + p * units_of[q]) + clip * units_of[q];
  }
  // Operands of one unit.
  int64_t unit_size(bool over_rows) const { return over_rows ? deep * D : width / kDepth; }

  A* frame(int64_t t) { return input.data + (t + 4) * width; }
  A* gradient_frame(int64_t clip, int64_t t) { return gradient.data + (clip * padded + t + 4) * width; }
  // The backward wants the input for the weight's gradient alone.
  void take_input(int64_t clip, int64_t clips) {
    if (backward) transform_tiles<true>(input.data, clip, clips);
    else transform_tiles<false>(input.data, clip, clips);
  }
  void take_gradient(int64_t clip, int64_t clips) {
    transform_filters(gradient.data + clip * padded * width, clip, clips);
  }

  // The five places of a unit's tile, which begins with frame 3 u - 4.
  template <int L> ASMA_INLINE void tile_of(const A* frames, int64_t u, int64_t i, lanes_t<A, L> (&to)[5]) const {
    lanes_t<A, L> x[5];
#pragma GCC unroll 5
    for (int j = 0; j < 5; ++j) x[j] = load<L>(frames + (3 * u + j) * width + i);
    inside_input(x, to);
  }
  template <int L> ASMA_INLINE void filter_of(const A* frames, int64_t u, int64_t i, lanes_t<A, L> (&to)[5]) const {
    lanes_t<A, L> x[3];
#pragma GCC unroll 3
    for (int w = 0; w < 3; ++w) x[w] = load<L>(frames + (3 * u + w + 4) * width + i);
    inside_filter(x[0], x[1], x[2], to);
  }

  // Writes a unit to Count places: make<L>(i, numbers) gives number i of its width at each of them.
  template <bool OverRows, int Count, class Make> ASMA_INLINE void write_unit(P* const (&to)[Count], const Make& make) {
    if constexpr (OverRows && kDepth == 2) {
      for (int64_t row = 0; row < deep; ++row)
        for_lanes<kLanes<A>>(D, [&]<int L>(int64_t d) __attribute__((always_inline)) {
          lanes_t<A, L> first[Count], second[Count] = {};
          make.template operator()<L>(2 * row * D + d, first);
          if (2 * row + 1 < Q) make.template operator()<L>((2 * row + 1) * D + d, second);
#pragma GCC unroll 20
          for (int i = 0; i < Count; ++i) store_pairs<L>(to[i] + row * D + d, first[i], second[i]);
        });
    } else {
      for_lanes<kLanes<A>>(width, [&]<int L>(int64_t i) __attribute__((always_inline)) {
        lanes_t<A, L> numbers[Count];
        make.template operator()<L>(i, numbers);
#pragma GCC unroll 20
        for (int j = 0; j < Count; ++j) store_operand<L>(reinterpret_cast<E*>(to[j]) + i, numbers[j]);
      });
    }
  }
  // Where unit s of a clip lies at the places inside of outside `from` and those after it.
  template <bool OverRows, int Count>
  ASMA_INLINE void places(P* all, int from, int64_t s, int64_t clip, int64_t clips, P* (&to)[Count]) const {
    for (int i = 0; i < Count; ++i)
      to[i] = all + (unit_of(from + i / kInside, i % kInside, clip, clips) + s) * unit_size(OverRows);
  }

  template <bool OverRows> void transform_tiles(const A* frames, int64_t clip, int64_t clips) {
    for (int64_t s = 0; s < pairs; ++s) {
      P* to[20];
      places<OverRows>(tiles.data, 0, s, clip, clips, to);
      write_unit<OverRows>(to, [&]<int L>(int64_t i, lanes_t<A, L>(&numbers)[20]) __attribute__((always_inline)) {
        lanes_t<A, L> x[4][5];
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) tile_of<L>(frames, 2 * s + e, i, x[e]);
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p) {
          numbers[p] = x[0][p] - x[2][p];
          numbers[5 + p] = x[1][p] + x[2][p];
          numbers[10 + p] = x[2][p] - x[1][p];
          numbers[15 + p] = x[3][p] - x[1][p];
        }
      });
    }
    if (!left) return;
    P* to[5];
    if (alone) {
      places<OverRows>(tiles.data, kLeft, 0, clip, clips, to);
      write_unit<OverRows>(to, [&]<int L>(int64_t i, lanes_t<A, L>(&numbers)[5]) __attribute__((always_inline)) {
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p) numbers[p] = load<L>(frames + (T - 1 + p) * width + i);
      });
      return;
    }
    const int outside[3] = {0, kLeft, 3};
    for (int e = 0; e < 2 + tail; ++e) {
      places<OverRows>(tiles.data, outside[e], units_of[outside[e]] - 1, clip, clips, to);
      write_unit<OverRows>(to, [&]<int L>(int64_t i, lanes_t<A, L>(&numbers)[5])
                                   __attribute__((always_inline)) { tile_of<L>(frames, units - 1 + e, i, numbers); });
    }
  }

  void transform_filters(const A* frames, int64_t clip, int64_t clips) {
    for (int64_t s = 0; s < pairs; ++s) {
      P* to[20];
      places<true>(filters.data, 0, s, clip, clips, to);
      write_unit<true>(to, [&]<int L>(int64_t i, lanes_t<A, L>(&numbers)[20]) __attribute__((always_inline)) {
        lanes_t<A, L> x[2][5];
        filter_of<L>(frames, 2 * s, i, x[0]);
        filter_of<L>(frames, 2 * s + 1, i, x[1]);
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p) {
          numbers[p] = x[0][p];
          numbers[5 + p] = (x[0][p] + x[1][p]) / 2;
          numbers[10 + p] = (x[0][p] - x[1][p]) / 2;
          numbers[15 + p] = x[1][p];
        }
      });
    }
    if (!left) return;
    if (alone) {  // one gradient for all five
      P* one[1];
      places<true>(filters.data, kLeft, 0, clip, clips, one);
      write_unit<true>(one, [&]<int L>(int64_t i, lanes_t<A, L>(&numbers)[1]) __attribute__((always_inline)) {
        numbers[0] = load<L>(frames + (T - 1 + 4) * width + i);
      });
      return;
    }
    const int outside[3] = {0, kLeft, 3};
    for (int e = 0; e < 2 + tail; ++e) {
      P* to[5];
      places<true>(filters.data, outside[e], units_of[outside[e]] - 1, clip, clips, to);
      write_unit<true>(to, [&]<int L>(int64_t i, lanes_t<A, L>(&numbers)[5])
                               __attribute__((always_inline)) { filter_of<L>(frames, units - 1, i, numbers); });
    }
  }

  // out[clip][frame][joint][channel] of the transformed tiles and weights (places, D, D).
  void multiply_tiles(const P* weight, const A* bias, int64_t clips, A* out) {
    const int64_t depth = D / kDepth;
    for (int64_t d = 0; d < D; d += panel) {
      const int64_t channels = D - d < panel ? D - d : panel;
      for (int q = 0; q < kOutside; ++q)
        for (int p = 0, count = 1; p < kInside && units_of[q] > 0; p += count) {
          const int64_t row = unit_of(q, p, 0, clips) * Q;
          Segment<P> segments[kInside];
          count = alone && q == kLeft ? kInside : 1;
          for (int i = 0; i < count; ++i)
            segments[i] = {tiles.data + unit_of(q, p + i, 0, clips) * unit_size(false),
                           weight + (q * kInside + p + i) * depth * D + d};
          multiply(Product<A, P>{segments, count, depth, depth, 1, D, products.data + row * panel, panel, false},
                   clips * units_of[q] * Q, channels);
        }
      for (int64_t clip = 0; clip < clips; ++clip)
        for (int64_t u = 0; u < units; u += 2)
          for (int64_t v = 0; v < Q; ++v)
            for_lanes<kLanes<A>>(channels,
                                 [&]<int L>(int64_t i) { write_frames<L>(clip, clips, u, v, d, i, bias, out); });
    }
  }

  template <int L>
  ASMA_INLINE void write_frames(int64_t clip, int64_t clips, int64_t u, int64_t v, int64_t d, int64_t i, const A* bias,
                                A* out) const {
    using V = lanes_t<A, L>;
    const bool pair = u + 1 < units;
    const auto at = [&](int q, int p) __attribute__((always_inline)) {
      const int64_t unit = unit_of(q, p, clip, clips) + (q == kLeft ? 0 : u / 2);
      return load<L>(products.data + (unit * Q + v) * panel + i);
    };
    if (!pair && alone) {
      V y = at(kLeft, 0);
      if (bias) y += load<L>(bias + d + i);
      store<L>(out + (clip * T + T - 1) * width + v * D + d + i, y);
      return;
    }
    V m[2][5];
#pragma GCC unroll 5
    for (int p = 0; p < 5; ++p) {
      if (pair) {
        const V plus = at(1, p), minus = at(2, p);
        m[0][p] = at(0, p) + (plus + minus);
        m[1][p] = at(3, p) + (plus - minus);
      } else {
        m[0][p] = at(0, p) + at(kLeft, p);
        if (tail) m[0][p] += at(3, p);
      }
    }
    for (int e = 0; e < 1 + pair; ++e) {
      V y[3];
      inside_output(m[e], y);
#pragma GCC unroll 3
      for (int w = 0; w < 3; ++w) {
        const int64_t t = 3 * (u + e) + w;
        if (t >= T) break;
        if (bias) y[w] += load<L>(bias + d + i);
        store<L>(out + (clip * T + t) * width + v * D + d + i, y[w]);
      }
    }
  }

  void forward(const P* weight, const A* bias, int64_t clips, A* out) { multiply_tiles(weight, bias, clips, out); }

  // The sums at the places are kept until the end.
  void begin_weight_gradient(A*) { sums.zero(kPlaces * D * D); }
  void add_weight_gradient(int64_t clips, A*) {
    const int64_t unit = unit_size(true);
    for (int q = 0; q < kOutside; ++q)
      for (int p = 0; p < kInside && units_of[q] > 0; ++p) {
        const int64_t from = unit_of(q, p, 0, clips);
        const Segment<P> segment{tiles.data + from * unit,
                                 filters.data + (alone && q == kLeft ? unit_of(q, 0, 0, clips) : from) * unit};
        multiply(Product<A, P>{&segment, 1, clips * units_of[q] * deep, 1, D, D, sums.data + (q * kInside + p) * D * D,
                               D, true},
                 D, D);
      }
  }
  void end_weight_gradient(A* grad_weight) {
    const int64_t all = D * D;
    for_lanes<kLanes<A>>(all, [&]<int L>(int64_t i) {
      using V = lanes_t<A, L>;
      V m[3][5];
#pragma GCC unroll 5
      for (int p = 0; p < 5; ++p) {
        const auto at = [&](int q)
                            __attribute__((always_inline)) { return load<L>(sums.data + (q * kInside + p) * all + i); };
        const V plus = at(1), minus = at(2);
        m[0][p] = at(0) + (plus + minus);
        m[1][p] = plus - minus;
        if (!alone) m[1][p] += at(kLeft);
        m[2][p] = at(3) + (plus + minus);
      }
#pragma GCC unroll 3
      for (int a = 0; a < 3; ++a) {
        V h[3];
        inside_output(m[a], h);
#pragma GCC unroll 3
        for (int b = 0; b < 3; ++b)
          if (alone && 3 * a + b < kInside) h[b] += load<L>(sums.data + (kLeft * kInside + 3 * a + b) * all + i);
#pragma GCC unroll 3
        for (int b = 0; b < 3; ++b) store<L>(grad_weight + (3 * a + b) * all + i, h[b]);
      }
    });
  }

  void input_gradient(const P* weight_back, int64_t clips, A* to) {
    for (int64_t clip = 0; clip < clips; ++clip)
      transform_tiles<false>(gradient.data + clip * padded * width, clip, clips);
    multiply_tiles(weight_back, nullptr, clips, to);
  }
};

// weight (9, D, D) at the places, (25, D, D); `turned`: the last tap first. Rows [begin, end) of the D rows, or of the
// pairs of them.
template <class A, class P>
void transform_weight(const A* weight, int64_t T, int64_t D, bool turned, P* to, int64_t begin, int64_t end) {
  constexpr int kDepth = Operand<P>::depth;
  const bool alone = (T + 2) / 3 % 2 == 1 && T % 3 == 1;
  const int64_t all = D * D / kDepth;
  for (int64_t row = begin; row < end; ++row)
    for_lanes<kLanes<A>>(D, [&]<int L>(int64_t d) {
      using V = lanes_t<A, L>;
      V places[kDepth][kPlaces];
      for (int half = 0; half < kDepth; ++half) {
        const auto tap = [&](int k) __attribute__((always_inline)) {
          return load<L>(weight + (turned ? 8 - k : k) * D * D + (row * kDepth + half) * D + d);
        };
        V m[3][5];
#pragma GCC unroll 3
        for (int a = 0; a < 3; ++a) inside_filter(tap(3 * a), tap(3 * a + 1), tap(3 * a + 2), m[a]);
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p) {
          V* const at = places[half] + p;
          const V even = m[0][p] + m[2][p];
          at[0] = m[0][p];
          at[kInside] = (even + m[1][p]) / 2;
          at[2 * kInside] = (even - m[1][p]) / 2;
          at[3 * kInside] = m[2][p];
          at[kLeft * kInside] = alone ? tap(p) : m[1][p];
        }
      }
      for (int place = 0; place < kPlaces; ++place) {
        P* const at = to + place * all + row * D + d;
        if constexpr (kDepth == 2) store_pairs<L>(at, places[0][place], places[1][place]);
        else store_operand<L>(at, places[0][place]);
      }
    });
}

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
