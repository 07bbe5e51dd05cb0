#pragma once
#include <cstdint>

#include "../common/frame_mask.h"
#include "../common/philox.h"
#include "../common/scalar.h"
#include "isa.h"

ASMA_DECLARE_KERNEL(
    // kept: contiguous (N, T - drop - extra); clips [begin, end).
    template <class T> void frame_mask(const ::asma::FrameMask& a, ::asma::Philox random, const T* energy,
                                       int64_t* kept, int64_t begin, int64_t end);)
