// The network, per person: clips [frame][joint][channel], float32.
#pragma once
#include <cstdint>

#include "../cpu/isa.h"

namespace asma::edge {

enum class Residual : std::uint32_t { none = 0, identity = 1, shortcut = 2 };

// relu(convolution over frames(relu(graph convolution(x))) + residual(x)), all norms folded into its numbers.
struct Block {
  std::int64_t in, out, taps, stride;  // channels C and D
  Residual residual;
  bool fast;                             // by minimal filtering, with `places`
  std::int64_t frames_in, frames_out;    // T and T'
  const std::uint32_t *starts, *source;  // (V * K + 1): first nonzero of joint w, partition k; (nonzeros): from where
  const float* value;                    // (nonzeros)
  const float* weight;                   // (K, C, D)
  const float* base;                     // (V, D): what the graph convolution's bias and norm add
  const float* conv;                     // (taps, D, D): tap, channel in, channel out
  const float* bias;                     // (D), the shortcut's in it
  const float* shortcut;                 // (C, D) or null
  const float* places;                   // (25, D, D), conv transformed; null where not fast
};

struct Encoder {
  const float *scale, *shift;  // (V, C): the first norm
  const Block* blocks;
  std::int64_t count;
  std::int64_t joints, partitions, channels, frames, segments;
};

// Working memory, in numbers; `of` says how much of each an encoder needs.
struct Room {
  std::int64_t features;    // of a whole clip, twice
  std::int64_t shortcut;    // of a whole clip
  std::int64_t padded;      // the convolution's input
  std::int64_t aggregated;  // of some frames, for each partition
  std::int64_t target;      // of some frames and one joint
  std::int64_t tiles, products;
  std::int64_t sums;
};
struct Work {
  float *features[2], *shortcut, *padded, *aggregated, *target, *tiles, *products, *sums;
};

// Minimal filtering (csrc/cpu/fast_temporal_conv.h): frames of a pair of tiles, places, matrices of transformed
// weights.
constexpr std::int64_t kFastTaps = 9, kFastPad = 4, kPairFrames = 6, kPlacesUsed = 20, kPlacesStored = 25;
constexpr std::int64_t kFrameTile = 48;  // frames that the graph convolution takes together
constexpr std::int64_t kMostPartitions = 64, kMostTaps = 255;

Room room_of(const Encoder& encoder);
bool is_fast(std::int64_t taps, std::int64_t stride, std::int64_t frames);
std::int64_t pairs_together(const Block& block, std::int64_t joints);

}  // namespace asma::edge

ASMA_DECLARE_KERNEL(
    // conv (9, D, D) -> places (25, D, D)
    void edge_transform_weight(const float* conv, int64_t D, float* places);
    // x (T, V, C) -> out (segments, D of the last block)
    void edge_encode(const ::asma::edge::Encoder& encoder, const ::asma::edge::Work& work, const float* x, float* out);
    // out (columns) = bias + x (rows) weight (rows, columns), and relu where it is asked for
    void edge_dense(const float* x, const float* weight, const float* bias, int64_t rows, int64_t columns, bool relu,
                    float* out);)
