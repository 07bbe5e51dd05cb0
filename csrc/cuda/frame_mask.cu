// Bytes: energy once (rows that registers do not hold: once per pass, from the caches), the kept frames once.
#include "frame_mask.h"

namespace asma::cuda {
namespace {

// A team for each clip.
template <class Team, int Slots, class T>
__global__ void __launch_bounds__(Team::kLanes* Team::kTeams, kFewBlocks)
    frame_mask_kernel(FrameMask a, int64_t N, const int64_t* __restrict__ rng, int64_t step,
                      const T* __restrict__ energy, int64_t* __restrict__ kept) {
  const Team team;
  const int64_t left = a.T - a.drop - a.extra;
  const Philox random = a.extra > 0 ? Philox::of(rng[0], rng[step]) : Philox{};
  const int64_t row_step = static_cast<int64_t>(gridDim.x) * Team::kTeams;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * Team::kTeams + threadIdx.y; row < N; row += row_step) {
    const T* numbers = energy + row * a.sn;
    keep_frames<Slots>(team, a, random, row, [&](int64_t t) { return widen(numbers[t * a.st]); }, kept + row * left);
  }
}

template <class Team, int Slots, class T>
int launch(const FrameMask& a, int64_t N, const int64_t* rng, int64_t step, const T* energy, int64_t* kept,
           void* stream) {
  const dim3 grid(blocks(N, Team::kTeams, kMostBlocks)), block(Team::kLanes, Team::kTeams);
  return ASMA_LAUNCH((frame_mask_kernel<Team, Slots, T>), grid, block, stream, a, N, rng, step, energy, kept);
}

}  // namespace

int frame_mask(Dtype dtype, const FrameMask& a, int64_t N, const int64_t* rng, int64_t step, const void* energy,
               int64_t* kept, void* stream) {
  if (N == 0 || a.T - a.drop - a.extra == 0) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    const T* from = static_cast<const T*>(energy);
    return a.T <= 2 * kWarp    ? launch<Warp, 2>(a, N, rng, step, from, kept, stream)
           : a.T <= 4 * kWarp  ? launch<Warp, 4>(a, N, rng, step, from, kept, stream)
           : a.T <= 16 * kWarp ? launch<Warp, 16>(a, N, rng, step, from, kept, stream)
                               : launch<Block, 0>(a, N, rng, step, from, kept, stream);
  });
}

}  // namespace asma::cuda
