#include "../../bind/skeleton_view.h"

#include <tuple>

#include "../skeleton_view.h"
#include "common.h"

namespace asma::bind {
namespace {

using of_skeleton_view::kOp;
using of_skeleton_view::small_data;

void check_indices(const char* name, const int64_t* indices, int64_t step, int64_t picked, int64_t N, int64_t size) {
  if (!indices) return;
  const int64_t count = step ? N * picked : picked;
  const int64_t place = ASMA_PICK(first_outside)(indices, count, size);
  if (place == count) return;
  const std::string clip = step ? " of clip " + std::to_string(place / picked) : "";
  STD_TORCH_CHECK(false, kOp, ": ", name, " must be in [-1, ", size, "), got ", indices[place], " at place ",
                  place % picked, clip);
}

// All of them before the first is used: a wrong index reads nothing and writes nothing.
void check_indices(const SkeletonView& a) {
  check_indices("frames", a.frames, a.frames_step, a.T_out, a.N, a.T);
  check_indices("joints", a.joints, a.joints_step, a.V_out, a.N, a.V);
}

int64_t grain_of(const SkeletonView& a) {
  const int64_t read = a.C * a.T * a.V * a.M, written = a.C_out * a.T_out * a.V_out * a.M;
  return grain(read > written ? read : written);
}

Tensor skeleton_view(const Tensor& x, MaybeTensor frames, MaybeTensor joints, MaybeTensor matrix, MaybeTensor offset) {
  const SkeletonView a = skeleton_view_arguments(x, frames, joints, matrix, offset);
  check_indices(a);
  Tensor out = empty_view(a, x);
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(skeleton_view<T>);
    const auto* m = small_data<acc_t<T>>(matrix);
    const auto* b = small_data<acc_t<T>>(offset);
    T* to = mutable_data<T>(out);
    torch::stable::parallel_for(0, a.N, grain_of(a),
                                [&](int64_t begin, int64_t end) { kernel(a, m, b, data<T>(x), to, begin, end); });
  });
  return out;
}

Tensor backward_x(const SkeletonView& a, const Tensor& grad, const MaybeTensor& matrix) {
  Tensor grad_x = empty_on(grad, {a.N, a.C, a.T, a.V, a.M});
  visit_float(kOp, grad.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(skeleton_view_backward<T>);
    const auto* m = small_data<acc_t<T>>(matrix);
    T* to = mutable_data<T>(grad_x);
    torch::stable::parallel_for(0, a.N, grain_of(a),
                                [&](int64_t begin, int64_t end) { kernel(a, m, data<T>(grad), to, begin, end); });
  });
  return grad_x;
}

// Columns [first, first + columns) of the clips' sums, added up over the clips, in their order, where they share.
template <class A>
void reduce(const SkeletonView& a, const double* sums, bool shared, int64_t first, int64_t columns, A* out) {
  const int64_t N = a.N, numbers = a.C_out * columns;
  for (int64_t i = 0; i < (shared ? 1 : N) * numbers; ++i) {
    const int64_t place = i % numbers / columns * (a.C + 1) + first + i % columns;
    double total = 0;
    for (int64_t clip = shared ? 0 : i / numbers; clip < (shared ? N : i / numbers + 1); ++clip)
      total += sums[clip * a.C_out * (a.C + 1) + place];
    out[i] = static_cast<A>(total);
  }
}

std::tuple<Tensor, Tensor> backward_matrix(const SkeletonView& a, const Tensor& grad, const Tensor& x,
                                           bool matrix_shared, bool offset_shared) {
  Tensor sums = empty_on(x, {a.N, a.C_out, a.C + 1}, ScalarType::Double);
  Tensor grad_matrix = empty_grad_matrix(a, x, matrix_shared), grad_offset = empty_grad_offset(a, x, offset_shared);
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(skeleton_view_backward_matrix<T>);
    double* to = mutable_data<double>(sums);
    torch::stable::parallel_for(
        0, a.N, grain_of(a), [&](int64_t begin, int64_t end) { kernel(a, data<T>(grad), data<T>(x), to, begin, end); });
    reduce(a, to, matrix_shared, 0, a.C, mutable_data<acc_t<T>>(grad_matrix));
    reduce(a, to, offset_shared, a.C, 1, mutable_data<acc_t<T>>(grad_offset));
  });
  return {grad_matrix, grad_offset};
}

// A gradient that is not wanted is an empty tensor.
std::tuple<Tensor, Tensor, Tensor> skeleton_view_backward(const Tensor& grad, MaybeTensor x, int64_t T, int64_t V,
                                                          MaybeTensor frames, MaybeTensor joints, MaybeTensor matrix,
                                                          bool needs_x, bool matrix_shared, bool offset_shared) {
  const SkeletonView a = skeleton_view_backward_arguments(grad, x, T, V, frames, joints, matrix);
  check_indices(a);
  const Tensor g = torch::stable::contiguous(grad);
  Tensor grad_x = needs_x ? backward_x(a, g, matrix) : empty_on(grad, {0});
  if (!x) return {grad_x, empty_on(grad, {0}), empty_on(grad, {0})};
  const auto [grad_matrix, grad_offset] = backward_matrix(a, g, *x, matrix_shared, offset_shared);
  return {grad_x, grad_matrix, grad_offset};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("skeleton_view", TORCH_BOX(&asma::bind::skeleton_view));
  m.impl("skeleton_view_backward", TORCH_BOX(&asma::bind::skeleton_view_backward));
}
