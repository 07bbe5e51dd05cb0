// The convolution over the frames of one clip, rows [frame][joint][channel], as matrix products: frames are kept by
// phase of the stride, zeros around them, so that the rows that a tap reads are one block, `taps` segments of a
// product. Where operands are Pairs, frames come as float32 and are kept a second time as pairs: of channels for
// products over channels, of joints (the last with zeros where they are odd) for the weight's gradient.
#pragma once
#include "gemm.h"
#include "scratch.h"
#include "stgcn_block.h"

namespace asma {
namespace ASMA_ISA {
namespace {

template <class A, class P> struct TemporalConv {
  static constexpr int64_t kDepth = Operand<P>::depth;
  static constexpr bool kNarrow = kDepth == 2;
  const int64_t T, frames, taps, stride, Q, D;
  const int64_t pad, slots;  // slots: frames of a phase, with the padding
  const int64_t before;      // frames of zeros before the gradient
  const bool backward;
  const int64_t width, deep;  // operands of a frame, in products over channels and over rows
  Scratch<P> input, gradient, gradient_rows;
  Scratch<A> given, given_gradient, of_input;  // frames as they come, where they are kept otherwise
  Scratch<Segment<P>> segments;

  TemporalConv(const STGCNBlock& a, bool backward_)
      : T(a.graph.T),
        frames(a.frames),
        taps(a.taps),
        stride(a.stride),
        Q(a.graph.Q),
        D(a.graph.D),
        pad(taps / 2),
        slots((T - 1 + 2 * pad) / stride + 1),
        before((taps - 1) / stride),
        backward(backward_),
        width(Q * D / kDepth),
        deep((Q + kDepth - 1) / kDepth * D),
        input(stride * slots * deep),
        gradient(backward ? (before + slots) * width : 0),
        gradient_rows(backward && kNarrow ? frames * deep : 0),
        given(kNarrow ? T * Q * D : 0),
        given_gradient(backward && kNarrow ? frames * Q * D : 0),
        of_input(backward && stride > 1 ? stride * slots * Q * D : 0),
        segments(taps) {
    input.zero(stride * slots * deep);
    gradient.zero(backward ? (before + slots) * width : 0);
  }

  // Slot of a padded frame.
  int64_t slot(int64_t padded) const { return padded % stride * slots + padded / stride; }
  // Where frame t of the input belongs, and frame t of the output's gradient.
  A* frame(int64_t t) {
    if constexpr (kNarrow) return given.data + t * Q * D;
    else return input.data + slot(t + pad) * width;
  }
  A* gradient_frame(int64_t, int64_t t) {
    if constexpr (kNarrow) return given_gradient.data + t * Q * D;
    else return gradient.data + (before + t) * width;
  }

  // The backward wants the input for the weight's gradient alone.
  void take_input(int64_t, int64_t) {
    if constexpr (kNarrow)
      for (int64_t t = 0; t < T; ++t) {
        if (backward) pair_rows(frame(t), input.data + slot(t + pad) * deep);
        else pair_channels(frame(t), input.data + slot(t + pad) * width);
      }
  }
  void take_gradient(int64_t, int64_t) {
    if constexpr (kNarrow)
      for (int64_t t = 0; t < frames; ++t) {
        pair_rows(gradient_frame(0, t), gradient_rows.data + t * deep);
        pair_channels(gradient_frame(0, t), gradient.data + (before + t) * width);
      }
  }
  void pair_channels(const A* from, P* to) const {
    using E = typename Operand<P>::stored;
    for_lanes<kLanes<A>>(Q * D,
                         [&]<int L>(int64_t i) { store_operand<L>(reinterpret_cast<E*>(to) + i, load<L>(from + i)); });
  }
  void pair_rows(const A* from, P* to) const {
    for (int64_t v = 0; v < Q; v += 2)
      for_lanes<kLanes<A>>(D, [&]<int L>(int64_t d) {
        const A* row = from + v * D + d;
        store_pairs<L>(to + v / 2 * D + d, load<L>(row), v + 1 < Q ? load<L>(row + D) : lanes_t<A, L>{});
      });
  }

  void forward(const P* weight, const A* bias, int64_t, A* out) {
    const int64_t depth = D / kDepth;
    for (int64_t k = 0; k < taps; ++k) segments[k] = {input.data + slot(k) * width, weight + k * depth * D};
    multiply(Product<A, P>{segments.data, taps, depth, depth, 1, D, out, D, false, nullptr, bias}, frames * Q, D);
  }

  void input_gradient(const P* weight_back, int64_t, A* to) {
    const int64_t depth = D / kDepth, frame = Q * D;
    for (int64_t phase = 0; phase < stride; ++phase) {
      // Those of the phase's slots that hold frames.
      const int64_t first = pad > phase ? (pad - phase + stride - 1) / stride : 0;
      const int64_t last = T - 1 + pad >= phase ? (T - 1 + pad - phase) / stride + 1 : 0;
      if (first >= last) continue;
      int64_t count = 0;
      for (int64_t k = phase; k < taps; k += stride)
        segments[count++] = {gradient.data + (before + first - k / stride) * width, weight_back + k * depth * D};
      A* rows = stride == 1 ? to : of_input.data + (phase * slots + first) * frame;
      multiply(Product<A, P>{segments.data, count, depth, depth, 1, D, rows, D, false}, (last - first) * Q, D);
    }
    for (int64_t t = 0; stride > 1 && t < T; ++t) {
      const A* from = of_input.data + slot(t + pad) * frame;
      for (int64_t i = 0; i < frame; ++i) to[t * frame + i] = from[i];
    }
  }

  void add_weight_gradient(int64_t, A* grad_weight) {
    const P* rows = kNarrow ? gradient_rows.data : gradient.data + before * width;
    for (int64_t k = 0; k < taps; ++k) {
      const Segment<P> over_rows{input.data + slot(k) * deep, rows};
      multiply(Product<A, P>{&over_rows, 1, frames * deep / D, 1, D, D, grad_weight + k * D * D, D, true}, D, D);
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
