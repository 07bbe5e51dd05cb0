#include "launch.h"

const char* asma::cuda::error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }
