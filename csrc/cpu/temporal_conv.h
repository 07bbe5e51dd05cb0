// The convolution over the frames of one clip, rows [frame][joint][channel], as matrix products: frames are kept by
// phase of the stride, zeros around them, so that the rows that a tap reads are one block, `taps` segments of a
// product.
#pragma once
#include "gemm.h"
#include "scratch.h"
#include "stgcn_block.h"

namespace asma {
namespace ASMA_ISA {
namespace {

template <class A> struct TemporalConv {
  const int64_t T, frames, taps, stride, Q, D;
  const int64_t pad, width, slots;  // width: numbers of a frame; slots: frames of a phase, with the padding
  const int64_t before;             // frames of zeros before the gradient
  Scratch<A> input, gradient, of_input;
  Scratch<Segment<A>> segments;

  TemporalConv(const STGCNBlock& a, bool backward)
      : T(a.graph.T),
        frames(a.frames),
        taps(a.taps),
        stride(a.stride),
        Q(a.graph.Q),
        D(a.graph.D),
        pad(taps / 2),
        width(Q * D),
        slots((T - 1 + 2 * pad) / stride + 1),
        before((taps - 1) / stride),
        input(stride * slots * width),
        gradient(backward ? (before + slots) * width : 0),
        of_input(backward && stride > 1 ? stride * slots * width : 0),
        segments(taps) {
    input.zero(stride * slots * width);
    gradient.zero(backward ? (before + slots) * width : 0);
  }

  int64_t place(int64_t padded) const { return (padded % stride * slots + padded / stride) * width; }
  // Where frame t of the input belongs, and frame t of the output's gradient.
  A* frame(int64_t t) { return input.data + place(t + pad); }
  A* gradient_frame(int64_t, int64_t t) { return gradient.data + (before + t) * width; }
  void take_input(int64_t, int64_t) {}

  void forward(const A* weight, const A* bias, int64_t, A* out) {
    for (int64_t k = 0; k < taps; ++k) segments[k] = {input.data + place(k), weight + k * D * D};
    multiply(Product<A>{segments.data, taps, D, D, 1, D, out, D, false, nullptr, bias}, frames * Q, D);
  }

  void input_gradient(const A* weight_back, int64_t, A* to) {
    for (int64_t phase = 0; phase < stride; ++phase) {
      // Those of the phase's slots that hold frames.
      const int64_t first = pad > phase ? (pad - phase + stride - 1) / stride : 0;
      const int64_t last = T - 1 + pad >= phase ? (T - 1 + pad - phase) / stride + 1 : 0;
      if (first >= last) continue;
      int64_t count = 0;
      for (int64_t k = phase; k < taps; k += stride)
        segments[count++] = {gradient.data + (before + first - k / stride) * width, weight_back + k * D * D};
      A* rows = stride == 1 ? to : of_input.data + (phase * slots + first) * width;
      multiply(Product<A>{segments.data, count, D, D, 1, D, rows, D, false}, (last - first) * Q, D);
    }
    for (int64_t t = 0; stride > 1 && t < T; ++t) {
      const A* from = of_input.data + place(t + pad);
      for (int64_t i = 0; i < width; ++i) to[t * width + i] = from[i];
    }
  }

  void add_weight_gradient(int64_t, A* grad_weight) {
    for (int64_t k = 0; k < taps; ++k) {
      const Segment<A> over_rows{input.data + place(k), gradient_frame(0, 0)};
      multiply(Product<A>{&over_rows, 1, frames * Q, 1, D, D, grad_weight + k * D * D, D, true}, D, D);
    }
  }
  void begin_weight_gradient(A* grad_weight) {
    for (int64_t i = 0; i < taps * D * D; ++i) grad_weight[i] = A(0);
  }
  void end_weight_gradient(A*) {}
};

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
