#pragma once
#include "../common/view_draw.h"
#include "isa.h"

ASMA_DECLARE_KERNEL(
    // frames: contiguous (N, T), joints: (N, V), matrix: (N, 3, 3); clips [begin, end).
    void view_draw(const ::asma::ViewDraw& a, const ::asma::Philox& random, int64_t* frames, int64_t* joints,
                   float* matrix, int64_t begin, int64_t end);)
