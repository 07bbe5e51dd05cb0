#include "../../bind/motion_energy.h"

#include "../motion_energy.h"
#include "common.h"

namespace asma::bind {
namespace {

Tensor motion_energy(const Tensor& x, std::string reduce, double p, int64_t stride, std::string boundary,
                     std::optional<Tensor> lengths) {
  const MotionEnergy a = motion_energy_arguments(x, reduce, p, stride, boundary, lengths);
  Tensor energy = empty_on(x, energy_shape(x, a.reduce));
  visit_float("motion_energy", x.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(motion_energy<T>);
    T* out = mutable_data<T>(energy);
    torch::stable::parallel_for(0, x.size(0), grain(a.C * a.T * a.V * a.M),
                                [&](int64_t begin, int64_t end) { kernel(a, data<T>(x), out, begin, end); });
  });
  return energy;
}

Tensor motion_energy_backward(const Tensor& grad, const Tensor& x, std::string reduce, double p, int64_t stride,
                              std::string boundary, std::optional<Tensor> lengths) {
  const MotionEnergy a = motion_energy_arguments(x, reduce, p, stride, boundary, lengths);
  const Tensor g = torch::stable::contiguous(grad);
  Tensor grad_x = empty_on(x, {x.size(0), a.C, a.T, a.V, a.M});
  visit_float("motion_energy", x.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(motion_energy_backward<T>);
    T* out = mutable_data<T>(grad_x);
    torch::stable::parallel_for(0, x.size(0), grain(a.C * a.T * a.V * a.M), [&](int64_t begin, int64_t end) {
      kernel(a, data<T>(g), data<T>(x), out, begin, end);
    });
  });
  return grad_x;
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("motion_energy", TORCH_BOX(&asma::bind::motion_energy));
  m.impl("motion_energy_backward", TORCH_BOX(&asma::bind::motion_energy_backward));
}
