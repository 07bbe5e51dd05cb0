#include "../frame_mask.h"

#include <optional>
#include <string>

#include "common.h"

namespace asma::bind {
namespace {

Tensor frame_mask(const Tensor& energy, int64_t drop, std::string which, int64_t extra, std::optional<Tensor> rng,
                  bool shared) {
  check_dim("frame_mask", "energy (N, T)", energy, 2);
  const int64_t N = energy.size(0), T = energy.size(1);
  STD_TORCH_CHECK(which == "high" || which == "low", "frame_mask: which must be high or low, got ", which);
  STD_TORCH_CHECK(T < INT32_MAX, "frame_mask: T must be below 2^31 - 1, got ", T);
  STD_TORCH_CHECK(0 <= drop && drop <= T && 0 <= extra && extra <= T - drop,
                  "frame_mask: drop and extra must be >= 0 and at most T together, got ", drop, " and ", extra,
                  " with T = ", T);
  STD_TORCH_CHECK(rng || extra == 0, "frame_mask: rng must be given with extra > 0");
  const FrameMask a{T, energy.stride(0), energy.stride(1), drop, extra, which == "low", shared};
  const Philox random = extra > 0 ? philox_of("frame_mask", *rng) : Philox{};
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
