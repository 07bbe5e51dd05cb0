// Every CUDA kernel's binding: checks, outputs, the current device and stream. Stable ABI of LibTorch, no CUDA header.
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include "../cpu/bind/common.h"
#include "kernels.h"

namespace asma::bind {
namespace {

// PyTorch's current stream. It is looked up, not linked, so that this library loads beside a torch without CUDA; and in
// torch's C shim, because the stable Stream has no native handle before 2.13.
void* current_stream(int32_t device) {
  using Lookup = int32_t (*)(int32_t device, void** stream);
  static const Lookup lookup = [] {
    void* torch_cuda = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
    return torch_cuda ? reinterpret_cast<Lookup>(dlsym(torch_cuda, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  STD_TORCH_CHECK(lookup, "asma-kernels: this torch has no CUDA: libtorch_cuda.so is not loaded");
  void* stream = nullptr;
  STD_TORCH_CHECK(lookup(device, &stream) == 0, "asma-kernels: torch has no current stream for CUDA device ", device);
  return stream;
}

// Runs kernel(stream) on the device of `like`.
template <class Kernel> void launch(const char* op, const Tensor& like, const Kernel& kernel) {
  const int32_t device = like.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  const int error = kernel(current_stream(device));
  STD_TORCH_CHECK(error == 0, op, ": CUDA error: ", asma_cuda_error(error));
}

Tensor philox(const Tensor& rng, int64_t rows, int64_t columns) {
  STD_TORCH_CHECK(rows >= 0 && columns >= 0, "philox: rows and columns must be >= 0, got ", rows, " and ", columns);
  check_dim("philox", "rng", rng, 1);
  check_dtype("philox", "rng", rng, ScalarType::Long, "int64 [seed, call]");
  STD_TORCH_CHECK(rng.size(0) == 2, "philox: rng must be int64 [seed, call], got ", rng.size(0), " numbers");
  Tensor words = empty_on(rng, {rows, columns}, ScalarType::Long);
  launch("philox", rng, [&](void* stream) {
    return asma_cuda_philox(data<int64_t>(rng), rng.stride(0), mutable_data<int64_t>(words), rows, columns, stream);
  });
  return words;
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CUDA, m) { m.impl("philox", TORCH_BOX(&asma::bind::philox)); }
