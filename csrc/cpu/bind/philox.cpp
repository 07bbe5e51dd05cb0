#include "../philox.h"

#include <string>

#include "common.h"

namespace asma::bind {
namespace {

Tensor philox(const Tensor& rng, int64_t rows, int64_t columns) {
  STD_TORCH_CHECK(rows >= 0 && columns >= 0, "philox: rows and columns must be >= 0, got ", rows, " and ", columns);
  const Philox random = philox_of("philox", rng);
  Tensor words = empty_on(rng, {rows, columns}, ScalarType::Long);
  int64_t* out = mutable_data<int64_t>(words);
  const auto kernel = ASMA_PICK(philox);
  torch::stable::parallel_for(0, rows, grain(columns * 40),
                              [&](int64_t begin, int64_t end) { kernel(random, out, columns, begin, end); });
  return words;
}

std::string isa() { return isa_name(); }

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("philox", TORCH_BOX(&asma::bind::philox)); }
STABLE_TORCH_LIBRARY_IMPL(asma, CompositeExplicitAutograd, m) {
  m.impl("isa", TORCH_BOX(&asma::bind::isa));
  m.impl("multiplies_bf16", TORCH_BOX(&asma::multiplies_bf16));
}
