// Stands in for csrc/cuda/bind/device.cpp where the kernels run on the CPU.
#include "../../csrc/cuda/bind/common.h"

namespace asma::cuda {
const char* error_string(int) { return "emulated"; }
}  // namespace asma::cuda

namespace asma::bind {
void on_device(int32_t, int (*run)(void* context, void* stream), const char* op, void* context) {
  const int error = run(context, nullptr);
  STD_TORCH_CHECK(error == 0, op, ": CUDA error: ", cuda::error_string(error));
}
}  // namespace asma::bind
