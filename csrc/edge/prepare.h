// Raw coordinates to what the encoders take, with the numbers of src/asma/prepare.py.
#pragma once
#include <cstdint>

#include "file.h"

namespace asma::edge {

// Frames that lie in a ring: frame i of a clip is number (first + i) % capacity.
struct Frames {
  const float* xyz;              // (capacity, M, V, 3)
  const std::uint32_t* present;  // (capacity), or null where all persons are in all frames
  std::uint64_t first, count, capacity;
};

// Numbers of working memory that prepare needs.
std::int64_t prepare_room(const FileHeader& header);

// x (M, T, V, 3). Any coordinates will do; what overflows becomes infinite.
void prepare(const Contents& contents, const Frames& frames, float* x, float* work);

}  // namespace asma::edge
