#include "../../bind/frame_drop.h"

#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor> frame_drop(const Tensor& x, int64_t drop, std::string which, int64_t extra,
                                      std::optional<Tensor> rng, bool shared, double p, int64_t stride,
                                      std::string boundary, std::optional<Tensor> lengths) {
  const FrameDrop a = frame_drop_arguments(x, drop, which, extra, rng, shared, p, stride, boundary, lengths);
  Tensor kept = empty_kept(a, x), frames = empty_frames(a, x), room = empty_on(x, {cuda::frame_drop_room(a)});
  launch("frame_drop", x, [&](void* stream) {
    return cuda::frame_drop(dtype_of("frame_drop", x), a, extra > 0 ? data<int64_t>(*rng) : nullptr,
                            extra > 0 ? rng->stride(0) : 0, x.const_data_ptr(), room.mutable_data_ptr(),
                            kept.mutable_data_ptr(), mutable_data<int64_t>(frames), stream);
  });
  return {kept, frames};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) { m.impl("frame_drop", TORCH_BOX(&asma::bind::frame_drop)); }
