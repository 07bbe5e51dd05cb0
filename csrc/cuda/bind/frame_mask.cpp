#include "../../bind/frame_mask.h"

#include "common.h"

namespace asma::bind {
namespace {

Tensor frame_mask(const Tensor& energy, int64_t drop, std::string which, int64_t extra, std::optional<Tensor> rng,
                  bool shared) {
  const FrameMask a = frame_mask_arguments(energy, drop, which, extra, rng, shared);
  const int64_t N = energy.size(0);
  Tensor kept = empty_on(energy, {N, a.T - drop - extra}, ScalarType::Long);
  launch("frame_mask", energy, [&](void* stream) {
    return cuda::frame_mask(dtype_of("frame_mask", energy), a, N, extra > 0 ? data<int64_t>(*rng) : nullptr,
                            extra > 0 ? rng->stride(0) : 0, energy.const_data_ptr(), mutable_data<int64_t>(kept),
                            stream);
  });
  return kept;
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) { m.impl("frame_mask", TORCH_BOX(&asma::bind::frame_mask)); }
