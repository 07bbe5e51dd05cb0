#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  using namespace asma;
  const int64_t rng[] = {1, 2}, flip[] = {0, 2, 1};
  std::vector<int64_t> frames(5 * 40), joints(5 * 3);
  std::vector<float> matrix(5 * 9);
  const ViewDraw a{false, 40, 6, 1, 0.5f, 0.1f, flip, 3, int64_t{1} << 31, true};
  cuda::view_draw(a, rng, 1, frames.data(), joints.data(), matrix.data(), 5, nullptr);
}
