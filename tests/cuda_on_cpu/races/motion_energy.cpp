// Two clips, few threads' worth of work: only the order of accesses matters here.
#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  using namespace asma;
  std::vector<float> x(2 * 3 * 12 * 5), grad_x(x.size()), energy(2 * 12 * 5);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 11);
  for (const auto reduce : {MotionEnergy::frame, MotionEnergy::joint, MotionEnergy::frame_joint}) {
    const MotionEnergy a{2, 3, 12, 5, 1, 180, 60, 5, 1, 1, nullptr, reduce, 2, 1, false};
    cuda::motion_energy(cuda::Dtype::float32, a, x.data(), energy.data(), nullptr);
    cuda::motion_energy_backward(cuda::Dtype::float32, a, energy.data(), x.data(), grad_x.data(), nullptr);
  }
}
