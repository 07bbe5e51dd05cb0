// What joint_mask's kernels share.
#pragma once
#include <cstdint>

#include "scalar.h"

namespace asma {

struct JointMask {
  enum Mode { fixed, tokens, deterministic };
  int64_t V;               // joints
  const int64_t* weights;  // (V) tokens of each joint; below 0 counts as 0
  int64_t k;               // joints (tokens: tokens) to be masked
  int64_t width;           // columns of kept
  Mode mode;
  bool shared;  // one draw for all rows; so it is where nothing is drawn
};

constexpr int32_t kMostTokens = (1 << 20) - 1;  // of all joints together

// Tokens of a joint; a weight that no sum may have counts as one that is just too large, so that sums do not overflow.
static ASMA_INLINE int32_t tokens_of(int64_t weight) {
  return weight < 0 ? 0 : weight > kMostTokens ? kMostTokens + 1 : static_cast<int32_t>(weight);
}

}  // namespace asma
