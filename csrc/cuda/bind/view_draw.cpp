#include "../../bind/view_draw.h"

#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor, Tensor> view_draw(const Tensor& rng, int64_t N, int64_t T, int64_t pad, double shear,
                                             double main, double other, std::optional<Tensor> flip, int64_t flip_below,
                                             bool mirror, bool per_clip) {
  const ViewDraw a = view_draw_arguments(N, T, pad, shear, main, other, flip, flip_below, mirror, per_clip);
  check_rng("view_draw", rng);
  auto [frames, joints, matrix] = empty_views(a, rng, N);
  int64_t* to_frames = mutable_data<int64_t>(frames);
  int64_t* to_joints = mutable_data<int64_t>(joints);
  float* to_matrix = mutable_data<float>(matrix);
  launch("view_draw", rng, [&](void* stream) {
    return cuda::view_draw(a, data<int64_t>(rng), rng.stride(0), to_frames, to_joints, to_matrix, N, stream);
  });
  return {frames, joints, matrix};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) { m.impl("view_draw", TORCH_BOX(&asma::bind::view_draw)); }
