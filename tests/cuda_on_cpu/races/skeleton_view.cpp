// Two clips, blocks of several warps, frames wider than a block, so that lists and sums in shared memory are written
// more than once: only the order of accesses matters here.
#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  using namespace asma;
  constexpr int64_t T = 6, V = 2, M = 140;
  const std::vector<int64_t> frames{0, 3, 3, -1, 5, 1}, joints{1, 0};
  for (const int64_t C : {3, 2}) {
    std::vector<float> x(2 * C * T * V * M), out(x.size()), matrix(C * C, 0.5f), offset(C);
    const SkeletonView a{2, C, T, V, M, C * T * V * M, T * V * M, V * M, M, 1, C, T, V, frames.data(), 0, joints.data(),
                         0, 0, 0};
    std::vector<double> sums(2 * cuda::skeleton_view_pieces(a) * C * (C + 1));
    const auto dtype = cuda::Dtype::float32;
    cuda::skeleton_view(dtype, a, matrix.data(), offset.data(), x.data(), out.data(), nullptr);
    cuda::skeleton_view_backward(dtype, a, matrix.data(), out.data(), x.data(), nullptr);
    cuda::skeleton_view_backward_matrix(dtype, a, out.data(), x.data(), sums.data(), true, true, matrix.data(),
                                        offset.data(), nullptr);
  }
}
