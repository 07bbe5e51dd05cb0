// A warp for each of two rows, and a block for a skeleton that no warp holds, whose first tokens a launch counts
// before.
#include <memory>
#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  using namespace asma;
  const int64_t rng[] = {1, 2};
  for (const int64_t V : {5, 260})
    for (const auto mode : {JointMask::fixed, JointMask::tokens, JointMask::deterministic}) {
      const std::vector<int64_t> weights(V, 2);
      const JointMask a{V, weights.data(), 2, mode == JointMask::tokens ? V : V - 2, mode, true};
      std::vector<int32_t> starts(cuda::joint_mask_starts(a));
      const std::unique_ptr<bool[]> mask(new bool[2 * V]);
      std::vector<int64_t> kept(2 * V), count(2);
      cuda::joint_mask(a, 2, rng, 1, starts.data(), mask.get(), kept.data(), count.data(), nullptr);
    }
}
