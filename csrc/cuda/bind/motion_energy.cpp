#include "../../bind/motion_energy.h"

#include "common.h"

namespace asma::bind {
namespace {

Tensor motion_energy(const Tensor& x, std::string reduce, double p, int64_t stride, std::string boundary,
                     std::optional<Tensor> lengths) {
  const MotionEnergy a = motion_energy_arguments(x, reduce, p, stride, boundary, lengths);
  Tensor energy = empty_on(x, energy_shape(x, a.reduce));
  launch("motion_energy", x, [&](void* stream) {
    return cuda::motion_energy(dtype_of("motion_energy", x), a, x.const_data_ptr(), energy.mutable_data_ptr(), stream);
  });
  return energy;
}

Tensor motion_energy_backward(const Tensor& grad, const Tensor& x, std::string reduce, double p, int64_t stride,
                              std::string boundary, std::optional<Tensor> lengths) {
  const MotionEnergy a = motion_energy_arguments(x, reduce, p, stride, boundary, lengths);
  const Tensor g = torch::stable::contiguous(grad);
  Tensor grad_x = empty_on(x, {a.N, a.C, a.T, a.V, a.M});
  launch("motion_energy", x, [&](void* stream) {
    return cuda::motion_energy_backward(dtype_of("motion_energy", x), a, g.const_data_ptr(), x.const_data_ptr(),
                                        grad_x.mutable_data_ptr(), stream);
  });
  return grad_x;
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) {
  m.impl("motion_energy", TORCH_BOX(&asma::bind::motion_energy));
  m.impl("motion_energy_backward", TORCH_BOX(&asma::bind::motion_energy_backward));
}
