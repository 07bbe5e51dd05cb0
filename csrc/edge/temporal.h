// The convolution over frames of one person, and what follows it: relu(conv(y) + bias + residual). Included by
// network.cpp, once per instruction set.
//
// The input lies frame by frame with zeros around it. With nine taps and no stride six frames at a time are made by
// nested minimal filtering, 20 products in place of 54 (csrc/cpu/fast_temporal_conv.h explains it and has the
// transforms); up to three frames that are left over take those of their taps that do not fall on zeros. Everything
// else is one product with a segment for each tap, frames kept by phase of the stride.
#pragma once
#include "../cpu/fast_temporal_conv.h"
#include "network.h"
#include "rows.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// Six frames of minimal filtering are transformed as numbers, and as they are where they are integers.
template <class E> struct Tile {
  using type = float;
};
template <> struct Tile<int16_t> {
  using type = int16_t;
};

template <class P> struct Convolution {
  using E = Stored<P>;
  using TileNumber = typename Tile<E>::type;
  static constexpr int64_t kDepth = Operand<P>::depth;
  static constexpr int kTileLanes = kLaneBytes / static_cast<int>(sizeof(TileNumber));

  const edge::Block& block;
  const edge::Work& work;
  const int64_t V, D, width;  // width: numbers of a frame

  int64_t pad() const { return block.fast ? edge::kFastPad : block.taps / 2; }
  int64_t slots() const { return (block.frames_in - 1 + 2 * pad()) / block.stride + 1; }  // frames of a phase
  // Frame of the input with its padding, from 0.
  E* padded(int64_t frame) const {
    const int64_t place = block.fast ? frame : frame % block.stride * slots() + frame / block.stride;
    return reinterpret_cast<E*>(work.padded) + place * width;
  }
  E* input(int64_t frame) const { return padded(frame + pad()); }

  int64_t pairs() const { return (block.frames_in + 2) / edge::kPairFrames; }  // four frames or more fill one
  int64_t padded_frames() const {
    if (!block.fast) return slots() * block.stride;
    const int64_t tiles = pairs() * edge::kPairFrames + 8, least = block.frames_in + edge::kFastPad;
    return tiles > least ? tiles : least;
  }

  void clear_padding() const {
    const int64_t first = pad(), last = pad() + block.frames_in, all = padded_frames();
    for (int64_t frame = 0; frame < all; ++frame)
      if (frame < first || frame >= last) {
        E* const to = padded(frame);
        for (int64_t i = 0; i < width; ++i) to[i] = E{};
      }
  }

  void forward(const float* residual, float* out) const {
    const P* const weight = weights<P>(block.conv, block.pairs.conv);
    const int64_t tap = D / kDepth * D;
    if (!block.fast) {
      Segment<P> segments[edge::kMostTaps];
      for (int64_t k = 0; k < block.taps; ++k) segments[k] = {rows(padded(k)), weight + k * tap};
      direct(segments, block.taps, block.frames_out, residual, out);
      return;
    }
    const int64_t together = edge::pairs_together(block, V), count = pairs();
    for (int64_t pair = 0; pair < count; pair += together) {
      const int64_t some = count - pair < together ? count - pair : together;
      transform(pair, some);
      multiply_tiles(pair, some, residual, out);
    }
    for (int64_t t = count * edge::kPairFrames; t < block.frames_in; ++t) {
      Segment<P> segments[edge::kFastTaps];
      int64_t taps = 0;
      for (int64_t k = 0; k < edge::kFastTaps; ++k) {
        const int64_t from = t + k - edge::kFastPad;
        if (from >= 0 && from < block.frames_in) segments[taps++] = {rows(input(from)), weight + k * tap};
      }
      direct(segments, taps, 1, residual ? residual + t * width : nullptr, out + t * width);
    }
  }

  void direct(const Segment<P>* segments, int64_t taps, int64_t frames, const float* residual, float* out) const {
    const Product<Sum<P>, P> product{segments,
                                     taps,
                                     D / kDepth,
                                     D / kDepth,
                                     1,
                                     D,
                                     reinterpret_cast<Sum<P>*>(out),
                                     D,
                                     false,
                                     nullptr,
                                     starting_sums<P>(block.bias)};
    multiply(product, frames * V, D);
    if constexpr (kIntegers<P>) sums_to_numbers(out, frames * V, D, block.pairs.conv_step, block.bias);
    const int64_t size = frames * width;
    if (residual)
      for (int64_t i = 0; i < size; ++i) {
        const float y = out[i] + residual[i];
        out[i] = y < 0 ? 0.0f : y;
      }
    else
      for (int64_t i = 0; i < size; ++i) out[i] = out[i] < 0 ? 0.0f : out[i];
  }

  // tiles [place][pair][joint][channel] of pairs [first, first + count)
  void transform(int64_t first, int64_t count) const {
    const int64_t place = count * width;
    for (int64_t s = 0; s < count; ++s) {
      const E* const from = reinterpret_cast<const E*>(work.padded) + (first + s) * edge::kPairFrames * width;
      for_lanes<kTileLanes>(width, [&]<int L>(int64_t i) {
        lanes_t<TileNumber, L> x[4][5];
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) {
          lanes_t<TileNumber, L> frames[5];
#pragma GCC unroll 5
          for (int j = 0; j < 5; ++j) frames[j] = load<L>(from + (3 * e + j) * width + i);
          inside_input(frames, x[e]);
        }
        E* to = reinterpret_cast<E*>(work.tiles) + s * width + i;
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p) {
          store_operand<L>(to + p * place, x[0][p] - x[2][p]);
          store_operand<L>(to + (5 + p) * place, x[1][p] + x[2][p]);
          store_operand<L>(to + (10 + p) * place, x[2][p] - x[1][p]);
          store_operand<L>(to + (15 + p) * place, x[3][p] - x[1][p]);
        }
      });
    }
  }

  void multiply_tiles(int64_t first, int64_t count, const float* residual, float* out) const {
    const int64_t count_rows = count * V, most = FastTemporalConv<float>::kPanel, panel = D < most ? D : most;
    const E* const tiles = reinterpret_cast<const E*>(work.tiles);
    const P* const places = weights<P>(block.places, block.pairs.places);
    Sum<P>* const products = reinterpret_cast<Sum<P>*>(work.products);
    for (int64_t d = 0; d < D; d += panel) {
      const int64_t channels = D - d < panel ? D - d : panel;
      for (int place = 0; place < edge::kPlacesUsed; ++place) {
        const Segment<P> segment{rows(tiles + place * count_rows * D), places + place * (D / kDepth) * D + d};
        multiply(Product<Sum<P>, P>{&segment, 1, D / kDepth, D / kDepth, 1, D, products + place * count_rows * panel,
                                    panel, false},
                 count_rows, channels);
      }
      for (int64_t s = 0; s < count; ++s)
        for (int64_t v = 0; v < V; ++v)
          for_lanes<kLanes<float>>(channels, [&]<int L>(int64_t i) {
            write<L>(products + (s * V + v) * panel + i, count_rows * panel, (first + s) * edge::kPairFrames, v, d + i,
                     residual, out);
          });
    }
  }

  // Six frames from t on, of joint v and the channels from d on.
  template <int L>
  ASMA_INLINE void write(const Sum<P>* product, int64_t place, int64_t t, int64_t v, int64_t d, const float* residual,
                         float* out) const {
    // Integers are right modulo 2^32, and their results are smaller.
    using Lane = lanes_t<std::conditional_t<kIntegers<P>, uint32_t, float>, L>;
    Lane m[2][5];
#pragma GCC unroll 5
    for (int p = 0; p < 5; ++p) {
      const auto at = [&](int q) __attribute__((always_inline)) {
        return *reinterpret_cast<const Lane*>(product + (5 * q + p) * place);
      };
      const Lane plus = at(1), minus = at(2);
      m[0][p] = at(0) + (plus + minus);
      m[1][p] = at(3) + (plus - minus);
    }
    const lanes_t<float, L> bias = load<L>(block.bias + d);
#pragma GCC unroll 2
    for (int e = 0; e < 2; ++e) {
      Lane sums[3];
      inside_output(m[e], sums);
#pragma GCC unroll 3
      for (int w = 0; w < 3; ++w) {
        const int64_t frame = t + 3 * e + w, i = frame * width + v * D + d;
        if (frame >= block.frames_in) return;
        lanes_t<float, L> y = number<L>(sums[w], d) + bias;
        if (residual) y += load<L>(residual + i);
        store<L>(out + i, relu_of<L>(y));
      }
    }
  }

  template <int L, class Lane> ASMA_INLINE lanes_t<float, L> number(Lane sum, int64_t d) const {
    if constexpr (kIntegers<P>)
      return __builtin_convertvector(reinterpret_cast<lanes_t<int32_t, L>>(sum), lanes_t<float, L>) *
             (load<L>(block.pairs.conv_step + d) * (1.0f / edge::kIntegerPlaces));
    else return sum;
  }
  static const P* rows(const E* from) { return reinterpret_cast<const P*>(from); }
};

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
