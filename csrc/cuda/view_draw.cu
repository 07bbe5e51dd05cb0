// Bytes: the results once, 8 (T + V) + 36 a clip. Arithmetic: twelve Philox words a clip, a lane for each.
#include "../common/view_draw.h"

#include "launch.h"

namespace asma::cuda {
namespace {

constexpr int kRows = 4;  // warps of a block, each with a clip of its own

// The seed is read here, on the device: no copy to the host, and a captured graph draws anew at every replay.
__global__ void __launch_bounds__(kWarp* kRows)
    view_draw_kernel(ViewDraw a, const int64_t* __restrict__ rng, int64_t step, int64_t* __restrict__ frames,
                     int64_t* __restrict__ joints, float* __restrict__ matrix, int64_t N) {
  const Philox random = Philox::of(rng[0], rng[step]);
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t clip_step = static_cast<int64_t>(gridDim.x) * kRows;
  for (int64_t clip = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.y; clip < N; clip += clip_step) {
    const uint32_t own = random.word(static_cast<uint32_t>(lane), a.row(clip));
    uint32_t words[ViewDraw::kWords];
    for (int i = 0; i < ViewDraw::kWords; ++i) words[i] = __shfl_sync(kAll, own, i);
    for (int64_t t = lane; t < a.T; t += kWarp) frames[clip * a.T + t] = a.frame(words, t);
    const bool flipped = a.flipped(words);
    for (int64_t v = lane; v < a.V; v += kWarp) joints[clip * a.V + v] = flipped ? a.flip[v] : v;
    float numbers[9], mine = 0;  // every lane has all nine and stores its own
    a.draw_matrix(words, numbers);
    for (int i = 0; i < 9; ++i) mine = lane == i ? numbers[i] : mine;
    if (lane < 9) matrix[clip * 9 + lane] = mine;
  }
}

}  // namespace

int view_draw(const ViewDraw& a, const int64_t* rng, int64_t step, int64_t* frames, int64_t* joints, float* matrix,
              int64_t N, void* stream) {
  if (N == 0) return 0;
  const dim3 grid(blocks(N, kRows, 1024));
  return ASMA_LAUNCH(view_draw_kernel, grid, dim3(kWarp, kRows), stream, a, rng, step, frames, joints, matrix, N);
}

}  // namespace asma::cuda
