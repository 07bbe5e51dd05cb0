#pragma once
#include <cstdint>

#include "../common/philox.h"
#include "isa.h"

namespace asma {

struct JointMask {
  enum Mode { fixed, tokens, deterministic };
  int64_t V;               // joints
  const int64_t* weights;  // (V) tokens of each joint; below 0 counts as 0
  int64_t total;           // sum of the weights, below 2^20
  int64_t k;               // joints (tokens: tokens) to be masked
  int64_t width;           // columns of kept
  Mode mode;
  bool shared;  // one draw for all rows
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // mask: (rows, V); kept: (rows, width), padded with -1; count: (rows); all contiguous; rows [begin, end).
    void joint_mask(const ::asma::JointMask& a, ::asma::Philox random, bool* mask, int64_t* kept, int64_t* count,
                    int64_t begin, int64_t end);)
