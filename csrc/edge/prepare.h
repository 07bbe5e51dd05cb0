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

// What is found in the first frame with the first person, and holds for all frames from there on. Before it nothing is
// moved, turned or scaled.
struct Placement {
  bool found = false;
  float centre[3] = {0, 0, 0};
  float cosine = 1, sine = 0, scale = 1;
};

// The newest frame of a live stream, x (M, V, 3), in place; but for the motion, which needs the next one.
void prepare_frame(const Contents& contents, Placement* placement, float* x, float* work);

}  // namespace asma::edge
