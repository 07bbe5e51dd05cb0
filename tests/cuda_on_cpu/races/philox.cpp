#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  const int64_t rng[] = {1, 2};
  std::vector<int64_t> words(3 * 40);
  asma::cuda::philox(rng, 1, words.data(), 3, 40, nullptr);
}
