#pragma once
#include "../common/scalar.h"
#include "../common/skeleton_view.h"
#include "isa.h"

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
