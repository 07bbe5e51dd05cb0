#include <cuda_runtime.h>

#include "kernels.h"

extern "C" const char* asma_cuda_error(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }
