// The smallest keys of a row, chosen by a team of threads: a warp, or a block for long rows. All threads of a team call
// every function of it, with the same rows.
#pragma once
#include "../common/select.h"
#include "launch.h"

namespace asma::cuda {

// Beyond as many blocks as the largest device runs at once, teams step on to further rows.
constexpr int64_t kMostBlocks = 2048;

struct Warp {
  static constexpr int kLanes = kWarp, kTeams = 4;  // teams of a block
  int lane = static_cast<int>(threadIdx.x);

  __device__ int sum(int number) const { return __reduce_add_sync(kAll, number); }
  // How many lanes before this one say yes; `all`: how many of all do.
  __device__ int before(bool yes, int& all) const {
    const unsigned votes = __ballot_sync(kAll, yes);
    all = __popc(votes);
    return __popc(votes & ((1u << lane) - 1));
  }
};

template <int Threads> struct BlockOf {
  static constexpr int kLanes = Threads, kTeams = 1, kWarps = kLanes / kWarp;
  int lane = static_cast<int>(threadIdx.x);

  __device__ int sum(int number) const {
    int all;
    earlier(__reduce_add_sync(kAll, number), all);
    return all;
  }
  __device__ int before(bool yes, int& all) const {
    const unsigned votes = __ballot_sync(kAll, yes);
    return earlier(__popc(votes), all) + __popc(votes & ((1u << lane % kWarp) - 1));
  }

 private:
  // Sum of the numbers of the warps before this one; `all`: of all warps.
  __device__ int earlier(int number, int& all) const {
    __shared__ int numbers[kWarps];
    const int warp = lane / kWarp;
    if (lane % kWarp == 0) numbers[warp] = number;
    __syncthreads();
    int sum = 0;
    all = 0;
    for (int other = 0; other < kWarps; ++other) {
      if (other == warp) sum = all;
      all += numbers[other];
    }
    __syncthreads();  // before the next call writes what this one still reads
    return sum;
  }
};
using Block = BlockOf<256>;

// Deals the numbers i = 0 ... count - 1 to the lanes and calls body(slot, i, whether i < count) by all lanes alike:
// lane j gets i = j + slot * kLanes. With Slots > 0 there are that many slots, known to the compiler; with 0 as many as
// it takes, and `slot` is always 0.
template <int Slots, class Team, class Body>
__device__ void deal(const Team& team, int64_t count, const Body& body) {
  if constexpr (Slots > 0) {
#pragma unroll
    for (int slot = 0; slot < Slots; ++slot) {
      const int64_t i = slot * Team::kLanes + team.lane;
      body(slot, i, i < count);
    }
  } else {
#pragma unroll 1
    for (int64_t first = 0; first < count; first += Team::kLanes) body(0, first + team.lane, first + team.lane < count);
  }
}

// The keys make(slot, i) of a row, dealt to the lanes: with Slots > 0 they are in registers, with 0 they are made anew
// whenever they are asked for.
template <class Team, int Slots, class Key, class Make> struct Keys {
  const Team& team;
  const int64_t count;
  const Make& make;
  Key held[Slots > 0 ? Slots : 1];

  __device__ Keys(const Team& team, int64_t count, const Make& make) : team(team), count(count), make(make) {
    if constexpr (Slots > 0)
      deal<Slots>(team, count, [&](int slot, int64_t i, bool there) { held[slot] = there ? make(slot, i) : Key(0); });
  }
  // body(slot, i, whether there is such a key, the key), by all lanes alike.
  template <class Body> __device__ void each(const Body& body) const {
    deal<Slots>(team, count, [&](int slot, int64_t i, bool there) {
      if constexpr (Slots > 0) body(slot, i, there, held[slot]);
      else body(slot, i, there, there ? make(slot, i) : Key(0));
    });
  }
};
template <int Slots, class Key, class Team, class Make>
__device__ Keys<Team, Slots, Key, Make> keys_of(const Team& team, int64_t count, const Make& make) {
  return {team, count, make};
}

// A selection as a lane asks for it, one key at a time.
template <class Key> struct Chosen {
  Key bound;
  int64_t limit;  // keys that equal the bound are chosen before it
  __device__ bool has(Key key, int64_t i) const { return key < bound || (key == bound && i < limit); }
};

// The `wanted` smallest keys, of which there are at least as many; ties to the earlier one.
template <class Team, int Slots, class Key, class Make>
__device__ Chosen<Key> smallest(const Keys<Team, Slots, Key, Make>& keys, int64_t wanted) {
  const Team& team = keys.team;
  const Selection<Key> selection = find_bound<Key>(wanted, [&](Key candidate) {
    int less = 0;
    keys.each([&](int, int64_t, bool there, Key key) { less += there && key < candidate; });
    return team.sum(less);
  });
  if (selection.equal == 0) return {selection.bound, 0};
  int64_t ties = 0;
  int limit = 0;  // other than 0 in the one lane that has the last tie that is taken
  keys.each([&](int, int64_t i, bool there, Key key) {
    const bool tie = there && key == selection.bound;
    int all;
    const int64_t place = ties + team.before(tie, all);
    if (tie && place == selection.equal - 1) limit = static_cast<int>(i) + 1;
    ties += all;
  });
  return {selection.bound, team.sum(limit)};
}

}  // namespace asma::cuda
