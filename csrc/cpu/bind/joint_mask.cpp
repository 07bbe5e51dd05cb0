#include "../joint_mask.h"

#include <tuple>

#include "../../bind/joint_mask.h"
#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor, Tensor> joint_mask(const Tensor& weights, int64_t k, int64_t rows, std::optional<Tensor> rng,
                                              std::string mode, bool shared) {
  const JointMask a = joint_mask_arguments(weights, k, rows, rng, mode, shared);
  int64_t total = 0;
  for (int64_t v = 0; v < a.V && total <= kMostTokens; ++v) total += tokens_of(a.weights[v]);
  STD_TORCH_CHECK(total <= kMostTokens, "joint_mask: weights must sum to less than 2^20");
  const Philox random = a.mode == JointMask::deterministic ? Philox{} : philox_of("joint_mask", *rng);
  Tensor mask = empty_on(weights, {rows, a.V}, ScalarType::Bool);
  Tensor kept = empty_on(weights, {rows, a.width}, ScalarType::Long);
  Tensor count = empty_on(weights, {rows}, ScalarType::Long);
  bool* masked = mutable_data<bool>(mask);
  int64_t *joints = mutable_data<int64_t>(kept), *left = mutable_data<int64_t>(count);
  const auto kernel = ASMA_PICK(joint_mask);
  torch::stable::parallel_for(0, rows, grain(a.shared ? 2 * a.V : 4 * (total + a.V)),
                              [&](int64_t begin, int64_t end) { kernel(a, random, masked, joints, left, begin, end); });
  return {mask, kept, count};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("joint_mask", TORCH_BOX(&asma::bind::joint_mask)); }
