// Bytes: the weights once (from the cache after the first row), mask, kept and count once.
#include "../common/joint_mask.h"

#include "../common/philox.h"
#include "select.h"

namespace asma::cuda {
namespace {

constexpr int kTokenSlots = 4;  // as many tokens in registers, times the lanes, when tokens are drawn

// Of the tokens of this and the following lanes' joints, the first that is this joint's. `next` is the first token of
// them all, and then of the joints that follow. Tokens past the most are left out.
__device__ inline int first_token(int lane, int tokens, int& next) {
  int sum = tokens;
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(kAll, sum, step);
    if (lane >= step) sum += other;
  }
  const int first = next + sum - tokens, all = next + __shfl_sync(kAll, sum, kWarp - 1);
  next = all < kMostTokens ? all : kMostTokens;
  return first < kMostTokens ? first : kMostTokens;
}

// For skeletons that no warp holds: starts (V + 1), the first token of each joint, by one warp.
__global__ void __launch_bounds__(kWarp) joint_mask_starts_kernel(JointMask a, int32_t* __restrict__ starts) {
  const int lane = static_cast<int>(threadIdx.x);
  int next = 0;
  for (int64_t group = 0; group < a.V; group += kWarp) {
    const int64_t v = group + lane;
    const int first = first_token(lane, v < a.V ? tokens_of(a.weights[v]) : 0, next);
    if (v < a.V) starts[v] = first;
  }
  if (lane == 0) starts[a.V] = next;
}

// The first token of each joint of a lane, and the one after its last.
template <class Team, int Slots> struct Tokens {
  int first[Slots], end[Slots], total = 0;
  __device__ Tokens(const JointMask& a, const Team& team, const int32_t*) {
#pragma unroll
    for (int slot = 0; slot < Slots; ++slot) {
      const int64_t v = slot * kWarp + team.lane;
      const int tokens = v < a.V ? tokens_of(a.weights[v]) : 0;
      first[slot] = first_token(team.lane, tokens, total);
      end[slot] = first[slot] + tokens < kMostTokens ? first[slot] + tokens : kMostTokens;
    }
  }
  __device__ int begin_of(int slot, int64_t) const { return first[slot]; }
  __device__ int end_of(int slot, int64_t) const { return end[slot]; }
};
template <class Team> struct Tokens<Team, 0> {
  const int32_t* starts;
  int total;
  __device__ Tokens(const JointMask& a, const Team&, const int32_t* starts) : starts(starts), total(starts[a.V]) {}
  __device__ int begin_of(int, int64_t v) const { return starts[v]; }
  __device__ int end_of(int, int64_t v) const { return starts[v + 1]; }
};

// Calls found(slot, v, whether joint v is masked) for the joints of each lane.
template <JointMask::Mode Mode, int Slots, class Team, class Found>
__device__ void draw(const JointMask& a, const Team& team, const Tokens<Team, Slots>& tokens, const Philox& random,
                     int64_t row, const Found& found) {
  const auto word_key = [&](int, int64_t token) {
    return ordered_key(random.word(static_cast<uint32_t>(token), static_cast<uint32_t>(row)));
  };
  if constexpr (Mode == JointMask::tokens) {
    const int64_t wanted = a.k < tokens.total ? a.k : tokens.total;
    const Chosen<int32_t> chosen = tokens.total <= kTokenSlots * Team::kLanes
                                       ? smallest(keys_of<kTokenSlots, int32_t>(team, tokens.total, word_key), wanted)
                                       : smallest(keys_of<0, int32_t>(team, tokens.total, word_key), wanted);
    deal<Slots>(team, a.V, [&](int slot, int64_t v, bool there) {
      if (!there) return;
      bool masked = false;
      for (int token = tokens.begin_of(slot, v); token < tokens.end_of(slot, v); ++token)
        masked |= chosen.has(word_key(0, token), token);
      found(slot, v, masked);
    });
  } else {
    const auto joint_key = [&](int slot, int64_t v) {
      if (Mode == JointMask::deterministic) return -tokens_of(a.weights[v]);
      int32_t least = INT32_MAX;
      for (int token = tokens.begin_of(slot, v); token < tokens.end_of(slot, v); ++token) {
        const int32_t key = word_key(0, token);
        least = key < least ? key : least;
      }
      return least;
    };
    const auto joints = keys_of<Slots, int32_t>(team, a.V, joint_key);
    const Chosen<int32_t> chosen = smallest(joints, a.k);
    joints.each([&](int slot, int64_t v, bool there, int32_t key) {
      if (there) found(slot, v, chosen.has(key, v));
    });
  }
}

// A team for each row.
template <JointMask::Mode Mode, class Team, int Slots>
__global__ void __launch_bounds__(Team::kLanes* Team::kTeams, kFewBlocks)
    joint_mask_kernel(JointMask a, int64_t rows, const int64_t* __restrict__ rng, int64_t step,
                      const int32_t* __restrict__ starts, bool* mask, int64_t* __restrict__ kept,
                      int64_t* __restrict__ count) {
  const Team team;
  const Tokens<Team, Slots> tokens(a, team, starts);
  const Philox random = Mode == JointMask::deterministic ? Philox{} : Philox::of(rng[0], rng[step]);
  // What was drawn last: a bit for each joint of the lane, or, where registers do not hold it, the row it was written
  // to.
  unsigned held = 0;
  const bool* drawn = nullptr;
  const int64_t row_step = static_cast<int64_t>(gridDim.x) * Team::kTeams;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * Team::kTeams + threadIdx.y; row < rows; row += row_step) {
    bool* masks = mask + row * a.V;
    if (!a.shared || !drawn) {
      held = 0;
      draw<Mode, Slots>(a, team, tokens, random, a.shared ? 0 : row, [&](int slot, int64_t v, bool masked) {
        if (Slots > 0) held |= static_cast<unsigned>(masked) << slot;
        else masks[v] = masked;
      });
      drawn = masks;
    }
    int64_t left = 0;
    deal<Slots>(team, a.V, [&](int slot, int64_t v, bool there) {
      const bool masked = there && (Slots > 0 ? (held >> slot & 1) != 0 : drawn[v]);
      int all;
      const int64_t place = left + team.before(there && !masked, all);
      left += all;
      if (there) masks[v] = masked;
      if (there && !masked) kept[row * a.width + place] = v;
    });
    if (Mode == JointMask::tokens)
      for (int64_t i = left + team.lane; i < a.width; i += Team::kLanes) kept[row * a.width + i] = -1;
    if (team.lane == 0) count[row] = left;
  }
}

template <JointMask::Mode Mode, class Team, int Slots>
int launch(const JointMask& a, int64_t rows, const int64_t* rng, int64_t step, const int32_t* starts, bool* mask,
           int64_t* kept, int64_t* count, void* stream) {
  const dim3 grid(blocks(rows, Team::kTeams, kMostBlocks)), block(Team::kLanes, Team::kTeams);
  return ASMA_LAUNCH((joint_mask_kernel<Mode, Team, Slots>), grid, block, stream, a, rows, rng, step, starts, mask,
                     kept, count);
}

constexpr int kSmall = kWarp, kLarge = 8 * kWarp;  // joints that a warp holds

template <JointMask::Mode Mode>
int launch(const JointMask& a, int64_t rows, const int64_t* rng, int64_t step, int32_t* starts, bool* mask,
           int64_t* kept, int64_t* count, void* stream) {
  if (a.V <= kSmall) return launch<Mode, Warp, kSmall / kWarp>(a, rows, rng, step, starts, mask, kept, count, stream);
  if (a.V <= kLarge) return launch<Mode, Warp, kLarge / kWarp>(a, rows, rng, step, starts, mask, kept, count, stream);
  const int error = ASMA_LAUNCH(joint_mask_starts_kernel, dim3(1), dim3(kWarp), stream, a, starts);
  return error ? error : launch<Mode, Block, 0>(a, rows, rng, step, starts, mask, kept, count, stream);
}

}  // namespace

int64_t joint_mask_starts(const JointMask& a) { return a.V <= kLarge ? 0 : a.V + 1; }

int joint_mask(const JointMask& a, int64_t rows, const int64_t* rng, int64_t step, int32_t* starts, bool* mask,
               int64_t* kept, int64_t* count, void* stream) {
  if (rows == 0) return 0;
  switch (a.mode) {
    case JointMask::fixed: return launch<JointMask::fixed>(a, rows, rng, step, starts, mask, kept, count, stream);
    case JointMask::tokens: return launch<JointMask::tokens>(a, rows, rng, step, starts, mask, kept, count, stream);
    default: return launch<JointMask::deterministic>(a, rows, rng, step, starts, mask, kept, count, stream);
  }
}

}  // namespace asma::cuda
