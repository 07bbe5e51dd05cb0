// Checks of frame_mask's arguments.
#pragma once
#include "../common/frame_mask.h"
#include "common.h"

namespace asma::bind {

// Of energies (N, T) with the strides sn and st.
inline FrameMask frame_mask_arguments(int64_t T, int64_t sn, int64_t st, int64_t drop, const std::string& which,
                                      int64_t extra, const std::optional<Tensor>& rng, bool shared,
                                      const char* op = "frame_mask") {
  STD_TORCH_CHECK(which == "high" || which == "low", op, ": which must be high or low, got ", which);
  STD_TORCH_CHECK(T < INT32_MAX, op, ": T must be below 2^31 - 1, got ", T);
  STD_TORCH_CHECK(0 <= drop && drop <= T && 0 <= extra && extra <= T - drop, op,
                  ": drop and extra must be >= 0 and at most T together, got ", drop, " and ", extra, " with T = ", T);
  STD_TORCH_CHECK(rng || extra == 0, op, ": rng must be given with extra > 0");
  if (extra > 0) check_rng(op, *rng);
  return {T, sn, st, drop, extra, which == "low", shared};
}

inline FrameMask frame_mask_arguments(const Tensor& energy, int64_t drop, const std::string& which, int64_t extra,
                                      const std::optional<Tensor>& rng, bool shared) {
  check_dim("frame_mask", "energy (N, T)", energy, 2);
  return frame_mask_arguments(energy.size(1), energy.stride(0), energy.stride(1), drop, which, extra, rng, shared);
}

}  // namespace asma::bind
