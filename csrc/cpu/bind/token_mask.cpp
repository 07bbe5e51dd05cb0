#include "../token_mask.h"

#include <optional>
#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor, Tensor> token_mask(const Tensor& score, int64_t keep, std::optional<Tensor> rng, double tau,
                                              std::optional<Tensor> noise) {
  check_dim("token_mask", "score (N, L)", score, 2);
  const int64_t N = score.size(0), L = score.size(1);
  STD_TORCH_CHECK(L < INT32_MAX, "token_mask: L must be below 2^31 - 1, got ", L);
  STD_TORCH_CHECK(0 <= keep && keep <= L, "token_mask: keep must be in [0, L], got ", keep, " with L = ", L);
  STD_TORCH_CHECK(tau > 0, "token_mask: tau must be > 0, got ", tau);
  STD_TORCH_CHECK(rng.has_value() != noise.has_value(), "token_mask: one of rng and noise must be given");
  TokenMask a{L, keep, score.stride(0), score.stride(1), 0, 0, tau};
  if (noise) {
    const bool wide = score.scalar_type() == ScalarType::Double;
    check_dtype("token_mask", "noise", *noise, wide ? ScalarType::Double : ScalarType::Float,
                "float32, or float64 for float64 score");
    STD_TORCH_CHECK(noise->dim() == 2 && noise->size(0) == N && noise->size(1) == L,
                    "token_mask: noise must be of score's shape (N, L)");
    a.noise_n = noise->stride(0);
    a.noise_l = noise->stride(1);
  }
  const Philox random = rng ? philox_of("token_mask", *rng) : Philox{};
  Tensor ids_keep = empty_on(score, {N, keep}, ScalarType::Long);
  Tensor ids_restore = empty_on(score, {N, L}, ScalarType::Long);
  Tensor mask = empty_on(score, {N, L});
  int64_t *kept = mutable_data<int64_t>(ids_keep), *restore = mutable_data<int64_t>(ids_restore);
  visit_float("token_mask", score.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(token_mask<T>);
    const acc_t<T>* given = noise ? data<acc_t<T>>(*noise) : nullptr;
    T* masked = mutable_data<T>(mask);
    torch::stable::parallel_for(0, N, grain(32 * L), [&](int64_t begin, int64_t end) {
      kernel(a, random, data<T>(score), given, kept, restore, masked, begin, end);
    });
  });
  return {ids_keep, ids_restore, mask};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("token_mask", TORCH_BOX(&asma::bind::token_mask)); }
