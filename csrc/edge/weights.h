// What the processor multiplies, made of a file's weights when a model is opened.
#pragma once
#include <cstdint>

#include "file.h"
#include "memory.h"

namespace asma::edge {

// The best for a precision that this processor has.
Operands operands_for(Precision precision);

// Channels in memory: pairs of numbers want vectors of four columns.
inline std::int64_t channels_in_memory(std::int64_t channels, Operands operands) {
  return operands == Operands::numbers ? channels : (channels + 3) / 4 * 4;
}

// Takes the memory of a block's weights, and where that is not only counted fills it: `block` then has them, and its
// channels in memory. room: numbers that are needed meanwhile (room_for_weights).
void make_weights(Memory* memory, const StoredWeights& stored, Precision precision, Operands operands,
                  std::int64_t partitions, std::int64_t joints, float* room, Block* block);
std::int64_t room_for_weights(const Block& block);

}  // namespace asma::edge
