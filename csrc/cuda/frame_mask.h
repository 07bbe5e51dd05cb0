// Which frames of a clip are kept, found by a team of threads.
#pragma once
#include "../common/frame_mask.h"
#include "../common/philox.h"
#include "select.h"

namespace asma::cuda {

// kept: the frames of clip n that stay, ascending; energy(t): of frame t, as its sums are kept. By all threads of the
// team.
template <int Slots, class Team, class Energy>
__device__ inline void keep_frames(const Team& team, const FrameMask& a, const Philox& random, int64_t n,
                                   const Energy& energy, int64_t* __restrict__ kept) {
  using Key = decltype(ordered_key(energy(0)));
  const int64_t stay = a.T - a.drop;
  // Dropping the least is dropping the most of the keys turned round: among equals the earlier frame stays both ways.
  const Key turn = a.low ? Key(-1) : Key(0);
  const auto energy_key = [&](int, int64_t t) { return ordered_key(energy(t)) ^ turn; };
  const auto energies = keys_of<Slots, Key>(team, a.T, energy_key);
  const Chosen<Key> stays = smallest(energies, stay);

  const uint32_t drawn = a.shared ? 0 : static_cast<uint32_t>(n);
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
    if (keep) kept[place] = t;
  });
}

}  // namespace asma::cuda
