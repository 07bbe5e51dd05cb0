#pragma once
#include <cstdint>

#include "../common/philox.h"
#include "../common/scalar.h"
#include "isa.h"

namespace asma {

struct FrameMask {
  int64_t T;            // frames of a clip
  int64_t sn, st;       // strides of energy (N, T), in elements
  int64_t drop, extra;  // frames removed by energy, then by chance
  bool low;             // drop the frames of least energy, else of most
  bool shared;          // one draw for all clips
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // kept: contiguous (N, T - drop - extra); clips [begin, end).
    template <class T> void frame_mask(const ::asma::FrameMask& a, ::asma::Philox random, const T* energy,
                                       int64_t* kept, int64_t begin, int64_t end);)
