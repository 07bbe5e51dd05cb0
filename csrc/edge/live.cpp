// Plain loops, compiled once per instruction set; what is the same on all of them is in live_stream.cpp.
#include "live.h"

#include "../cpu/gemm.h"
#include "../cpu/lanes.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// One frame of the persons from `first` on.
struct Step {
  const edge::LiveEncoder& live;
  const int64_t first, count;

  int64_t joints() const { return live.encoder->joints; }
  int64_t rows() const { return count * joints(); }
  float* frame(float* ring, int64_t slot, int64_t channels) const {
    return ring + (slot * live.persons + first) * joints() * channels;
  }

  // relu(sum over k of (A_k^T x) W_k + base)
  void graph(const edge::Block& block, const float* x, float* out) const {
    const int64_t V = joints(), K = live.encoder->partitions, C = block.in, D = block.out;
    Segment<float> segments[edge::kMostPartitions];
    for (int64_t k = 0; k < K; ++k) {
      float* const aggregated = live.aggregated + k * rows() * C;
      for (int64_t w = 0; w < V; ++w) {
        const uint32_t begin = block.starts[w * K + k], end = block.starts[w * K + k + 1];
        for (int64_t p = 0; p < count; ++p) {
          const float* const from = x + p * V * C;
          float* const to = aggregated + (p * V + w) * C;
          for_lanes<kLanes<float>>(C, [&]<int L>(int64_t c) {
            lanes_t<float, L> sum{};
            for (uint32_t e = begin; e < end; ++e) sum += block.value[e] * load<L>(from + block.source[e] * C + c);
            store<L>(to + c, sum);
          });
        }
      }
      segments[k] = {aggregated, block.weight + k * C * D};
    }
    for (int64_t p = 0; p < count; ++p)
      for (int64_t i = 0; i < V * D; ++i) out[p * V * D + i] = block.base[i];
    multiply(Product<float>{segments, K, C, C, 1, D, out, D, true}, rows(), D);
    for (int64_t i = 0; i < rows() * D; ++i) out[i] = out[i] < 0 ? 0.0f : out[i];
  }

  // Takes the newest frame, which lies in its place among the inputs; whether it makes a frame, and that into `out`.
  bool block(const edge::Block& block, edge::LiveBlock& state, float* out) const {
    const int64_t C = block.in, D = block.out, taps = block.taps, now = state.received++;
    graph(block, frame(state.inputs, now % state.waiting, C), frame(state.hidden, now % taps, D));
    const int64_t centre = now - taps / 2;
    if (centre < 0 || centre % block.stride) return false;
    // Frames before the first are zeros and left out.
    Segment<float> segments[edge::kMostTaps];
    int64_t count = 0;
    for (int64_t k = now < taps ? taps - 1 - now : 0; k < taps; ++k)
      segments[count++] = {frame(state.hidden, (now + 1 + k) % taps, D), block.conv + k * D * D};
    const float* const waited = frame(state.inputs, centre % state.waiting, C);
    const bool shortcut = block.residual == edge::Residual::shortcut;
    if (shortcut) {
      const Segment<float> segment{waited, block.shortcut};
      multiply(Product<float>{&segment, 1, C, C, 1, D, out, D, false, nullptr, block.bias}, rows(), D);
    }
    multiply(Product<float>{segments, count, D, D, 1, D, out, D, shortcut, nullptr, block.bias}, rows(), D);
    const int64_t size = rows() * D;
    if (block.residual == edge::Residual::identity)
      for (int64_t i = 0; i < size; ++i) out[i] += waited[i];
    for (int64_t i = 0; i < size; ++i) out[i] = out[i] < 0 ? 0.0f : out[i];
    return true;
  }
};

}  // namespace

void edge_live_push(edge::LiveEncoder& live, const float* x, int64_t first, int64_t last) {
  const edge::Encoder& encoder = *live.encoder;
  const Step step{live, first, last - first};
  const int64_t V = encoder.joints, M = live.persons;
  const auto place = [&](int64_t b) {  // of the frame that block b takes next
    const edge::LiveBlock& state = live.blocks[b];
    return step.frame(state.inputs, state.received % state.waiting, encoder.blocks[b].in);
  };
  const int64_t width = V * encoder.channels;
  float* const start = place(0);
  for (int64_t p = 0; p < step.count; ++p)
    for (int64_t i = 0; i < width; ++i)
      start[p * width + i] = x[(first + p) * width + i] * encoder.scale[i] + encoder.shift[i];
  const int64_t D = encoder.blocks[encoder.count - 1].out;
  float* const out = step.frame(live.out, 0, D);
  for (int64_t b = 0; b < encoder.count; ++b)
    if (!step.block(encoder.blocks[b], live.blocks[b], b + 1 < encoder.count ? place(b + 1) : out)) return;
  for (int64_t p = 0; p < step.count; ++p) {
    float* const sum = live.sums + (first + p) * D;
    for (int64_t d = 0; d < D; ++d) sum[d] = 0;
    for (int64_t v = 0; v < V; ++v)
      for (int64_t d = 0; d < D; ++d) sum[d] += out[(p * V + v) * D + d];
  }
  float* const total = live.frames + live.received++ % live.kept * D;
  for (int64_t d = 0; d < D; ++d) total[d] = live.sums[d];
  for (int64_t m = 1; m < M; ++m)
    for (int64_t d = 0; d < D; ++d) total[d] += live.sums[m * D + d];
}

void edge_live_features(const edge::LiveEncoder& live, float* out) {
  const edge::Encoder& encoder = *live.encoder;
  const int64_t D = encoder.blocks[encoder.count - 1].out, segments = encoder.segments;
  const int64_t T = live.received < live.kept ? live.received : live.kept, oldest = live.received - T;
  for (int64_t s = 0; s < segments; ++s) {
    const int64_t first = s * T / segments, end = ((s + 1) * T + segments - 1) / segments;
    float* const to = out + s * D;
    for (int64_t d = 0; d < D; ++d) to[d] = 0;
    for (int64_t t = first; t < end; ++t) {
      const float* const from = live.frames + (oldest + t) % live.kept * D;
      for (int64_t d = 0; d < D; ++d) to[d] += from[d];
    }
    const float count = static_cast<float>((end - first) * encoder.joints * live.persons);
    for (int64_t d = 0; d < D; ++d) to[d] /= count;
  }
}

}  // namespace ASMA_ISA
}  // namespace asma
