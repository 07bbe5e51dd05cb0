// The network, per person: clips [frame][joint][channel], float32 between blocks. What a product multiplies is float32,
// or is rounded to 16 bits before it, two along the depth (csrc/cpu/operand.h).
#pragma once
#include <cstdint>

#include "../cpu/isa.h"

namespace asma::edge {

enum class Residual : std::uint32_t { none = 0, identity = 1, shortcut = 2 };

enum class Operands : std::uint32_t {
  numbers,        // float32
  pairs,          // bfloat16, summed in float32
  integers,       // summed in int32
  fused_integers  // the same numbers, by AVX512_VNNI
};

// A block's weights where operands are pairs, along the channels in. Of integers, which are as many steps as they say:
// kept rows (the convolution's input) from 0 to 255, the graph convolution's and the shortcut's rows of 12 bits.
struct Pairs {
  const std::uint32_t *weight, *conv, *shortcut;  // (K, C / 2, D), (taps, D / 2, D), (C / 2, D) or null
  const std::uint32_t* places;  // (20, D / 2, D), of integers times kIntegerPlaces; null where not fast
  const float *weight_step, *conv_step, *shortcut_step;  // (D): what a sum of 1 is; of weight in steps of a kept row
  float rows_per_step, shortcut_per_step;                // what a row is multiplied by before it is rounded
};

// relu(convolution over frames(relu(graph convolution(x))) + residual(x)), all norms folded into its numbers.
struct Block {
  std::int64_t in, out, taps, stride;  // channels C and D
  Residual residual;
  bool fast;                             // by minimal filtering, with `places`
  std::int64_t frames_in, frames_out;    // T and T'
  const std::uint32_t *starts, *source;  // (V * K + 1): first nonzero of joint w, partition k; (nonzeros): from where
  const float* value;                    // (nonzeros)
  const float* weight;                   // (K, C, D)
  const float* base;      // (V, D): what the graph convolution's bias and norm add, in steps of a kept row
  const float* conv;      // (taps, D, D): tap, channel in, channel out
  const float* bias;      // (D), the shortcut's in it
  const float* shortcut;  // (C, D) or null
  const float* places;    // (25, D, D), conv transformed; null where not fast
  Pairs pairs;            // in place of weight, conv, shortcut and places, which are then null
};

struct Encoder {
  const float *scale, *shift;  // (V, C): the first norm
  const Block* blocks;
  std::int64_t count;
  std::int64_t joints, partitions, channels, frames, segments;
  std::int64_t features;  // channels of the last block, of which memory may have more
  Operands operands;
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
// Integers: the largest row of the graph convolution and of the shortcut, and of the convolution over frames; what
// makes transformed weights whole; the channels up to which sums of minimal filtering stay below 2^31.
constexpr std::int64_t kMostRow = 2047, kMostKept = 255, kIntegerPlaces = 12, kMostFastIntegers = 608;

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
