// The text of NTU RGB+D's .skeleton files, as Matlab/read_skeleton_file.m of https://github.com/shahroudy/NTURGB-D
// reads it: the number of frames; for each frame the number of bodies; for each body a line of 10 numbers, the number
// of joints, and for each joint a line of 12, x y z depthX depthY colorX colorY orientationW orientationX orientationY
// orientationZ trackingState. Kept are the id of a body and x y z; other words are counted, not read.
#pragma once

#include <cstddef>
#include <cstdint>

namespace asma::host {

constexpr int kJoints = 25;
constexpr std::int64_t kMostFrames = 1'000'000;
constexpr std::int64_t kMostBodies = 64;

// The text is looked at in blocks of 64 bytes: so many must follow it, each a '\n'.
constexpr std::size_t kPadding = 64;
// Bodies that a text of `size` bytes can hold: one takes 622 bytes or more.
constexpr std::size_t most_bodies(std::size_t size) { return size / 622 + 1; }

enum class Rule {
  none,
  not_utf16,
  number_of_frames,
  number_of_bodies,
  number_of_joints,
  body,
  id,
  joint,
  x,
  y,
  z,
  end
};

struct NtuSkeleton {
  const char* text;
  std::size_t size;

  // One entry for each body of each frame in the order of the file; room for most_bodies(size).
  std::int32_t* frame;  // rising
  std::uint64_t* id;
  float* xyz;  // (bodies, kJoints, 3), finite or NaN
  std::int64_t bodies;
  std::int64_t frames;

  // The rule that is broken, on which line (from 1), and by what; an empty `found` stands for the end of the text.
  Rule broken;
  std::int64_t line;
  const char *found, *found_end;
};

}  // namespace asma::host

// Text, size and room are given; false where a rule is broken. AVX-512 makes it no faster, so there is no such level.
namespace asma::generic {
bool parse_ntu_skeleton(host::NtuSkeleton* skeleton);
}
#if defined(__x86_64__)
namespace asma::avx2 {
bool parse_ntu_skeleton(host::NtuSkeleton* skeleton);
}
#endif
