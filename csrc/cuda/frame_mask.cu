// Bytes: energy once (rows that registers do not hold: once per pass, from the caches), the kept frames once.
#include "../common/frame_mask.h"

#include "../common/philox.h"
#include "select.h"

namespace asma::cuda {
namespace {

// A team for each clip.
template <class Team, int Slots, class T>
__global__ void __launch_bounds__(Team::kLanes* Team::kTeams, kFewBlocks)
    frame_mask_kernel(FrameMask a, int64_t N, const int64_t* __restrict__ rng, int64_t step,
                      const T* __restrict__ energy, int64_t* __restrict__ kept) {
  using Key = decltype(ordered_key(widen(T())));
  const Team team;
  const int64_t stay = a.T - a.drop, left = stay - a.extra;
  const Philox random = a.extra > 0 ? Philox::of(rng[0], rng[step]) : Philox{};
  // Dropping the least is dropping the most of the keys turned round: among equals the earlier frame stays both ways.
  const Key turn = a.low ? Key(-1) : Key(0);
  const int64_t row_step = static_cast<int64_t>(gridDim.x) * Team::kTeams;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * Team::kTeams + threadIdx.y; row < N; row += row_step) {
    const T* numbers = energy + row * a.sn;
    const auto energy_key = [&](int, int64_t t) { return ordered_key(widen(numbers[t * a.st])) ^ turn; };
    const auto energies = keys_of<Slots, Key>(team, a.T, energy_key);
    const Chosen<Key> stays = smallest(energies, stay);

    const uint32_t drawn = a.shared ? 0 : static_cast<uint32_t>(row);
    const auto word_key = [&](int, int64_t i) { return ordered_key(random.word(static_cast<uint32_t>(i), drawn)); };
    Chosen<int32_t> removed{};
    if (a.extra > 0) removed = smallest(keys_of<Slots, int32_t>(team, stay, word_key), a.extra);

    int64_t position = 0, written = 0;  // frames that stay, frames that are kept, before this slot
    energies.each([&](int, int64_t t, bool there, Key key) {
      const bool stayed = there && stays.has(key, t);
      int all;
      const int64_t i = position + team.before(stayed, all);
      position += all;
      const bool keep = stayed && !(a.extra > 0 && removed.has(word_key(0, i), i));
      const int64_t place = written + team.before(keep, all);
      written += all;
      if (keep) kept[row * left + place] = t;
    });
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
