#include "../view_draw.h"

#include <optional>
#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor, Tensor> view_draw(const Tensor& rng, int64_t N, int64_t T, int64_t pad, double shear,
                                             double main, double other, std::optional<Tensor> flip, int64_t flip_below,
                                             bool mirror, bool per_clip) {
  STD_TORCH_CHECK(N >= 0 && T >= 0 && T < (int64_t{1} << 30), "view_draw: N and T must be >= 0, got ", N, " and ", T);
  STD_TORCH_CHECK(pad >= 0 && pad <= T, "view_draw: pad must be in [0, T], got ", pad, " with T = ", T);
  if (flip) {
    check_dim("view_draw", "flip", *flip, 1);
    check_dtype("view_draw", "flip", *flip, ScalarType::Long, "int64");
    check_contiguous("view_draw", "flip", *flip);
  }
  const int64_t V = flip ? flip->size(0) : 0;
  const ViewDraw a{philox_of("view_draw", rng),
                   !per_clip,
                   T,
                   pad,
                   static_cast<float>(shear),
                   static_cast<float>(main),
                   static_cast<float>(other),
                   flip ? data<int64_t>(*flip) : nullptr,
                   V,
                   flip_below,
                   mirror};
  Tensor frames = empty_on(rng, {N, T}), joints = empty_on(rng, {N, V});
  Tensor matrix = empty_on(rng, {N, 3, 3}, ScalarType::Float);
  int64_t* to_frames = mutable_data<int64_t>(frames);
  int64_t* to_joints = mutable_data<int64_t>(joints);
  float* to_matrix = mutable_data<float>(matrix);
  const auto kernel = ASMA_PICK(view_draw);
  torch::stable::parallel_for(0, N, grain(T + V + 500), [&](int64_t begin, int64_t end) {
    kernel(a, to_frames, to_joints, to_matrix, begin, end);
  });
  return {frames, joints, matrix};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("view_draw", TORCH_BOX(&asma::bind::view_draw)); }
