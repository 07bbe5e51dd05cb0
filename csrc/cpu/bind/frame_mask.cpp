#include "../frame_mask.h"

#include "../../bind/frame_mask.h"
#include "common.h"

namespace asma::bind {
namespace {

Tensor frame_mask(const Tensor& energy, int64_t drop, std::string which, int64_t extra, std::optional<Tensor> rng,
                  bool shared) {
  const FrameMask a = frame_mask_arguments(energy, drop, which, extra, rng, shared);
  const Philox random = extra > 0 ? philox_of("frame_mask", *rng) : Philox{};
  const int64_t N = energy.size(0), T = a.T;
  Tensor kept = empty_on(energy, {N, T - drop - extra}, ScalarType::Long);
  int64_t* out = mutable_data<int64_t>(kept);
  visit_float("frame_mask", energy.scalar_type(), [&]<class S>(S) {
    const auto kernel = ASMA_PICK(frame_mask<S>);
    torch::stable::parallel_for(
        0, N, grain(4 * T), [&](int64_t begin, int64_t end) { kernel(a, random, data<S>(energy), out, begin, end); });
  });
  return kept;
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("frame_mask", TORCH_BOX(&asma::bind::frame_mask)); }
