#pragma once
#include <cstdint>

#include "../common/graph_conv.h"
#include "../common/philox.h"
#include "../common/scalar.h"
#include "isa.h"

namespace asma {

// What lies between the steps is channels-last: y1 (N, T, Q, D), y2, y3 and out (N, T', Q, D).
struct STGCNBlock {
  GraphConv graph;               // x (N, C, T, J) and its strides; g*: strides of the output's gradient (N, D, T', Q)
  int64_t taps, stride, frames;  // of the convolution over frames, which gives T' frames
  bool identity, shortcut;       // the residual
  bool drops;                    // the numbers whose word is up to `last`; the others times `kept`
  uint32_t last;
  double kept;
  Philox random;
  int64_t group, conv_group;  // clips that the graph convolution and that over frames take together
  bool fast;                  // the latter by fast_temporal_conv.h, its weights by stgcn_block_conv_weight
  // Whether the products of the graph convolution and its shortcut, and of the convolution over frames, are of Pairs
  // (operand.h). Then their weights are, along the axis that is summed over: (K, C / 2, D) pairs for (K, C, D).
  bool graph_pairs, conv_pairs;
};

// A norm's parameters (D): out = (y - mean) scale + bias; gradient of y = scale grad - offset - (y - mean) slope.
template <class A> struct BlockNorm {
  const A *mean, *inverse, *scale, *bias, *offset, *slope;
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // Clips [begin, end), everywhere. moments: (N, 2, D), each clip's mean and sum of squares about it.
    // weight (K, C, D), bias (K, D) or null; by_shortcut (C, D), its bias (D) or null; y3 and moments3 with a shortcut.
    // Weights of a `const void*` are of acc_t<T> or of Pairs.
    template <class T>
    void stgcn_block_graph(const ::asma::STGCNBlock& a, const T* x, const ::asma::acc_t<T>* values, const void* weight,
                           const ::asma::acc_t<T>* bias, const void* by_shortcut, const ::asma::acc_t<T>* shortcut_bias,
                           T* y1, T* y3, double* moments1, double* moments3, int64_t begin, int64_t end);
    // A weight (taps, D, D) as stgcn_block_conv takes it where it is fast; `turned` for the backward. Rows
    // [begin, end) of the first D, or of the pairs of them.
    template <class T> void stgcn_block_conv_weight(const ::asma::STGCNBlock& a, const ::asma::acc_t<T>* weight,
                                                    bool turned, void* to, int64_t begin, int64_t end);
    // weight (taps, D, D): tap, channel in, channel out.
    template <class T>
    void stgcn_block_conv(const ::asma::STGCNBlock& a, const T* y1, ::asma::BlockNorm<::asma::acc_t<T>> norm1,
                          const void* weight, const ::asma::acc_t<T>* bias, T* y2, double* moments2, int64_t begin,
                          int64_t end);
    // kept: where dropout kept a number, T' Q D bits for each clip, in whole bytes.
    template <class T>
    void stgcn_block_out(const ::asma::STGCNBlock& a, const T* x, const T* y2, const T* y3,
                         ::asma::BlockNorm<::asma::acc_t<T>> norm2, ::asma::BlockNorm<::asma::acc_t<T>> norm3, T* out,
                         uint8_t* kept, int64_t begin, int64_t end);
    // sums (N, 4, D): of the gradient behind norm 2, of it times
    // the normed y2, and both of norm 3.
    template <class T>
    void stgcn_block_sums(const ::asma::STGCNBlock& a, const T* grad, const T* out, const T* y2, const T* y3,
                          ::asma::BlockNorm<::asma::acc_t<T>> norm2, ::asma::BlockNorm<::asma::acc_t<T>> norm3,
                          const uint8_t* kept, double* sums, int64_t begin, int64_t end);
    // weight_back (taps, D, D): tap, channel out, channel in. grad_z (N, T, Q, D): of what norm 1 gives; sums (N, 2, D)
    // of it and of it times the normed y1. grad_weight (taps, D, D), as weight: the sums over these clips.
    template <class T>
    void stgcn_block_conv_backward(const ::asma::STGCNBlock& a, const T* grad, const T* out, const uint8_t* kept,
                                   const T* y1, const T* y2, ::asma::BlockNorm<::asma::acc_t<T>> norm1,
                                   ::asma::BlockNorm<::asma::acc_t<T>> norm2, const void* weight_back, T* grad_z,
                                   double* sums, ::asma::acc_t<T>* grad_weight, int64_t begin, int64_t end);
    // weight_back (K, D, C); shortcut_back (D, C), never of Pairs; grad_x channels-last; what stands after it are the
    // sums over these clips.
    template <class T>
    void stgcn_block_graph_backward(const ::asma::STGCNBlock& a, const T* grad, const T* out, const T* x, const T* y1,
                                    const T* y3, const T* grad_z, ::asma::BlockNorm<::asma::acc_t<T>> norm1,
                                    ::asma::BlockNorm<::asma::acc_t<T>> norm3, const ::asma::acc_t<T>* values,
                                    const void* weight_back, const ::asma::acc_t<T>* bias,
                                    const ::asma::acc_t<T>* shortcut_back, T* grad_x, ::asma::acc_t<T>* grad_values,
                                    ::asma::acc_t<T>* grad_weight, ::asma::acc_t<T>* grad_bias,
                                    ::asma::acc_t<T>* grad_shortcut, int64_t begin, int64_t end);)
