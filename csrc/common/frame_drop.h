// What frame_drop's kernels share: the arguments.
#pragma once
#include "frame_mask.h"
#include "motion_energy.h"

namespace asma {

struct FrameDrop {
  MotionEnergy energy;  // of the frames of x
  FrameMask mask;       // of those energies, which lie contiguous (N, T)
  int64_t left;         // frames that are kept
};

}  // namespace asma
