#include "network.h"

namespace asma::edge {
namespace {

constexpr std::int64_t kTileNumbers = 48 * 1024;  // of tiles that are worked on at a time: they stay in the cache

std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

}  // namespace

// Below four frames no pair of tiles would be filled.
bool is_fast(std::int64_t taps, std::int64_t stride, std::int64_t frames) {
  return taps == kFastTaps && stride == 1 && frames >= 4;
}

std::int64_t pairs_together(const Block& block, std::int64_t joints) {
  return larger(kTileNumbers / (kPlacesUsed * joints * block.out), 1);
}

Room room_of(const Encoder& encoder) {
  Room room{};
  const std::int64_t V = encoder.joints;
  room.features = encoder.frames * V * encoder.blocks[0].in;
  for (std::int64_t b = 0; b < encoder.count; ++b) {
    const Block& block = encoder.blocks[b];
    const std::int64_t out = block.frames_out * V * block.out;
    const std::int64_t tile = block.frames_in < kFrameTile ? block.frames_in : kFrameTile;
    const std::int64_t pad = block.fast ? 2 * kPairFrames + 8 : block.taps + block.stride;
    room.features = larger(room.features, out);
    if (block.residual == Residual::shortcut) room.shortcut = larger(room.shortcut, out);
    room.padded = larger(room.padded, (block.frames_in + pad) * V * block.out);
    // Pairs of a shortcut's frame lie there too.
    room.aggregated = larger(room.aggregated, larger(encoder.partitions * tile, V) * block.in);
    room.target = larger(room.target, tile * block.out);
    if (block.fast) {
      const std::int64_t tiles = kPlacesUsed * pairs_together(block, V) * V * block.out;
      room.tiles = larger(room.tiles, tiles);
    }
  }
  room.products = room.tiles;
  const Block& last = encoder.blocks[encoder.count - 1];
  room.sums = last.frames_out * last.out;
  return room;
}

}  // namespace asma::edge
