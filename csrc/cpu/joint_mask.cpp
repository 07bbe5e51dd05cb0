#include "joint_mask.h"

#include "scratch.h"
#include "select.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// A skeleton has few joints and a batch many rows, so a vector holds one number of each of kRows rows.
#if defined(__AVX512F__)
constexpr int kRows = 16;
#elif defined(__AVX2__)
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif
typedef int32_t Rows __attribute__((vector_size(4 * kRows)));
typedef uint32_t Words __attribute__((vector_size(4 * kRows)));

// starts: (V + 1) the first token of each joint. Returns how many tokens there are.
int64_t count_tokens(const JointMask& a, int64_t* starts) {
  starts[0] = 0;
  for (int64_t v = 0; v < a.V; ++v) starts[v + 1] = starts[v] + tokens_of(a.weights[v]);
  return starts[a.V];
}

struct Group {
  Scratch<int64_t> starts;
  int64_t total;
  Scratch<Rows> tokens;  // keys of the tokens, for mode tokens
  Scratch<Rows> joints;  // keys of the joints, then -1 where one is masked, else 0

  explicit Group(const JointMask& a)
      : starts(a.V + 1),
        total(count_tokens(a, starts.data)),
        tokens(a.mode == JointMask::tokens ? total : 0),
        joints(a.V) {}
};

// Keys of one token in the rows [row, row + kRows).
ASMA_INLINE void draw(const Philox& random, int64_t token, int64_t row, Rows& keys) {
  int32_t drawn[kRows];
  for (int i = 0; i < kRows; ++i)
    drawn[i] = ordered_key(random.word(static_cast<uint32_t>(token), static_cast<uint32_t>(row + i)));
  __builtin_memcpy(&keys, drawn, sizeof(keys));
}

// As `smallest` of select.h, for kRows rows side by side: the bound of each, and how many keys equal to it are taken.
struct Selections {
  Rows bound, equal;

  Selections(const Rows* keys, int64_t count, int64_t wanted) {
    const Rows target = Rows{} + static_cast<int32_t>(wanted);
    bound = Rows{} + INT32_MIN;
    Rows below = {}, open = Rows{} - 1;
    for (int bit = 31; bit >= 0; --bit) {
      const Rows candidate = (Rows)((Words)bound + (uint32_t(1) << bit));
      Rows less = {};
      for (int64_t i = 0; i < count; ++i) less -= keys[i] < candidate;
      const Rows raise = open & (less <= target);
      bound = (candidate & raise) | (bound & ~raise);
      below = (less & raise) | (below & ~raise);
      open &= less != target;
      int32_t any = 0;
      for (int i = 0; i < kRows; ++i) any |= open[i];
      if (!any) break;
    }
    equal = target - below;
  }
  // Into `keys`: -1 where they are taken, else 0.
  ASMA_INLINE void take(Rows& keys) {
    const Rows tie = (keys == bound) & (equal > 0);
    equal += tie;
    keys = (keys < bound) | tie;
  }
};

// group.joints: which joints of the rows [row, row + kRows) are masked.
void mask_rows(const JointMask& a, const Philox& random, Group& group, int64_t row) {
  Rows* joints = group.joints.data;
  const int64_t* starts = group.starts.data;
  if (a.mode == JointMask::tokens) {
    Rows* tokens = group.tokens.data;
    for (int64_t token = 0; token < group.total; ++token) draw(random, token, row, tokens[token]);
    Selections selections(tokens, group.total, a.k);
    for (int64_t v = 0; v < a.V; ++v) {
      joints[v] = Rows{};
      for (int64_t token = starts[v]; token < starts[v + 1]; ++token) {
        selections.take(tokens[token]);
        joints[v] |= tokens[token];
      }
    }
    return;
  }
  for (int64_t v = 0; v < a.V; ++v) {
    if (a.mode == JointMask::deterministic) {
      joints[v] = Rows{} - static_cast<int32_t>(starts[v + 1] - starts[v]);
      continue;
    }
    Rows least = Rows{} + INT32_MAX;
    for (int64_t token = starts[v]; token < starts[v + 1]; ++token) {
      Rows keys;
      draw(random, token, row, keys);
      const Rows smaller = keys < least;
      least = (keys & smaller) | (least & ~smaller);
    }
    joints[v] = least;
  }
  Selections selections(joints, a.V, a.k);
  for (int64_t v = 0; v < a.V; ++v) selections.take(joints[v]);
}

// mask (V) and the kept joints of one of the group's rows; returns how many are kept. `kept` has room for V + 1: the
// loop writes before it asks.
int64_t read_row(const JointMask& a, const Group& group, int64_t place, bool* __restrict__ mask,
                 int64_t* __restrict__ kept) {
  const Rows* joints = group.joints.data;
  int64_t count = 0;
  for (int64_t v = 0; v < a.V; ++v) {
    const bool masked = joints[v][place] != 0;
    mask[v] = masked;
    kept[count] = v;
    count += !masked;
  }
  return count;
}

}  // namespace

void joint_mask(const JointMask& a, Philox random, bool* mask, int64_t* kept, int64_t* count, int64_t begin,
                int64_t end) {
  Group group(a);
  Scratch<bool> masked(a.V);
  Scratch<int64_t> joints(a.V + 1);
  int64_t left = 0;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t place = a.shared ? 0 : (row - begin) % kRows;
    const bool fresh = a.shared ? row == begin : place == 0;
    if (fresh) mask_rows(a, random, group, a.shared ? 0 : row);
    if (fresh || !a.shared) left = read_row(a, group, place, masked.data, joints.data);
    for (int64_t v = 0; v < a.V; ++v) mask[row * a.V + v] = masked[v];
    for (int64_t i = 0; i < a.width; ++i) kept[row * a.width + i] = i < left ? joints[i] : -1;
    count[row] = left;
  }
}

}  // namespace ASMA_ISA
}  // namespace asma
