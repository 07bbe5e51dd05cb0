// Checks of frame_mask's arguments.
#pragma once
#include "../common/frame_mask.h"
#include "common.h"

namespace asma::bind {

inline FrameMask frame_mask_arguments(const Tensor& energy, int64_t drop, const std::string& which, int64_t extra,
                                      const std::optional<Tensor>& rng, bool shared) {
  check_dim("frame_mask", "energy (N, T)", energy, 2);
  const int64_t T = energy.size(1);
  STD_TORCH_CHECK(which == "high" || which == "low", "frame_mask: which must be high or low, got ", which);
  STD_TORCH_CHECK(T < INT32_MAX, "frame_mask: T must be below 2^31 - 1, got ", T);
  STD_TORCH_CHECK(0 <= drop && drop <= T && 0 <= extra && extra <= T - drop,
                  "frame_mask: drop and extra must be >= 0 and at most T together, got ", drop, " and ", extra,
                  " with T = ", T);
  STD_TORCH_CHECK(rng || extra == 0, "frame_mask: rng must be given with extra > 0");
  if (extra > 0) check_rng("frame_mask", *rng);
  return {T, energy.stride(0), energy.stride(1), drop, extra, which == "low", shared};
}

}  // namespace asma::bind
