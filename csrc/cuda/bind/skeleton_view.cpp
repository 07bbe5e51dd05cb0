#include "../../bind/skeleton_view.h"

#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

using of_skeleton_view::kOp;

// Of a matrix or offset; null for what is not given.
const void* small_pointer(const MaybeTensor& tensor, cuda::Dtype dtype) {
  if (dtype == cuda::Dtype::float64) return of_skeleton_view::small_data<double>(tensor);
  return of_skeleton_view::small_data<float>(tensor);
}

Tensor skeleton_view(const Tensor& x, MaybeTensor frames, MaybeTensor joints, MaybeTensor matrix, MaybeTensor offset) {
  const SkeletonView a = skeleton_view_arguments(x, frames, joints, matrix, offset);
  const cuda::Dtype dtype = dtype_of(kOp, x);
  Tensor out = empty_view(a, x);
  launch(kOp, x, [&](void* stream) {
    return cuda::skeleton_view(dtype, a, small_pointer(matrix, dtype), small_pointer(offset, dtype), x.const_data_ptr(),
                               out.mutable_data_ptr(), stream);
  });
  return out;
}

// A gradient that is not wanted is an empty tensor.
std::tuple<Tensor, Tensor, Tensor> skeleton_view_backward(const Tensor& grad, MaybeTensor x, int64_t T, int64_t V,
                                                          MaybeTensor frames, MaybeTensor joints, MaybeTensor matrix,
                                                          bool needs_x, bool matrix_shared, bool offset_shared) {
  const SkeletonView a = skeleton_view_backward_arguments(grad, x, T, V, frames, joints, matrix);
  const cuda::Dtype dtype = dtype_of(kOp, grad);
  const Tensor g = torch::stable::contiguous(grad);
  Tensor grad_x = needs_x ? empty_on(grad, {a.N, a.C, T, V, a.M}) : empty_on(grad, {0});
  if (needs_x)
    launch(kOp, grad, [&](void* stream) {
      return cuda::skeleton_view_backward(dtype, a, small_pointer(matrix, dtype), g.const_data_ptr(),
                                          grad_x.mutable_data_ptr(), stream);
    });
  if (!x) return {grad_x, empty_on(grad, {0}), empty_on(grad, {0})};
  Tensor grad_matrix = empty_grad_matrix(a, *x, matrix_shared), grad_offset = empty_grad_offset(a, *x, offset_shared);
  Tensor sums = empty_on(*x, {a.N, cuda::skeleton_view_pieces(a), a.C_out, a.C + 1}, ScalarType::Double);
  launch(kOp, grad, [&](void* stream) {
    return cuda::skeleton_view_backward_matrix(dtype, a, g.const_data_ptr(), x->const_data_ptr(),
                                               mutable_data<double>(sums), matrix_shared, offset_shared,
                                               grad_matrix.mutable_data_ptr(), grad_offset.mutable_data_ptr(), stream);
  });
  return {grad_x, grad_matrix, grad_offset};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) {
  m.impl("skeleton_view", TORCH_BOX(&asma::bind::skeleton_view));
  m.impl("skeleton_view_backward", TORCH_BOX(&asma::bind::skeleton_view_backward));
}
