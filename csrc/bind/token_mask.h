// Checks of token_mask's arguments.
#pragma once
#include "../common/token_mask.h"
#include "common.h"

namespace asma::bind {

inline TokenMask token_mask_arguments(const Tensor& score, int64_t keep, const std::optional<Tensor>& rng, double tau,
                                      const std::optional<Tensor>& noise) {
  check_dim("token_mask", "score (N, L)", score, 2);
  const int64_t N = score.size(0), L = score.size(1);
  STD_TORCH_CHECK(L < INT32_MAX, "token_mask: L must be below 2^31 - 1, got ", L);
  STD_TORCH_CHECK(0 <= keep && keep <= L, "token_mask: keep must be in [0, L], got ", keep, " with L = ", L);
  STD_TORCH_CHECK(tau > 0, "token_mask: tau must be > 0, got ", tau);
  STD_TORCH_CHECK(rng.has_value() != noise.has_value(), "token_mask: one of rng and noise must be given");
  if (rng) check_rng("token_mask", *rng);
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
  return a;
}

}  // namespace asma::bind
