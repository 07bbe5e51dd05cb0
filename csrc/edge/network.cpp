// Plain loops, compiled once per instruction set; what is the same on all of them is in network_size.cpp.
#include "network.h"

#include "temporal.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// The input of the convolution over frames: relu(sum over k of (A_k^T x) W_k + base).
template <class P> void graph_step(const edge::Encoder& encoder, const Convolution<P>& conv, const float* x) {
  constexpr int64_t kDepth = Operand<P>::depth;
  const edge::Block& block = conv.block;
  const int64_t V = encoder.joints, K = encoder.partitions, C = block.in, D = block.out;
  Stored<P>* const rows = reinterpret_cast<Stored<P>*>(conv.work.aggregated);
  Sum<P>* const target = reinterpret_cast<Sum<P>*>(conv.work.target);
  const P* const weight = weights<P>(block.weight, block.pairs.weight);
  for (int64_t begin = 0; begin < block.frames_in; begin += edge::kFrameTile) {
    const int64_t left = block.frames_in - begin, frames = left < edge::kFrameTile ? left : edge::kFrameTile;
    for (int64_t w = 0; w < V; ++w) {
      Segment<P> segments[edge::kMostPartitions];
      int64_t count = 0;
      for (int64_t k = 0; k < K; ++k) {
        const uint32_t first = block.starts[w * K + k], last = block.starts[w * K + k + 1];
        if (first == last) continue;
        Stored<P>* const aggregated = rows + k * frames * C;
        for (int64_t t = 0; t < frames; ++t) {
          const float* const from = x + (begin + t) * V * C;
          for_lanes<kLanes<float>>(C, [&]<int L>(int64_t c) {
            lanes_t<float, L> sum = block.value[first] * load<L>(from + block.source[first] * C + c);
            for (uint32_t e = first + 1; e < last; ++e) sum += block.value[e] * load<L>(from + block.source[e] * C + c);
            store_row<P, L>(aggregated + t * C + c, sum, block.pairs.rows_per_step);
          });
        }
        segments[count++] = {reinterpret_cast<const P*>(aggregated), weight + k * (C / kDepth) * D};
      }
      const float* const base = block.base + w * D;
      const Sum<P>* const start = starting_sums<P>(base);
      multiply(Product<Sum<P>, P>{segments, count, C / kDepth, C / kDepth, 1, D, target, D, false, nullptr, start},
               frames, D);
      for (int64_t t = 0; t < frames; ++t) {
        Stored<P>* const to = conv.input(begin + t) + w * D;
        for_lanes<kLanes<float>>(D, [&]<int L>(int64_t d) {
          store_kept<P, L>(to + d, target + t * D + d, block.pairs.weight_step, base, d);
        });
      }
    }
  }
}

// work.shortcut (T', V, D) of x (T, V, C)
template <class P> void shortcut_step(const edge::Encoder& encoder, const edge::Block& block, const edge::Work& work,
                                      const float* x) {
  constexpr int64_t kDepth = Operand<P>::depth;
  const int64_t V = encoder.joints, C = block.in, D = block.out;
  const P* const weight = weights<P>(block.shortcut, block.pairs.shortcut);
  // Numbers are multiplied where they lie, and without a stride all frames are one product.
  const int64_t runs = std::is_same_v<P, float> && block.stride == 1 ? 1 : block.frames_out;
  for (int64_t t = 0; t < runs; ++t) {
    const float* const from = x + t * block.stride * V * C;
    const P* rows = reinterpret_cast<const P*>(from);
    if constexpr (!std::is_same_v<P, float>) {
      Stored<P>* const to = reinterpret_cast<Stored<P>*>(work.aggregated);
      for_lanes<kLanes<float>>(
          V * C, [&]<int L>(int64_t i) { store_row<P, L>(to + i, load<L>(from + i), block.pairs.shortcut_per_step); });
      rows = reinterpret_cast<const P*>(to);
    }
    const Segment<P> segment{rows, weight};
    float* const to = work.shortcut + t * V * D;
    multiply(Product<Sum<P>, P>{&segment, 1, C / kDepth, C / kDepth, 1, D, reinterpret_cast<Sum<P>*>(to), D, false},
             block.frames_out / runs * V, D);
    if constexpr (kIntegers<P>) sums_to_numbers(to, V, D, block.pairs.shortcut_step);
  }
}

// out (T', V, D) of x (T, V, C)
template <class P>
void run_block(const edge::Encoder& encoder, const edge::Block& block, const edge::Work& work, const float* x,
               float* out) {
  const int64_t V = encoder.joints, D = block.out;
  const Convolution<P> conv{block, work, V, D, V * D};
  conv.clear_padding();
  graph_step<P>(encoder, conv, x);
  const float* residual = block.residual == edge::Residual::identity ? x : nullptr;
  if (block.residual == edge::Residual::shortcut) {
    shortcut_step<P>(encoder, block, work, x);
    residual = work.shortcut;
  }
  conv.forward(residual, out);
}

// The features of the last block, (T', V, D), D as in memory.
template <class P> const float* run_blocks(const edge::Encoder& encoder, const edge::Work& work) {
  float* now = work.features[0];
  for (int64_t b = 0; b < encoder.count; ++b) {
    float* const next = work.features[(b + 1) % 2];
    run_block<P>(encoder, encoder.blocks[b], work, now, next);
    now = next;
  }
  return now;
}

const float* run_blocks(const edge::Encoder& encoder, const edge::Work& work) {
  switch (encoder.operands) {
#if defined(__AVX512F__)
    case edge::Operands::pairs: return run_blocks<Pair>(encoder, work);
    case edge::Operands::fused_integers: return run_blocks<FusedIntegerPair>(encoder, work);
#endif
    case edge::Operands::integers: return run_blocks<IntegerPair>(encoder, work);
    default: return run_blocks<float>(encoder, work);
  }
}

}  // namespace

void edge_transform_weight(const float* conv, int64_t D, float* places) {
  transform_weight(conv, edge::kPairFrames, D, false, places, 0, D);
}

void edge_encode(const edge::Encoder& encoder, const edge::Work& work, const float* x, float* out) {
  const int64_t V = encoder.joints, C = encoder.channels, wide = encoder.blocks[0].in;
  for (int64_t t = 0; t < encoder.frames; ++t)
    for (int64_t v = 0; v < V; ++v)
      for (int64_t c = 0; c < wide; ++c)
        work.features[0][(t * V + v) * wide + c] =
            c < C ? x[(t * V + v) * C + c] * encoder.scale[v * C + c] + encoder.shift[v * C + c] : 0.0f;
  const float* const now = run_blocks(encoder, work);
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
    float* const to = out + s * encoder.features;
    for (int64_t d = 0; d < encoder.features; ++d) to[d] = 0;
    for (int64_t t = first; t < end; ++t)
      for (int64_t d = 0; d < encoder.features; ++d) to[d] += work.sums[t * D + d];
    const float count = static_cast<float>((end - first) * V);
    for (int64_t d = 0; d < encoder.features; ++d) to[d] /= count;
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
