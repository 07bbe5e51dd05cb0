// What every CPU binding needs: dtype dispatch, shapes, checks. The only place, with the bindings, that knows torch.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <vector>

#include "../../common/philox.h"
#include "../../common/scalar.h"
#include "../isa.h"

namespace asma::bind {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Calls body(T{}) with the C++ type of a floating dtype.
template <class Body> void visit_float(const char* op, ScalarType dtype, const Body& body) {
  switch (dtype) {
    case ScalarType::Double: return body(double{});
    case ScalarType::Float: return body(float{});
    case ScalarType::BFloat16: return body(bf16{});
    case ScalarType::Half: return body(half{});
    default: STD_TORCH_CHECK(false, op, ": dtype must be float64, float32, bfloat16 or float16");
  }
}

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
inline Philox philox_of(const char* op, const Tensor& rng) {
  check_dim(op, "rng", rng, 1);
  check_dtype(op, "rng", rng, ScalarType::Long, "int64 [seed, call]");
  STD_TORCH_CHECK(rng.size(0) == 2, op, ": rng must be int64 [seed, call], got ", rng.size(0), " numbers");
  const int64_t step = rng.stride(0);
  const int64_t* state = data<int64_t>(rng);
  return Philox::of(state[0], state[step]);
}

// Rows per chunk so that a chunk is worth a thread: about 32k simple steps.
inline int64_t grain(int64_t work_per_row) {
  constexpr int64_t kWorth = 32768;
  return work_per_row <= 0 ? kWorth : (kWorth + work_per_row - 1) / work_per_row;
}

}  // namespace asma::bind
