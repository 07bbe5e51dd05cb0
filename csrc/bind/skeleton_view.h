// Checks of skeleton_view's arguments and the shapes of its results. What indices are worth is checked by who can read
// them.
#pragma once
#include "../common/skeleton_view.h"
#include "common.h"

namespace asma::bind {

using MaybeTensor = std::optional<Tensor>;

namespace of_skeleton_view {

constexpr const char* kOp = "skeleton_view";

// Of matrix, offset and their gradients.
inline ScalarType matrix_dtype(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Null is for what is not given; an empty tensor may have no memory, so it gets an address that is never read.
template <class A> const A* small_data(const MaybeTensor& tensor) {
  static const A empty{};
  return !tensor ? nullptr : tensor->numel() > 0 ? data<A>(*tensor) : &empty;
}

// Small tensors whose leading clip axis may be missing: (axes without N) or (N, ...).
inline bool per_clip(const char* name, const Tensor& tensor, int64_t axes, int64_t N) {
  check_contiguous(kOp, name, tensor);
  STD_TORCH_CHECK(tensor.dim() == axes || (tensor.dim() == axes + 1 && tensor.size(0) == N), kOp, ": ", name,
                  " must have ", axes, " axes, or N = ", N, " before them");
  return tensor.dim() > axes;
}

struct Indices {
  const int64_t* data;
  int64_t step, size;
};

inline Indices indices_of(const char* name, const MaybeTensor& indices, int64_t N, int64_t size) {
  if (!indices) return {nullptr, 0, size};
  check_dtype(kOp, name, *indices, ScalarType::Long, "int64");
  const bool own = per_clip(name, *indices, 1, N);
  const int64_t picked = indices->size(own);
  return {small_data<int64_t>(indices), own ? picked : 0, picked};
}

// N clips of (C, T, V, M) whose strides the caller fills in.
inline SkeletonView arguments(int64_t N, int64_t C, int64_t T, int64_t V, int64_t M, int64_t C_out,
                              const MaybeTensor& frames, const MaybeTensor& joints) {
  const Indices f = indices_of("frames", frames, N, T), j = indices_of("joints", joints, N, V);
  SkeletonView a{};
  a.N = N, a.C = C, a.T = T, a.V = V, a.M = M;
  a.C_out = C_out, a.T_out = f.size, a.V_out = j.size;
  a.frames = f.data, a.frames_step = f.step;
  a.joints = j.data, a.joints_step = j.step;
  return a;
}

inline void set_strides(SkeletonView& a, const Tensor& x) {
  a.sn = x.stride(0), a.sc = x.stride(1), a.st = x.stride(2), a.sv = x.stride(3), a.sm = x.stride(4);
}

inline void set_matrix(SkeletonView& a, const Tensor& like, const MaybeTensor& matrix) {
  if (!matrix) {
    STD_TORCH_CHECK(a.C_out == a.C, kOp, ": without a matrix C' must be C = ", a.C, ", got ", a.C_out);
    return;
  }
  check_dtype(kOp, "matrix", *matrix, matrix_dtype(like), "float64 for float64 x, else float32");
  const bool own = per_clip("matrix", *matrix, 2, a.N);
  STD_TORCH_CHECK(matrix->size(own) == a.C_out && matrix->size(own + 1) == a.C, kOp, ": matrix must be (C', C) = (",
                  a.C_out, ", ", a.C, ")");
  a.matrix_step = own ? a.C_out * a.C : 0;
}

}  // namespace of_skeleton_view

inline SkeletonView skeleton_view_arguments(const Tensor& x, const MaybeTensor& frames, const MaybeTensor& joints,
                                            const MaybeTensor& matrix, const MaybeTensor& offset) {
  using namespace of_skeleton_view;
  check_dim(kOp, "x (N, C, T, V, M)", x, 5);
  const int64_t N = x.size(0), C = x.size(1);
  const int64_t C_out = matrix && matrix->dim() >= 2 ? matrix->size(matrix->dim() - 2) : C;
  SkeletonView a = arguments(N, C, x.size(2), x.size(3), x.size(4), C_out, frames, joints);
  set_strides(a, x);
  set_matrix(a, x, matrix);
  if (offset) {
    check_dtype(kOp, "offset", *offset, matrix_dtype(x), "float64 for float64 x, else float32");
    const bool own = per_clip("offset", *offset, 1, N);
    STD_TORCH_CHECK(offset->size(own) == C_out, kOp, ": offset must be (C') = (", C_out, ")");
    a.offset_step = own ? C_out : 0;
  }
  return a;
}

// x is given when the gradients in matrix and offset are wanted; without it there are no strides.
inline SkeletonView skeleton_view_backward_arguments(const Tensor& grad, const MaybeTensor& x, int64_t T, int64_t V,
                                                     const MaybeTensor& frames, const MaybeTensor& joints,
                                                     const MaybeTensor& matrix) {
  using namespace of_skeleton_view;
  check_dim(kOp, "grad (N, C', T', V', M)", grad, 5);
  STD_TORCH_CHECK(T >= 0 && V >= 0, kOp, ": T and V must be >= 0, got ", T, " and ", V);
  const int64_t N = grad.size(0), C_out = grad.size(1), M = grad.size(4);
  const int64_t C = matrix && matrix->dim() >= 2 ? matrix->size(matrix->dim() - 1) : C_out;
  SkeletonView a = arguments(N, C, T, V, M, C_out, frames, joints);
  STD_TORCH_CHECK(grad.size(2) == a.T_out && grad.size(3) == a.V_out, kOp, ": grad must be of the output's shape");
  set_matrix(a, grad, matrix);
  if (!x) return a;
  check_dim(kOp, "x (N, C, T, V, M)", *x, 5);
  STD_TORCH_CHECK(x->size(0) == N && x->size(1) == C && x->size(2) == T && x->size(3) == V && x->size(4) == M &&
                      x->scalar_type() == grad.scalar_type(),
                  kOp, ": grad must be of the output's shape and dtype");
  set_strides(a, *x);
  return a;
}

inline Tensor empty_view(const SkeletonView& a, const Tensor& x) {
  return empty_on(x, {a.N, a.C_out, a.T_out, a.V_out, a.M});
}
inline Tensor empty_grad_matrix(const SkeletonView& a, const Tensor& x, bool shared) {
  const ScalarType dtype = of_skeleton_view::matrix_dtype(x);
  return shared ? empty_on(x, {a.C_out, a.C}, dtype) : empty_on(x, {a.N, a.C_out, a.C}, dtype);
}
inline Tensor empty_grad_offset(const SkeletonView& a, const Tensor& x, bool shared) {
  const ScalarType dtype = of_skeleton_view::matrix_dtype(x);
  return shared ? empty_on(x, {a.C_out}, dtype) : empty_on(x, {a.N, a.C_out}, dtype);
}

}  // namespace asma::bind
