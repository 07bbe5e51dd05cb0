// What frame_mask's kernels share.
#pragma once
#include <cstdint>

namespace asma {

struct FrameMask {
  int64_t T;            // frames of a clip
  int64_t sn, st;       // strides of energy (N, T), in elements
  int64_t drop, extra;  // frames removed by energy, then by chance
  bool low;             // drop the frames of least energy, else of most
  bool shared;          // one draw for all clips
};

}  // namespace asma
