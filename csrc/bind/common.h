// What every binding needs, of whatever device: outputs and checks. Bindings are the only files that know torch.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace asma::bind {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class T> const T* data(const Tensor& tensor) { return static_cast<const T*>(tensor.const_data_ptr()); }
template <class T> T* mutable_data(Tensor& tensor) { return static_cast<T*>(tensor.mutable_data_ptr()); }

inline Tensor empty_on(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}
inline Tensor empty_on(const Tensor& like, std::vector<int64_t> sizes) {
  return torch::stable::new_empty(like, sizes, like.scalar_type());
}

inline void check_dim(const char* op, const char* name, const Tensor& tensor, int64_t dim) {
  STD_TORCH_CHECK(tensor.dim() == dim, op, ": ", name, " must have ", dim, " axes, got ", tensor.dim());
}
inline void check_dtype(const char* op, const char* name, const Tensor& tensor, ScalarType dtype, const char* wanted) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, op, ": ", name, " must be ", wanted);
}
// Index, weight and seed tensors are small; kernels read them as plain arrays.
inline void check_contiguous(const char* op, const char* name, const Tensor& tensor) {
  STD_TORCH_CHECK(tensor.is_contiguous(), op, ": ", name, " must be contiguous");
}
// The rng argument of the masks: int64 [seed, call].
inline void check_rng(const char* op, const Tensor& rng) {
  check_dim(op, "rng", rng, 1);
  check_dtype(op, "rng", rng, ScalarType::Long, "int64 [seed, call]");
  STD_TORCH_CHECK(rng.size(0) == 2, op, ": rng must be int64 [seed, call], got ", rng.size(0), " numbers");
}

}  // namespace asma::bind
