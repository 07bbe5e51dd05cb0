#include "weights.h"

#include <cmath>

#include "../common/scalar.h"

namespace asma::edge {
namespace {

// Of a matrix of the file, number by number.
struct Numbers {
  const void* stored;
  Precision precision;

  float operator[](std::int64_t i) const {
    if (precision == Precision::int8) return static_cast<float>(static_cast<const std::int8_t*>(stored)[i]);
    if (precision == Precision::bfloat16) return widen(static_cast<const bf16*>(stored)[i]);
    return static_cast<const float*>(stored)[i];
  }
};

std::uint32_t bits_of(float number, Operands operands) {
  return operands == Operands::pairs ? Narrow<bf16>::from(number).bits
                                     : static_cast<std::uint16_t>(static_cast<std::int16_t>(std::lrint(number)));
}

class Maker {
 public:
  Maker(Memory* memory, Operands operands, const Block& block) : memory_(memory), operands_(operands), block_(block) {}

  // The same numbers as float32.
  const float* widened(Numbers from, std::int64_t count) {
    float* const to = memory_->take<float>(count);
    for (std::int64_t i = 0; to && i < count; ++i) to[i] = from[i];
    return to;
  }

  // `count` matrices (C, D), times `factor`, as pairs (C / 2, D) of the channels in memory.
  template <class From>
  const std::uint32_t* paired(const From& from, std::int64_t count, std::int64_t C, std::int64_t D, float factor = 1) {
    const std::int64_t rows = in_memory(C) / 2, columns = in_memory(D);
    std::uint32_t* const made = memory_->take<std::uint32_t>(count * rows * columns);
    std::uint32_t* to = made;
    const auto bits = [&](std::int64_t matrix, std::int64_t c, std::int64_t d) {
      return c < C && d < D ? bits_of(factor * from[(matrix * C + c) * D + d], operands_) : 0u;
    };
    for (std::int64_t i = 0; made && i < count; ++i)
      for (std::int64_t c = 0; c < 2 * rows; c += 2)
        for (std::int64_t d = 0; d < columns; ++d) *to++ = bits(i, c, d) | bits(i, c + 1, d) << 16;
    return made;
  }

  // (rows, D) times `factor`, with zeros for the channels that memory has more.
  const float* scaled(const float* from, std::int64_t rows, float factor) {
    const std::int64_t D = block_.out, columns = in_memory(D);
    float* const to = memory_->take<float>(rows * columns);
    for (std::int64_t row = 0; to && row < rows; ++row)
      for (std::int64_t d = 0; d < columns; ++d) to[row * columns + d] = d < D ? factor * from[row * D + d] : 0.0f;
    return to;
  }

 private:
  std::int64_t in_memory(std::int64_t channels) const { return channels_in_memory(channels, operands_); }

  Memory* memory_;
  Operands operands_;
  const Block& block_;
};

const float* transformed(const float* conv, const Block& block, float* to) {
  if (to) ASMA_PICK(edge_transform_weight)(conv, block.out, to);
  return to;
}

}  // namespace

Operands operands_for(Precision precision) {
  if (precision == Precision::int8) return fuses_integer_pairs() ? Operands::fused_integers : Operands::integers;
  return precision == Precision::bfloat16 && multiplies_bf16() ? Operands::pairs : Operands::numbers;
}

std::int64_t room_for_weights(const Block& block) {
  return block.fast ? (kFastTaps + kPlacesStored) * block.out * block.out : 0;
}

void make_weights(Memory* memory, const StoredWeights& stored, Precision precision, Operands operands,
                  std::int64_t partitions, std::int64_t joints, float* room, Block* block) {
  const Block& b = *block;
  const std::int64_t K = partitions, C = b.in, D = b.out, square = D * D;
  Maker maker(memory, operands, b);
  const Numbers weight{stored.weight, precision}, conv{stored.conv, precision}, shortcut{stored.shortcut, precision};
  if (operands == Operands::numbers) {
    const bool as_it_is = precision == Precision::float32;
    const auto numbers = [&](Numbers from, std::int64_t count) {
      return as_it_is ? static_cast<const float*>(from.stored) : from.stored ? maker.widened(from, count) : nullptr;
    };
    block->weight = numbers(weight, K * C * D);
    block->conv = numbers(conv, b.taps * square);
    block->shortcut = numbers(shortcut, C * D);
    if (b.fast) block->places = transformed(b.conv, b, memory->take<float>(kPlacesStored * square));
    return;
  }
  Pairs& pairs = block->pairs;
  const bool integers = operands != Operands::pairs;
  pairs.weight = maker.paired(weight, K, C, D);
  pairs.conv = maker.paired(conv, b.taps, D, D);
  if (stored.shortcut) pairs.shortcut = maker.paired(shortcut, 1, C, D);
  if (b.fast) {
    for (std::int64_t i = 0; room && i < b.taps * square; ++i) room[i] = conv[i];
    const float* const places = room ? transformed(room, b, room + b.taps * square) : nullptr;
    pairs.places = maker.paired(places, kPlacesUsed, D, D, integers ? kIntegerPlaces : 1);
  }
  block->bias = maker.scaled(b.bias, 1, 1);
  if (integers) {
    const float rows = stored.steps[0], kept = stored.steps[1];
    pairs.weight_step = maker.scaled(stored.weight_step, 1, rows / kept);
    pairs.conv_step = maker.scaled(stored.conv_step, 1, kept);
    pairs.rows_per_step = 1 / rows;
    if (stored.shortcut) {
      pairs.shortcut_step = maker.scaled(stored.shortcut_step, 1, stored.steps[2]);
      pairs.shortcut_per_step = 1 / stored.steps[2];
    }
    block->base = maker.scaled(b.base, joints, 1 / kept);
  } else {
    block->base = maker.scaled(b.base, joints, 1);
  }
  block->in = channels_in_memory(C, operands);
  block->out = channels_in_memory(D, operands);
}

}  // namespace asma::edge
