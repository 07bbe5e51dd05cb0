#include "../common/philox.h"

#include "launch.h"

namespace asma::cuda {
namespace {

constexpr int kColumns = 32, kRows = 8;  // of a block

// The seed is read here, on the device: no copy to the host, and a captured graph draws anew at every replay.
__global__ void __launch_bounds__(kColumns* kRows)
    philox_kernel(const int64_t* __restrict__ rng, int64_t step, int64_t* __restrict__ words, int64_t rows,
                  int64_t columns) {
  const Philox random = Philox::of(rng[0], rng[step]);
  const int64_t row_step = static_cast<int64_t>(gridDim.y) * kRows;
  const int64_t column_step = static_cast<int64_t>(gridDim.x) * kColumns;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * kRows + threadIdx.y; row < rows; row += row_step)
    for (int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x; column < columns;
         column += column_step)
      words[row * columns + column] = random.word(static_cast<uint32_t>(column), static_cast<uint32_t>(row));
}

}  // namespace

int philox(const int64_t* rng, int64_t step, int64_t* words, int64_t rows, int64_t columns, void* stream) {
  if (rows == 0 || columns == 0) return 0;
  const dim3 grid(blocks(columns, kColumns, 4096), blocks(rows, kRows, 4096));
  return ASMA_LAUNCH(philox_kernel, grid, dim3(kColumns, kRows), stream, rng, step, words, rows, columns);
}

}  // namespace asma::cuda
