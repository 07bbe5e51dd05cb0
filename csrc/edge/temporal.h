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

namespace asma {
namespace ASMA_ISA {
namespace {

// NaN stays NaN, as in PyTorch's.
template <int L> ASMA_INLINE lanes_t<float, L> relu_of(lanes_t<float, L> x) {
  return x < 0.0f ? lanes_t<float, L>{} : x;
}

struct Convolution {
  const edge::Block& block;
  const edge::Work& work;
  const int64_t V, D, width;  // width: numbers of a frame

  int64_t pad() const { return block.fast ? edge::kFastPad : block.taps / 2; }
  int64_t slots() const { return (block.frames_in - 1 + 2 * pad()) / block.stride + 1; }  // frames of a phase
  // Frame of the input with its padding, from 0.
  float* padded(int64_t frame) const {
    if (block.fast) return work.padded + frame * width;
    return work.padded + (frame % block.stride * slots() + frame / block.stride) * width;
  }
  float* input(int64_t frame) const { return padded(frame + pad()); }

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
        float* const to = padded(frame);
        for (int64_t i = 0; i < width; ++i) to[i] = 0;
      }
  }

  void forward(const float* residual, float* out) const {
    if (!block.fast) {
      Segment<float> segments[edge::kMostTaps];
      for (int64_t k = 0; k < block.taps; ++k) segments[k] = {padded(k), block.conv + k * D * D};
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
      Segment<float> segments[edge::kFastTaps];
      int64_t taps = 0;
      for (int64_t k = 0; k < edge::kFastTaps; ++k) {
        const int64_t from = t + k - edge::kFastPad;
        if (from >= 0 && from < block.frames_in) segments[taps++] = {input(from), block.conv + k * D * D};
      }
      direct(segments, taps, 1, residual ? residual + t * width : nullptr, out + t * width);
    }
  }

  void direct(const Segment<float>* segments, int64_t taps, int64_t frames, const float* residual, float* out) const {
    multiply(Product<float>{segments, taps, D, D, 1, D, out, D, false, nullptr, block.bias}, frames * V, D);
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
      const float* const from = work.padded + (first + s) * edge::kPairFrames * width;
      for_lanes<kLanes<float>>(width, [&]<int L>(int64_t i) {
        lanes_t<float, L> x[4][5];
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) {
          lanes_t<float, L> frames[5];
#pragma GCC unroll 5
          for (int j = 0; j < 5; ++j) frames[j] = load<L>(from + (3 * e + j) * width + i);
          inside_input(frames, x[e]);
        }
        float* to = work.tiles + s * width + i;
#pragma GCC unroll 5
        for (int p = 0; p < 5; ++p) {
          store<L>(to + p * place, x[0][p] - x[2][p]);
          store<L>(to + (5 + p) * place, x[1][p] + x[2][p]);
          store<L>(to + (10 + p) * place, x[2][p] - x[1][p]);
          store<L>(to + (15 + p) * place, x[3][p] - x[1][p]);
        }
      });
    }
  }

  void multiply_tiles(int64_t first, int64_t count, const float* residual, float* out) const {
    const int64_t rows = count * V, most = FastTemporalConv<float>::kPanel, panel = D < most ? D : most;
    for (int64_t d = 0; d < D; d += panel) {
      const int64_t channels = D - d < panel ? D - d : panel;
      for (int place = 0; place < edge::kPlacesUsed; ++place) {
        const Segment<float> segment{work.tiles + place * rows * D, block.places + place * D * D + d};
        multiply(Product<float>{&segment, 1, D, D, 1, D, work.products + place * rows * panel, panel, false}, rows,
                 channels);
      }
      for (int64_t s = 0; s < count; ++s)
        for (int64_t v = 0; v < V; ++v)
          for_lanes<kLanes<float>>(channels, [&]<int L>(int64_t i) {
            write<L>(work.products + (s * V + v) * panel + i, rows * panel, (first + s) * edge::kPairFrames, v, d + i,
                     residual, out);
          });
    }
  }

  // Six frames from t on, of joint v and the channels from d on.
  template <int L>
  ASMA_INLINE void write(const float* product, int64_t place, int64_t t, int64_t v, int64_t d, const float* residual,
                         float* out) const {
    using Lane = lanes_t<float, L>;
    Lane m[2][5];
#pragma GCC unroll 5
    for (int p = 0; p < 5; ++p) {
      const auto at = [&](int q) __attribute__((always_inline)) { return load<L>(product + (5 * q + p) * place); };
      const Lane plus = at(1), minus = at(2);
      m[0][p] = at(0) + (plus + minus);
      m[1][p] = at(3) + (plus - minus);
    }
    const Lane bias = load<L>(block.bias + d);
#pragma GCC unroll 2
    for (int e = 0; e < 2; ++e) {
      Lane y[3];
      inside_output(m[e], y);
#pragma GCC unroll 3
      for (int w = 0; w < 3; ++w) {
        const int64_t frame = t + 3 * e + w, i = frame * width + v * D + d;
        if (frame >= block.frames_in) return;
        y[w] += bias;
        if (residual) y[w] += load<L>(residual + i);
        store<L>(out + i, relu_of<L>(y[w]));
      }
    }
  }
};

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
