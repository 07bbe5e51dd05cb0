#include "../skeleton_view.h"

#include <optional>
#include <string>
#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

constexpr const char* kOp = "skeleton_view";
using MaybeTensor = std::optional<Tensor>;

ScalarType accumulate_dtype(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Small tensors whose leading clip axis may be missing: (axes without N) or (N, ...).
bool per_clip(const char* name, const Tensor& tensor, int64_t axes, int64_t N) {
  check_contiguous(kOp, name, tensor);
  STD_TORCH_CHECK(tensor.dim() == axes || (tensor.dim() == axes + 1 && tensor.size(0) == N), kOp, ": ", name,
                  " must have ", axes, " axes, or N = ", N, " before them");
  return tensor.dim() > axes;
}

// Null is for what is not given; an empty tensor may have no memory, so it gets an address that is never read.
template <class A> const A* small_data(const MaybeTensor& tensor) {
  static const A empty{};
  return !tensor ? nullptr : tensor->numel() > 0 ? data<A>(*tensor) : &empty;
}

struct Indices {
  const int64_t* data;
  int64_t step, size;
};

Indices indices_of(const char* name, const MaybeTensor& indices, int64_t N, int64_t size) {
  if (!indices) return {nullptr, 0, size};
  check_dtype(kOp, name, *indices, ScalarType::Long, "int64");
  const bool own = per_clip(name, *indices, 1, N);
  const int64_t picked = indices->size(own ? 1 : 0), count = indices->numel();
  const int64_t* numbers = small_data<int64_t>(indices);
  // All of them before the first is used: a wrong index reads nothing and writes nothing.
  const int64_t place = ASMA_PICK(first_outside)(numbers, count, size);
  if (place < count) {
    const std::string clip = own ? " of clip " + std::to_string(place / picked) : "";
    STD_TORCH_CHECK(false, kOp, ": ", name, " must be in [-1, ", size, "), got ", numbers[place], " at place ",
                    place % picked, clip);
  }
  return {numbers, own ? picked : 0, picked};
}

// N clips of (C, T, V, M) whose strides the caller fills in.
SkeletonView arguments(int64_t N, int64_t C, int64_t T, int64_t V, int64_t M, int64_t C_out, const MaybeTensor& frames,
                       const MaybeTensor& joints) {
  const Indices f = indices_of("frames", frames, N, T), j = indices_of("joints", joints, N, V);
  SkeletonView a{};
  a.C = C, a.T = T, a.V = V, a.M = M;
  a.C_out = C_out, a.T_out = f.size, a.V_out = j.size;
  a.frames = f.data, a.frames_step = f.step;
  a.joints = j.data, a.joints_step = j.step;
  return a;
}

void set_strides(SkeletonView& a, const Tensor& x) {
  a.sn = x.stride(0), a.sc = x.stride(1), a.st = x.stride(2), a.sv = x.stride(3), a.sm = x.stride(4);
}

void set_matrix(SkeletonView& a, const Tensor& like, const MaybeTensor& matrix, int64_t N) {
  if (!matrix) {
    STD_TORCH_CHECK(a.C_out == a.C, kOp, ": without a matrix C' must be C = ", a.C, ", got ", a.C_out);
    return;
  }
  check_dtype(kOp, "matrix", *matrix, accumulate_dtype(like), "float64 for float64 x, else float32");
  const bool own = per_clip("matrix", *matrix, 2, N);
  STD_TORCH_CHECK(matrix->size(own) == a.C_out && matrix->size(own + 1) == a.C, kOp, ": matrix must be (C', C) = (",
                  a.C_out, ", ", a.C, ")");
  a.matrix_step = own ? a.C_out * a.C : 0;
}

int64_t grain_of(const SkeletonView& a) {
  const int64_t read = a.C * a.T * a.V * a.M, written = a.C_out * a.T_out * a.V_out * a.M;
  return grain(read > written ? read : written);
}

Tensor skeleton_view(const Tensor& x, MaybeTensor frames, MaybeTensor joints, MaybeTensor matrix, MaybeTensor offset) {
  check_dim(kOp, "x (N, C, T, V, M)", x, 5);
  const int64_t N = x.size(0), C = x.size(1);
  const int64_t C_out = matrix && matrix->dim() >= 2 ? matrix->size(matrix->dim() - 2) : C;
  SkeletonView a = arguments(N, C, x.size(2), x.size(3), x.size(4), C_out, frames, joints);
  set_strides(a, x);
  set_matrix(a, x, matrix, N);
  if (offset) {
    check_dtype(kOp, "offset", *offset, accumulate_dtype(x), "float64 for float64 x, else float32");
    const bool own = per_clip("offset", *offset, 1, N);
    STD_TORCH_CHECK(offset->size(own) == C_out, kOp, ": offset must be (C') = (", C_out, ")");
    a.offset_step = own ? C_out : 0;
  }
  Tensor out = empty_on(x, {N, C_out, a.T_out, a.V_out, a.M});
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(skeleton_view<T>);
    const auto* m = small_data<acc_t<T>>(matrix);
    const auto* b = small_data<acc_t<T>>(offset);
    T* to = mutable_data<T>(out);
    torch::stable::parallel_for(0, N, grain_of(a),
                                [&](int64_t begin, int64_t end) { kernel(a, m, b, data<T>(x), to, begin, end); });
  });
  return out;
}

Tensor backward_x(const SkeletonView& a, const Tensor& grad, const MaybeTensor& matrix) {
  const int64_t N = grad.size(0);
  Tensor grad_x = empty_on(grad, {N, a.C, a.T, a.V, a.M});
  visit_float(kOp, grad.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(skeleton_view_backward<T>);
    const auto* m = small_data<acc_t<T>>(matrix);
    T* to = mutable_data<T>(grad_x);
    torch::stable::parallel_for(0, N, grain_of(a),
                                [&](int64_t begin, int64_t end) { kernel(a, m, data<T>(grad), to, begin, end); });
  });
  return grad_x;
}

// Columns [first, first + columns) of the clips' sums, added up over the clips, in their order, where they share.
template <class A>
void reduce(const SkeletonView& a, const double* sums, int64_t N, bool shared, int64_t first, int64_t columns, A* out) {
  const int64_t numbers = a.C_out * columns;
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
  const int64_t N = grad.size(0), C = a.C, C_out = a.C_out;
  const ScalarType dtype = accumulate_dtype(x);
  Tensor sums = empty_on(x, {N, C_out, C + 1}, ScalarType::Double);
  Tensor grad_matrix = matrix_shared ? empty_on(x, {C_out, C}, dtype) : empty_on(x, {N, C_out, C}, dtype);
  Tensor grad_offset = offset_shared ? empty_on(x, {C_out}, dtype) : empty_on(x, {N, C_out}, dtype);
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    const auto kernel = ASMA_PICK(skeleton_view_backward_matrix<T>);
    double* to = mutable_data<double>(sums);
    torch::stable::parallel_for(
        0, N, grain_of(a), [&](int64_t begin, int64_t end) { kernel(a, data<T>(grad), data<T>(x), to, begin, end); });
    reduce(a, to, N, matrix_shared, 0, C, mutable_data<acc_t<T>>(grad_matrix));
    reduce(a, to, N, offset_shared, C, 1, mutable_data<acc_t<T>>(grad_offset));
  });
  return {grad_matrix, grad_offset};
}

// x is given when the gradients in matrix and offset are wanted. A gradient that is not wanted is an empty tensor.
std::tuple<Tensor, Tensor, Tensor> skeleton_view_backward(const Tensor& grad, MaybeTensor x, int64_t T, int64_t V,
                                                          MaybeTensor frames, MaybeTensor joints, MaybeTensor matrix,
                                                          bool needs_x, bool matrix_shared, bool offset_shared) {
  check_dim(kOp, "grad (N, C', T', V', M)", grad, 5);
  STD_TORCH_CHECK(T >= 0 && V >= 0, kOp, ": T and V must be >= 0, got ", T, " and ", V);
  const int64_t N = grad.size(0), C_out = grad.size(1), M = grad.size(4);
  const int64_t C = matrix && matrix->dim() >= 2 ? matrix->size(matrix->dim() - 1) : C_out;
  SkeletonView a = arguments(N, C, T, V, M, C_out, frames, joints);
  STD_TORCH_CHECK(grad.size(2) == a.T_out && grad.size(3) == a.V_out, kOp, ": grad must be of the output's shape");
  set_matrix(a, grad, matrix, N);
  const Tensor g = torch::stable::contiguous(grad);
  Tensor grad_x = needs_x ? backward_x(a, g, matrix) : empty_on(grad, {0});
  if (!x) return {grad_x, empty_on(grad, {0}), empty_on(grad, {0})};
  check_dim(kOp, "x (N, C, T, V, M)", *x, 5);
  STD_TORCH_CHECK(x->size(0) == N && x->size(1) == C && x->size(2) == T && x->size(3) == V && x->size(4) == M &&
                      x->scalar_type() == grad.scalar_type(),
                  kOp, ": grad must be of the output's shape and dtype");
  set_strides(a, *x);
  const auto [grad_matrix, grad_offset] = backward_matrix(a, g, *x, matrix_shared, offset_shared);
  return {grad_x, grad_matrix, grad_offset};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("skeleton_view", TORCH_BOX(&asma::bind::skeleton_view));
  m.impl("skeleton_view_backward", TORCH_BOX(&asma::bind::skeleton_view_backward));
}
