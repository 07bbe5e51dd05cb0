#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include "common.h"

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

}  // namespace

void on_device(int32_t device, int (*run)(void* context, void* stream), const char* op, void* context) {
  const torch::stable::accelerator::DeviceGuard guard(device);
  const int error = run(context, current_stream(device));
  STD_TORCH_CHECK(error == 0, op, ": CUDA error: ", cuda::error_string(error));
}

}  // namespace asma::bind
