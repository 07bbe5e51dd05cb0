#include "../../bind/joint_mask.h"

#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor, Tensor> joint_mask(const Tensor& weights, int64_t k, int64_t rows, std::optional<Tensor> rng,
                                              std::string mode, bool shared) {
  const JointMask a = joint_mask_arguments(weights, k, rows, rng, mode, shared);
  const bool draws = a.mode != JointMask::deterministic;
  Tensor mask = empty_on(weights, {rows, a.V}, ScalarType::Bool);
  Tensor kept = empty_on(weights, {rows, a.width}, ScalarType::Long);
  Tensor count = empty_on(weights, {rows}, ScalarType::Long);
  Tensor starts = empty_on(weights, {cuda::joint_mask_starts(a)}, ScalarType::Int);
  launch("joint_mask", weights, [&](void* stream) {
    return cuda::joint_mask(a, rows, draws ? data<int64_t>(*rng) : nullptr, draws ? rng->stride(0) : 0,
                            mutable_data<int32_t>(starts), mutable_data<bool>(mask), mutable_data<int64_t>(kept),
                            mutable_data<int64_t>(count), stream);
  });
  return {mask, kept, count};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) { m.impl("joint_mask", TORCH_BOX(&asma::bind::joint_mask)); }
