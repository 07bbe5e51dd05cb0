#include "../joint_mask.h"

#include <optional>
#include <string>
#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

JointMask arguments(const Tensor& weights, int64_t k, int64_t rows, const std::string& mode, bool shared) {
  check_dim("joint_mask", "weights (V)", weights, 1);
  check_dtype("joint_mask", "weights", weights, ScalarType::Long, "int64");
  check_contiguous("joint_mask", "weights", weights);
  STD_TORCH_CHECK(mode == "fixed" || mode == "tokens" || mode == "deterministic",
                  "joint_mask: mode must be fixed, tokens or deterministic, got ", mode);
  const int64_t V = weights.size(0);
  STD_TORCH_CHECK(0 <= k && k <= V, "joint_mask: k must be in [0, V], got ", k, " with V = ", V);
  STD_TORCH_CHECK(0 <= rows && rows <= UINT32_MAX, "joint_mask: rows must be in [0, 2^32), got ", rows);
  constexpr int64_t kMost = 1 << 20;
  const int64_t* w = data<int64_t>(weights);
  int64_t total = 0;
  for (int64_t v = 0; v < V && total < kMost; ++v) total += w[v] < 0 ? 0 : w[v] < kMost ? w[v] : kMost;
  STD_TORCH_CHECK(total < kMost, "joint_mask: weights must sum to less than 2^20");
  return {V,
          w,
          total,
          k,
          mode == "tokens" ? V : V - k,
          mode == "fixed"    ? JointMask::fixed
          : mode == "tokens" ? JointMask::tokens
                             : JointMask::deterministic,
          shared};
}

std::tuple<Tensor, Tensor, Tensor> joint_mask(const Tensor& weights, int64_t k, int64_t rows, std::optional<Tensor> rng,
                                              std::string mode, bool shared) {
  const JointMask a = arguments(weights, k, rows, mode, shared);
  const bool draws = a.mode != JointMask::deterministic;
  STD_TORCH_CHECK(rng || !draws, "joint_mask: rng must be given with mode ", mode);
  const Philox random = draws ? philox_of("joint_mask", *rng) : Philox{};
  Tensor mask = empty_on(weights, {rows, a.V}, ScalarType::Bool);
  Tensor kept = empty_on(weights, {rows, a.width}, ScalarType::Long);
  Tensor count = empty_on(weights, {rows}, ScalarType::Long);
  bool* masked = mutable_data<bool>(mask);
  int64_t *joints = mutable_data<int64_t>(kept), *left = mutable_data<int64_t>(count);
  const auto kernel = ASMA_PICK(joint_mask);
  torch::stable::parallel_for(0, rows, grain(shared || !draws ? 2 * a.V : 4 * (a.total + a.V)),
                              [&](int64_t begin, int64_t end) { kernel(a, random, masked, joints, left, begin, end); });
  return {mask, kept, count};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("joint_mask", TORCH_BOX(&asma::bind::joint_mask)); }
