#include "../../bind/token_mask.h"

#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor, Tensor> token_mask(const Tensor& score, int64_t keep, std::optional<Tensor> rng, double tau,
                                              std::optional<Tensor> noise) {
  const TokenMask a = token_mask_arguments(score, keep, rng, tau, noise);
  const int64_t N = score.size(0);
  Tensor ids_keep = empty_on(score, {N, keep}, ScalarType::Long);
  Tensor ids_restore = empty_on(score, {N, a.L}, ScalarType::Long);
  Tensor mask = empty_on(score, {N, a.L});
  launch("token_mask", score, [&](void* stream) {
    return cuda::token_mask(dtype_of("token_mask", score), a, N, rng ? data<int64_t>(*rng) : nullptr,
                            rng ? rng->stride(0) : 0, score.const_data_ptr(), noise ? noise->const_data_ptr() : nullptr,
                            mutable_data<int64_t>(ids_keep), mutable_data<int64_t>(ids_restore),
                            mask.mutable_data_ptr(), stream);
  });
  return {ids_keep, ids_restore, mask};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) { m.impl("token_mask", TORCH_BOX(&asma::bind::token_mask)); }
