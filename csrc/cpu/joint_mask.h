#pragma once
#include <cstdint>

#include "../common/joint_mask.h"
#include "../common/philox.h"
#include "isa.h"

ASMA_DECLARE_KERNEL(
    // mask: (rows, V); kept: (rows, width), padded with -1; count: (rows); all contiguous; rows [begin, end).
    void joint_mask(const ::asma::JointMask& a, ::asma::Philox random, bool* mask, int64_t* kept, int64_t* count,
                    int64_t begin, int64_t end);)
