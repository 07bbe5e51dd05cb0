#include "../token_mask.h"

#include <tuple>

#include "../../bind/token_mask.h"
#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor, Tensor> token_mask(const Tensor& score, int64_t keep, std::optional<Tensor> rng, double tau,
                                              std::optional<Tensor> noise) {
  const TokenMask a = token_mask_arguments(score, keep, rng, tau, noise);
  const int64_t N = score.size(0), L = a.L;
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
