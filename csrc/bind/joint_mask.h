// Checks of joint_mask's arguments, all but those of the weights' values.
#pragma once
#include "../common/joint_mask.h"
#include "common.h"

namespace asma::bind {

inline JointMask joint_mask_arguments(const Tensor& weights, int64_t k, int64_t rows, const std::optional<Tensor>& rng,
                                      const std::string& mode, bool shared) {
  check_dim("joint_mask", "weights (V)", weights, 1);
  check_dtype("joint_mask", "weights", weights, ScalarType::Long, "int64");
  check_contiguous("joint_mask", "weights", weights);
  STD_TORCH_CHECK(mode == "fixed" || mode == "tokens" || mode == "deterministic",
                  "joint_mask: mode must be fixed, tokens or deterministic, got ", mode);
  const int64_t V = weights.size(0);
  STD_TORCH_CHECK(0 <= k && k <= V, "joint_mask: k must be in [0, V], got ", k, " with V = ", V);
  STD_TORCH_CHECK(0 <= rows && rows <= UINT32_MAX, "joint_mask: rows must be in [0, 2^32), got ", rows);
  STD_TORCH_CHECK(rng || mode == "deterministic", "joint_mask: rng must be given with mode ", mode);
  if (mode != "deterministic") check_rng("joint_mask", *rng);
  return {V,
          data<int64_t>(weights),
          k,
          mode == "tokens" ? V : V - k,
          mode == "fixed"    ? JointMask::fixed
          : mode == "tokens" ? JointMask::tokens
                             : JointMask::deterministic,
          shared || mode == "deterministic"};
}

}  // namespace asma::bind
