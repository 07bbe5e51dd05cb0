// What every CPU binding needs beside: dtype dispatch, the host's random state, chunks of work.
#pragma once
#include "../../bind/common.h"
#include "../../common/philox.h"
#include "../../common/scalar.h"
#include "../isa.h"

namespace asma::bind {

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

inline Philox philox_of(const char* op, const Tensor& rng) {
  check_rng(op, rng);
  const int64_t* state = data<int64_t>(rng);
  return Philox::of(state[0], state[rng.stride(0)]);
}

// Rows per chunk so that a chunk is worth a thread: about 32k simple steps.
inline int64_t grain(int64_t work_per_row) {
  constexpr int64_t kWorth = 32768;
  return work_per_row <= 0 ? kWorth : (kWorth + work_per_row - 1) / work_per_row;
}

}  // namespace asma::bind
