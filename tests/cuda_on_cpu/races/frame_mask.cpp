// A warp for each of two clips, and a block for a clip that no warp holds, with ties.
#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  using namespace asma;
  const int64_t rng[] = {1, 2};
  for (const int64_t T : {20, 520}) {
    std::vector<float> energy(2 * T);
    for (size_t i = 0; i < energy.size(); ++i) energy[i] = static_cast<float>(i * 7 % 11);
    const FrameMask a{T, T, 1, 7, 5, false, false};
    std::vector<int64_t> kept(2 * (T - 12));
    cuda::frame_mask(cuda::Dtype::float32, a, T == 20 ? 2 : 1, rng, 1, energy.data(), kept.data(), nullptr);
  }
}
