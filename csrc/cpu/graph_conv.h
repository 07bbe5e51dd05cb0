#pragma once
#include <cstdint>

#include "../common/graph_conv.h"
#include "../common/scalar.h"
#include "isa.h"

namespace asma {

// Number of rows of partial sums in the backward: it depends on N alone, so that threads do not change a bit.
inline int64_t graph_conv_chunks(int64_t N) { return N < 16 ? N : 16; }

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // values (E); weight (K, C, D); bias (K, D), (D) with post, or null; out contiguous (N, D, T, Q). Rows [begin,
    // end).
    template <class T> void graph_conv(const ::asma::GraphConv& a, const T* x, const ::asma::acc_t<T>* values,
                                       const ::asma::acc_t<T>* weight, const ::asma::acc_t<T>* bias, T* out,
                                       int64_t begin, int64_t end);
    // weight_back (D, K, C). grad_x contiguous (N, C, T, J) or null. The sums over rows [begin, end) of this chunk are
    // added to grad_values (E), grad_weight (K, C, D) and grad_bias (K, D) or (D); each may be null.
    template <class T> void graph_conv_backward(const ::asma::GraphConv& a, const T* grad, const T* x,
                                                const ::asma::acc_t<T>* values, const ::asma::acc_t<T>* weight_back,
                                                const ::asma::acc_t<T>* bias, T* grad_x, ::asma::acc_t<T>* grad_values,
                                                ::asma::acc_t<T>* grad_weight, ::asma::acc_t<T>* grad_bias,
                                                int64_t begin, int64_t end);)
