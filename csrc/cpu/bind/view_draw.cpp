#include "../../bind/view_draw.h"

#include "../view_draw.h"
#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor, Tensor> view_draw(const Tensor& rng, int64_t N, int64_t T, int64_t pad, double shear,
                                             double main, double other, std::optional<Tensor> flip, int64_t flip_below,
                                             bool mirror, bool per_clip) {
  const ViewDraw a = view_draw_arguments(N, T, pad, shear, main, other, flip, flip_below, mirror, per_clip);
  const Philox random = philox_of("view_draw", rng);
  auto [frames, joints, matrix] = empty_views(a, rng, N);
  int64_t* to_frames = mutable_data<int64_t>(frames);
  int64_t* to_joints = mutable_data<int64_t>(joints);
  float* to_matrix = mutable_data<float>(matrix);
  const auto kernel = ASMA_PICK(view_draw);
  torch::stable::parallel_for(0, N, grain(a.T + a.V + 500), [&](int64_t begin, int64_t end) {
    kernel(a, random, to_frames, to_joints, to_matrix, begin, end);
  });
  return {frames, joints, matrix};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("view_draw", TORCH_BOX(&asma::bind::view_draw)); }
