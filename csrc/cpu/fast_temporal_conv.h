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
// matrix.
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

template <class A> struct FastTemporalConv {
  static constexpr int64_t kPanel = 64;  // channels out that are held between products and their sums
  const int64_t T, Q, D, units, pairs;   // units of three frames
  const bool left, tail, alone;          // a unit is left over; its last tile holds frames; it is one frame
  const int64_t width, padded, panel;
  int64_t rows_of[kOutside];    // pairs or units that a place has of a clip
  int64_t start[kOutside + 1];  // rows of one clip before it, of one place inside
  Scratch<A> input, gradient, tiles, filters, products, sums;

  FastTemporalConv(const STGCNBlock& a, bool backward)
      : T(a.graph.T),
        Q(a.graph.Q),
        D(a.graph.D),
        units((T + 2) / 3),
        pairs(units / 2),
        left(units % 2 == 1),
        tail(3 * units - 1 < T),
        alone(left && T % 3 == 1),
        width(Q * D),
        padded(3 * units + 8),
        panel(D < kPanel ? D : kPanel),
        rows_of{pairs + (left && !alone), pairs, pairs, pairs + (left && tail), left},
        start{},
        input(padded * width),
        gradient(backward ? a.conv_group * padded * width : 0),
        tiles(a.conv_group * all_rows() * D),
        filters(backward ? a.conv_group * all_rows() * D : 0),
        products(a.conv_group * all_rows() * panel),
        sums(backward ? kPlaces * D * D : 0) {
    input.zero(padded * width);
    gradient.zero(backward ? a.conv_group * padded * width : 0);
    for (int q = 0; q < kOutside; ++q) start[q + 1] = start[q] + rows_of[q] * Q;
  }

  int64_t all_rows() const { return kInside * Q * (4 * pairs + left * (alone ? 1 : 2 + tail)); }
  // The first row of a clip at a place, among `clips` of them.
  int64_t row_of(int q, int p, int64_t clip, int64_t clips) const {
    return clips * (kInside * start[q] + p * rows_of[q] * Q) + clip * rows_of[q] * Q;
  }

  A* frame(int64_t t) { return input.data + (t + 4) * width; }
  void take_input(int64_t clip, int64_t clips) { transform_tiles(input.data, clip, clips); }
  A* gradient_frame(int64_t clip, int64_t t) { return gradient.data + (clip * padded + t + 4) * width; }

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

  void copy(const A* from, A* to) const {
    for_lanes<kLanes<A>>(width, [&]<int L>(int64_t i) { store<L>(to + i, load<L>(from + i)); });
  }

  void transform_tiles(const A* frames, int64_t clip, int64_t clips) {
    for (int64_t s = 0; s < pairs; ++s)
      for_lanes<kLanes<A>>(width, [&]<int L>(int64_t i) {
        lanes_t<A, L> x[4][5];
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) tile_of<L>(frames, 2 * s + e, i, x[e]);
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p) {
          A* const to = tiles.data + s * width + i;
          store<L>(to + row_of(0, p, clip, clips) * D, x[0][p] - x[2][p]);
          store<L>(to + row_of(1, p, clip, clips) * D, x[1][p] + x[2][p]);
          store<L>(to + row_of(2, p, clip, clips) * D, x[2][p] - x[1][p]);
          store<L>(to + row_of(3, p, clip, clips) * D, x[3][p] - x[1][p]);
        }
      });
    if (!left) return;
    if (alone) {
      for (int p = 0; p < kInside; ++p)
        copy(frames + (T - 1 + p) * width, tiles.data + row_of(kLeft, p, clip, clips) * D);
      return;
    }
    const int outside[3] = {0, kLeft, 3};
    for (int e = 0; e < 2 + tail; ++e)
      for_lanes<kLanes<A>>(width, [&]<int L>(int64_t i) {
        lanes_t<A, L> x[5];
        tile_of<L>(frames, units - 1 + e, i, x);
        const int q = outside[e];
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p)
          store<L>(tiles.data + row_of(q, p, clip, clips) * D + (rows_of[q] - 1) * width + i, x[p]);
      });
  }

  void transform_filters(const A* frames, int64_t clip, int64_t clips) {
    for (int64_t s = 0; s < pairs; ++s)
      for_lanes<kLanes<A>>(width, [&]<int L>(int64_t i) {
        lanes_t<A, L> x[2][5];
        filter_of<L>(frames, 2 * s, i, x[0]);
        filter_of<L>(frames, 2 * s + 1, i, x[1]);
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p) {
          A* const to = filters.data + s * width + i;
          store<L>(to + row_of(0, p, clip, clips) * D, x[0][p]);
          store<L>(to + row_of(1, p, clip, clips) * D, (x[0][p] + x[1][p]) / 2);
          store<L>(to + row_of(2, p, clip, clips) * D, (x[0][p] - x[1][p]) / 2);
          store<L>(to + row_of(3, p, clip, clips) * D, x[1][p]);
        }
      });
    if (!left) return;
    if (alone) {  // one gradient for all five
      copy(frames + (T - 1 + 4) * width, filters.data + row_of(kLeft, 0, clip, clips) * D);
      return;
    }
    const int outside[3] = {0, kLeft, 3};
    for_lanes<kLanes<A>>(width, [&]<int L>(int64_t i) {
      lanes_t<A, L> x[5];
      filter_of<L>(frames, units - 1, i, x);
      for (int e = 0; e < 2 + tail; ++e) {
        const int q = outside[e];
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p)
          store<L>(filters.data + row_of(q, p, clip, clips) * D + (rows_of[q] - 1) * width + i, x[p]);
      }
    });
  }

  // out[clip][frame][joint][channel] of the transformed tiles and weights (places, D, D).
  void multiply_tiles(const A* weight, const A* bias, int64_t clips, A* out) {
    for (int64_t d = 0; d < D; d += panel) {
      const int64_t channels = D - d < panel ? D - d : panel;
      for (int q = 0; q < kOutside; ++q)
        for (int p = 0, count = 1; p < kInside && rows_of[q] > 0; p += count) {
          const int64_t row = row_of(q, p, 0, clips);
          Segment<A> segments[kInside];
          count = alone && q == kLeft ? kInside : 1;
          for (int i = 0; i < count; ++i)
            segments[i] = {tiles.data + row_of(q, p + i, 0, clips) * D, weight + (q * kInside + p + i) * D * D + d};
          multiply(Product<A>{segments, count, D, D, 1, D, products.data + row * panel, panel, false},
                   clips * rows_of[q] * Q, channels);
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
    if (!pair && alone) {
      V y = load<L>(products.data + (row_of(kLeft, 0, clip, clips) + v) * panel + i);
      if (bias) y += load<L>(bias + d + i);
      store<L>(out + (clip * T + T - 1) * width + v * D + d + i, y);
      return;
    }
    V m[2][5];
#pragma GCC unroll 5
    for (int p = 0; p < 5; ++p) {
      const auto at = [&](int q) __attribute__((always_inline)) {
        return load<L>(products.data + (row_of(q, p, clip, clips) + (q == kLeft ? 0 : u / 2) * Q + v) * panel + i);
      };
      if (pair) {
        const V plus = at(1), minus = at(2);
        m[0][p] = at(0) + (plus + minus);
        m[1][p] = at(3) + (plus - minus);
      } else {
        m[0][p] = at(0) + at(kLeft);
        if (tail) m[0][p] += at(3);
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

  void forward(const A* weight, const A* bias, int64_t clips, A* out) { multiply_tiles(weight, bias, clips, out); }

  // The sums at the places are kept until the end.
  void begin_weight_gradient(A*) { sums.zero(kPlaces * D * D); }
  void add_weight_gradient(int64_t clips, A*) {
    for (int64_t clip = 0; clip < clips; ++clip) transform_filters(gradient.data + clip * padded * width, clip, clips);
    for (int q = 0; q < kOutside; ++q)
      for (int p = 0; p < kInside && rows_of[q] > 0; ++p) {
        const int64_t row = row_of(q, p, 0, clips);
        const Segment<A> segment{tiles.data + row * D,
                                 filters.data + (alone && q == kLeft ? row_of(q, 0, 0, clips) : row) * D};
        multiply(
            Product<A>{&segment, 1, clips * rows_of[q] * Q, 1, D, D, sums.data + (q * kInside + p) * D * D, D, true}, D,
            D);
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

  void input_gradient(const A* weight_back, int64_t clips, A* to) {
    for (int64_t clip = 0; clip < clips; ++clip) transform_tiles(gradient.data + clip * padded * width, clip, clips);
    multiply_tiles(weight_back, nullptr, clips, to);
  }
};

// weight (9, D, D) at the places, (25, D, D); `turned`: the last tap first. Numbers [begin, end) of the D * D.
template <class A>
void transform_weight(const A* weight, int64_t T, int64_t D, bool turned, A* to, int64_t begin, int64_t end) {
  const bool alone = (T + 2) / 3 % 2 == 1 && T % 3 == 1;
  const int64_t all = D * D;
  for_lanes<kLanes<A>>(end - begin, [&]<int L>(int64_t j) {
    using V = lanes_t<A, L>;
    const int64_t i = begin + j;
    V m[3][5];
#pragma GCC unroll 3
    for (int a = 0; a < 3; ++a) {
      const auto tap = [&](int b) __attribute__((always_inline)) {
        return load<L>(weight + (turned ? 8 - 3 * a - b : 3 * a + b) * all + i);
      };
      inside_filter(tap(0), tap(1), tap(2), m[a]);
    }
#pragma GCC unroll 5
    for (int p = 0; p < 5; ++p) {
      const V even = m[0][p] + m[2][p];
      store<L>(to + p * all + i, m[0][p]);
      store<L>(to + (kInside + p) * all + i, (even + m[1][p]) / 2);
      store<L>(to + (2 * kInside + p) * all + i, (even - m[1][p]) / 2);
      store<L>(to + (3 * kInside + p) * all + i, m[2][p]);
      const V tap = load<L>(weight + (turned ? 8 - p : p) * all + i);
      store<L>(to + (kLeft * kInside + p) * all + i, alone ? tap : m[1][p]);
    }
  });
}

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
