// Two clips in one block each: one that a warp chooses for, and one that the block chooses for, with ties.
#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  using namespace asma;
  const int64_t rng[] = {1, 2};
  for (const int64_t T : {20, 70}) {
    std::vector<float> x(2 * 3 * T * 2), kept(2 * 3 * (T - 12) * 2);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 11);
    const FrameDrop a{{2, 3, T, 2, 1, 6 * T, 2 * T, 2, 1, 1, nullptr, MotionEnergy::frame, 2, 1, false},
                      {T, T, 1, 7, 5, false, false},
                      T - 12};
    std::vector<int64_t> frames(2 * (T - 12));
    cuda::frame_drop(cuda::Dtype::float32, a, rng, 1, x.data(), nullptr, kept.data(), frames.data(), nullptr);
  }
}
