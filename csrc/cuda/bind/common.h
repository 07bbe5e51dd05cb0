// What every CUDA binding needs beside: the current device and stream, dtypes. Stable ABI of LibTorch, no CUDA header.
#pragma once
#include "../../bind/common.h"
#include "../kernels.h"

// The tests build this half a second time, to run on the CPU, and then it must not meet itself.
#if !defined(ASMA_LIBRARY)
#define ASMA_LIBRARY asma
#define ASMA_CUDA_KEY CUDA
#endif

namespace asma::bind {

// Calls run(context, stream) on a device, with PyTorch's current stream there.
void on_device(int32_t device, int (*run)(void* context, void* stream), const char* op, void* context);

// Runs kernel(stream) on the device of `like`, and raises where it returns an error.
template <class Kernel> void launch(const char* op, const Tensor& like, const Kernel& kernel) {
  on_device(
      like.get_device_index(),
      [](void* context, void* stream) { return (*static_cast<const Kernel*>(context))(stream); }, op,
      const_cast<Kernel*>(&kernel));
}

inline cuda::Dtype dtype_of(const char* op, const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double: return cuda::Dtype::float64;
    case ScalarType::Float: return cuda::Dtype::float32;
    case ScalarType::BFloat16: return cuda::Dtype::bfloat16;
    case ScalarType::Half: return cuda::Dtype::float16;
    default: STD_TORCH_CHECK(false, op, ": dtype must be float64, float32, bfloat16 or float16");
  }
}

}  // namespace asma::bind
