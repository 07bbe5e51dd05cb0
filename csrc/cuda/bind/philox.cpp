#include "common.h"

namespace asma::bind {
namespace {

Tensor philox(const Tensor& rng, int64_t rows, int64_t columns) {
  STD_TORCH_CHECK(rows >= 0 && columns >= 0, "philox: rows and columns must be >= 0, got ", rows, " and ", columns);
  check_rng("philox", rng);
  Tensor words = empty_on(rng, {rows, columns}, ScalarType::Long);
  launch("philox", rng, [&](void* stream) {
    return cuda::philox(data<int64_t>(rng), rng.stride(0), mutable_data<int64_t>(words), rows, columns, stream);
  });
  return words;
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) { m.impl("philox", TORCH_BOX(&asma::bind::philox)); }
