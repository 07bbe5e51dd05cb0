#pragma once
#include <cstdint>

#include "../common/scalar.h"
#include "isa.h"

namespace asma {

// Steps of frames, joints, matrix and offset lead from one clip's numbers to the next clip's: 0 where clips share them.
struct SkeletonView {
  int64_t C, T, V, M;           // axes of a clip of x
  int64_t sn, sc, st, sv, sm;   // strides of x (N, C, T, V, M), in elements
  int64_t C_out, T_out, V_out;  // axes of a clip of the output, beside M
  const int64_t* frames;        // (T_out) or (N, T_out) in [-1, T), or null: all frames
  int64_t frames_step;
  const int64_t* joints;  // (V_out) or (N, V_out) in [-1, V), or null: all joints
  int64_t joints_step;
  int64_t matrix_step, offset_step;
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // First place whose index is not in [-1, size), or count when there is none.
    int64_t first_outside(const int64_t* indices, int64_t count, int64_t size);
    // matrix: (C_out, C) or (N, C_out, C), or null: identity. offset: (C_out) or (N, C_out), or null.
    // out: contiguous (N, C_out, T_out, V_out, M); clips [begin, end).
    template <class T>
    void skeleton_view(const ::asma::SkeletonView& a, const ::asma::acc_t<T>* matrix, const ::asma::acc_t<T>* offset,
                       const T* x, T* out, int64_t begin, int64_t end);
    // grad: contiguous, of out's shape; grad_x: contiguous (N, C, T, V, M). The strides of `a` are not used.
    template <class T> void skeleton_view_backward(const ::asma::SkeletonView& a, const ::asma::acc_t<T>* matrix,
                                                   const T* grad, T* grad_x, int64_t begin, int64_t end);
    // sums: contiguous (N, C_out, C + 1), gradient of each clip's matrix and, in the last column, of its offset.
    template <class T> void skeleton_view_backward_matrix(const ::asma::SkeletonView& a, const T* grad, const T* x,
                                                          double* sums, int64_t begin, int64_t end);)
