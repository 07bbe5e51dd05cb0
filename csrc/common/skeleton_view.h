// What skeleton_view's kernels share: the arguments.
#pragma once
#include <cstdint>

#include "scalar.h"

namespace asma {

// Steps of frames, joints, matrix and offset lead from one clip's numbers to the next clip's: 0 where clips share them.
struct SkeletonView {
  int64_t N, C, T, V, M;        // axes of x
  int64_t sn, sc, st, sv, sm;   // its strides, in elements
  int64_t C_out, T_out, V_out;  // axes of a clip of the output, beside M
  const int64_t* frames;        // (T_out) or (N, T_out) in [-1, T), or null: all frames
  int64_t frames_step;
  const int64_t* joints;  // (V_out) or (N, V_out) in [-1, V), or null: all joints
  int64_t joints_step;
  int64_t matrix_step, offset_step;
};

}  // namespace asma
