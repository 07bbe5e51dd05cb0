// Checks of view_draw's arguments and the shapes of its results.
#pragma once
#include <tuple>

#include "../common/view_draw.h"
#include "common.h"

namespace asma::bind {

inline ViewDraw view_draw_arguments(int64_t N, int64_t T, int64_t pad, double shear, double main, double other,
                                    const std::optional<Tensor>& flip, int64_t flip_below, bool mirror, bool per_clip) {
  STD_TORCH_CHECK(N >= 0 && T >= 0 && T < (int64_t{1} << 30), "view_draw: N and T must be >= 0, got ", N, " and ", T);
  STD_TORCH_CHECK(pad >= 0 && pad <= T, "view_draw: pad must be in [0, T], got ", pad, " with T = ", T);
  if (flip) {
    check_dim("view_draw", "flip", *flip, 1);
    check_dtype("view_draw", "flip", *flip, ScalarType::Long, "int64");
    check_contiguous("view_draw", "flip", *flip);
  }
  return {!per_clip,
          T,
          pad,
          static_cast<float>(shear),
          static_cast<float>(main),
          static_cast<float>(other),
          flip ? data<int64_t>(*flip) : nullptr,
          flip ? flip->size(0) : 0,
          flip_below,
          mirror};
}

// frames, joints and matrix of N clips.
inline std::tuple<Tensor, Tensor, Tensor> empty_views(const ViewDraw& a, const Tensor& rng, int64_t N) {
  return {empty_on(rng, {N, a.T}), empty_on(rng, {N, a.V}), empty_on(rng, {N, 3, 3}, ScalarType::Float)};
}

}  // namespace asma::bind
