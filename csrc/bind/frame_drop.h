// Checks of frame_drop's arguments, those of motion_energy and frame_mask, and the shapes of its results.
#pragma once
#include "../common/frame_drop.h"
#include "frame_mask.h"
#include "motion_energy.h"

namespace asma::bind {

inline FrameDrop frame_drop_arguments(const Tensor& x, int64_t drop, const std::string& which, int64_t extra,
                                      const std::optional<Tensor>& rng, bool shared, double p, int64_t stride,
                                      const std::string& boundary, const std::optional<Tensor>& lengths) {
  const MotionEnergy energy = motion_energy_arguments(x, "frame", p, stride, boundary, lengths, "frame_drop");
  const int64_t T = energy.T;
  return {energy, frame_mask_arguments(T, T, 1, drop, which, extra, rng, shared, "frame_drop"), T - drop - extra};
}

inline Tensor empty_kept(const FrameDrop& a, const Tensor& x) {
  return empty_on(x, {a.energy.N, a.energy.C, a.left, a.energy.V, a.energy.M});
}
inline Tensor empty_frames(const FrameDrop& a, const Tensor& x) {
  return empty_on(x, {a.energy.N, a.left}, ScalarType::Long);
}

}  // namespace asma::bind
