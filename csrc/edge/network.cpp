// Plain loops, compiled once per instruction set; what is the same on all of them is in network_size.cpp.
#include "network.h"

#include "temporal.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// The input of the convolution over frames: relu(sum over k of (A_k^T x) W_k + base).
void graph_step(const edge::Encoder& encoder, const Convolution& conv, const float* x) {
  const edge::Block& block = conv.block;
  const int64_t V = encoder.joints, K = encoder.partitions, C = block.in, D = block.out;
  for (int64_t begin = 0; begin < block.frames_in; begin += edge::kFrameTile) {
    const int64_t left = block.frames_in - begin, frames = left < edge::kFrameTile ? left : edge::kFrameTile;
    for (int64_t w = 0; w < V; ++w) {
      Segment<float> segments[edge::kMostPartitions];
      int64_t count = 0;
      for (int64_t k = 0; k < K; ++k) {
        const uint32_t first = block.starts[w * K + k], last = block.starts[w * K + k + 1];
        if (first == last) continue;
        float* const aggregated = conv.work.aggregated + k * frames * C;
        for (int64_t t = 0; t < frames; ++t) {
          const float* const from = x + (begin + t) * V * C;
          for_lanes<kLanes<float>>(C, [&]<int L>(int64_t c) {
            lanes_t<float, L> sum = block.value[first] * load<L>(from + block.source[first] * C + c);
            for (uint32_t e = first + 1; e < last; ++e) sum += block.value[e] * load<L>(from + block.source[e] * C + c);
            store<L>(aggregated + t * C + c, sum);
          });
        }
        segments[count++] = {aggregated, block.weight + k * C * D};
      }
      multiply(Product<float>{segments, count, C, C, 1, D, conv.work.target, D, false, nullptr, block.base + w * D},
               frames, D);
      for (int64_t t = 0; t < frames; ++t) {
        const float* const from = conv.work.target + t * D;
        float* const to = conv.input(begin + t) + w * D;
        for_lanes<kLanes<float>>(D, [&]<int L>(int64_t d) { store<L>(to + d, relu_of<L>(load<L>(from + d))); });
      }
    }
  }
}

// out (T', V, D) of x (T, V, C)
void run_block(const edge::Encoder& encoder, const edge::Block& block, const edge::Work& work, const float* x,
               float* out) {
  const int64_t V = encoder.joints, C = block.in, D = block.out;
  const Convolution conv{block, work, V, D, V * D};
  conv.clear_padding();
  graph_step(encoder, conv, x);
  const float* residual = block.residual == edge::Residual::identity ? x : nullptr;
  if (block.residual == edge::Residual::shortcut) {
    const int64_t runs = block.stride == 1 ? 1 : block.frames_out;  // without a stride all frames are one product
    for (int64_t t = 0; t < runs; ++t) {
      const Segment<float> segment{x + t * block.stride * V * C, block.shortcut};
      multiply(Product<float>{&segment, 1, C, C, 1, D, work.shortcut + t * V * D, D, false},
               block.frames_out / runs * V, D);
    }
    residual = work.shortcut;
  }
  conv.forward(residual, out);
}

}  // namespace

void edge_transform_weight(const float* conv, int64_t D, float* places) {
  transform_weight(conv, edge::kPairFrames, D, false, places, 0, D);
}

void edge_encode(const edge::Encoder& encoder, const edge::Work& work, const float* x, float* out) {
  const int64_t V = encoder.joints, width = V * encoder.channels;
  float* now = work.features[0];
  for (int64_t t = 0; t < encoder.frames; ++t)
    for (int64_t i = 0; i < width; ++i) now[t * width + i] = x[t * width + i] * encoder.scale[i] + encoder.shift[i];
  for (int64_t b = 0; b < encoder.count; ++b) {
    float* const next = work.features[(b + 1) % 2];
    run_block(encoder, encoder.blocks[b], work, now, next);
    now = next;
  }
  // The mean over joints of each frame, and then over the frames of each segment, as PyTorch's adaptive pooling has it.
  const edge::Block& last = encoder.blocks[encoder.count - 1];
  const int64_t D = last.out, T = last.frames_out;
  for (int64_t t = 0; t < T; ++t) {
    float* const sum = work.sums + t * D;
    for (int64_t d = 0; d < D; ++d) sum[d] = 0;
    for (int64_t v = 0; v < V; ++v) {
      const float* const from = now + (t * V + v) * D;
      for (int64_t d = 0; d < D; ++d) sum[d] += from[d];
    }
  }
  for (int64_t s = 0; s < encoder.segments; ++s) {
    const int64_t first = s * T / encoder.segments, end = ((s + 1) * T + encoder.segments - 1) / encoder.segments;
    float* const to = out + s * D;
    for (int64_t d = 0; d < D; ++d) to[d] = 0;
    for (int64_t t = first; t < end; ++t)
      for (int64_t d = 0; d < D; ++d) to[d] += work.sums[t * D + d];
    const float count = static_cast<float>((end - first) * V);
    for (int64_t d = 0; d < D; ++d) to[d] /= count;
  }
}

void edge_dense(const float* x, const float* weight, const float* bias, int64_t rows, int64_t columns, bool relu,
                float* out) {
  const Segment<float> segment{x, weight};
  multiply(Product<float>{&segment, 1, rows, rows, 1, columns, out, columns, false, nullptr, bias}, 1, columns);
  for (int64_t i = 0; relu && i < columns; ++i) out[i] = out[i] < 0 ? 0.0f : out[i];
}

}  // namespace ASMA_ISA
}  // namespace asma
