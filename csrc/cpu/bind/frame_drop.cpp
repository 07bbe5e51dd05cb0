#include "../frame_drop.h"

#include <tuple>

#include "../../bind/frame_drop.h"
#include "common.h"

namespace asma::bind {
namespace {

std::tuple<Tensor, Tensor> frame_drop(const Tensor& x, int64_t drop, std::string which, int64_t extra,
                                      std::optional<Tensor> rng, bool shared, double p, int64_t stride,
                                      std::string boundary, std::optional<Tensor> lengths) {
  const FrameDrop a = frame_drop_arguments(x, drop, which, extra, rng, shared, p, stride, boundary, lengths);
  const Philox random = extra > 0 ? philox_of("frame_drop", *rng) : Philox{};
  Tensor kept = empty_kept(a, x), frames = empty_frames(a, x), energies = empty_on(x, {a.energy.N, a.energy.T});
  int64_t* picked = mutable_data<int64_t>(frames);
  visit_float("frame_drop", x.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(frame_drop<T>);
    T *room = mutable_data<T>(energies), *out = mutable_data<T>(kept);
    torch::stable::parallel_for(
        0, a.energy.N, grain(a.energy.C * a.energy.T * a.energy.V * a.energy.M),
        [&](int64_t begin, int64_t end) { kernel(a, random, data<T>(x), room, out, picked, begin, end); });
  });
  return {kept, frames};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("frame_drop", TORCH_BOX(&asma::bind::frame_drop)); }
