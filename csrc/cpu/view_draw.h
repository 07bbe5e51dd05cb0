#pragma once
#include <cstdint>

#include "../common/philox.h"
#include "isa.h"

namespace asma {

struct ViewDraw {
  Philox random;
  bool shared;          // every clip has clip 0's draw
  int64_t T, pad;       // frames of a clip, and of its reflection at either end
  float shear;          // amplitude
  float main, other;    // largest angles in radians, of the drawn axis and of the other two
  const int64_t* flip;  // (V): the joint that stands for each joint in the mirror
  int64_t V;
  int64_t flip_below;  // a clip is flipped when its word is below: 2^32 times the probability
  bool mirror;         // a flipped clip also has its x negated
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // frames: contiguous (N, T), joints: (N, V), matrix: (N, 3, 3); clips [begin, end).
    void view_draw(const ::asma::ViewDraw& a, int64_t* frames, int64_t* joints, float* matrix, int64_t begin,
                   int64_t end);)
