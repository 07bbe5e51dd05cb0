// Three warps, and a row of two blocks.
#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  using namespace asma;
  const int64_t rng[] = {1, 2};
  for (const int64_t L : {70, 1030}) {
    std::vector<float> score(L, 1), mask(L);
    std::vector<int64_t> kept(9), restore(L);
    const TokenMask a{L, 9, L, 1, 0, 0, 1};
    cuda::token_mask(cuda::Dtype::float32, a, 1, rng, 1, score.data(), nullptr, kept.data(), restore.data(),
                     mask.data(), nullptr);
  }
}
