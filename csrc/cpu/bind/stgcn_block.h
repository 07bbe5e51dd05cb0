// What the bindings of stgcn_block's forward and backward share: its arguments checked, and its parameters as the
// kernels take them.
#pragma once
#include "../stgcn_block.h"

#include <algorithm>
#include <cmath>

#include "../../bind/graph_conv.h"
#include "../graph_conv.h"
#include "graph_conv.h"

namespace asma::bind {
namespace {

constexpr const char* kOp = "stgcn_block";
constexpr int64_t kFastChannels = 32;  // where fewer products should pay for the transforms
constexpr int64_t kFastRows = 96;      // of one of its products; in the backward of pairs, which are half as large:
constexpr int64_t kFastPairRows = 192;
constexpr int64_t kPairChannels = 16;  // products of pairs take multiples of it

// Axes of a parameter in the order that a kernel wants, from the outermost.
struct Axis {
  int64_t size, stride;
};
template <class A> std::vector<A> ordered(const Tensor& tensor, Axis outer, Axis middle, Axis inner) {
  std::vector<A> out(static_cast<size_t>(outer.size * middle.size * inner.size));
  visit_float(kOp, tensor.scalar_type(), [&]<class T>(T) {
    const T* from = data<T>(tensor);
    const int64_t rows = outer.size * middle.size;
    torch::stable::parallel_for(0, rows, grain(inner.size), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* place = from + row / middle.size * outer.stride + row % middle.size * middle.stride;
        A* to = out.data() + row * inner.size;
        for (int64_t k = 0; k < inner.size; ++k) to[k] = static_cast<A>(widen(place[k * inner.stride]));
      }
    });
  });
  return out;
}

// A weight (.., depth, columns) as a product takes it: its numbers, or the pairs of them along the depth.
template <class A> struct Operands {
  std::vector<A> numbers;
  std::vector<uint32_t> pairs;

  Operands() = default;
  Operands(std::vector<A> given, int64_t columns, bool as_pairs) : numbers(std::move(given)) {
    if (!as_pairs) return;
    pairs.resize(numbers.size() / 2);
    for (int64_t i = 0; i < static_cast<int64_t>(pairs.size()); ++i) {
      const int64_t first = i / columns * 2 * columns + i % columns;
      pairs[i] = bits(numbers[first]) | bits(numbers[first + columns]) << 16;
    }
    numbers.clear();
  }
  static uint32_t bits(A number) { return narrow<bf16>(static_cast<float>(number)).bits; }
  const void* data() const { return pairs.empty() ? static_cast<const void*>(numbers.data()) : pairs.data(); }
};

struct Call {
  STGCNBlock a;
  std::vector<int64_t> every_edge;  // of a dense adjacency
  const Tensor &x, &values, &gcn_weight, &conv_weight;
  const std::optional<Tensor>&gcn_bias, &conv_bias, &shortcut_weight, &shortcut_bias;
  double eps;

  Call(const Tensor& x_, const Tensor& values_, const std::optional<Tensor>& edges, int64_t K, int64_t V, int64_t W,
       const std::optional<Tensor>& joints, const Tensor& gcn_weight_, const std::optional<Tensor>& gcn_bias_,
       const Tensor& conv_weight_, const std::optional<Tensor>& conv_bias_,
       const std::optional<Tensor>& shortcut_weight_, const std::optional<Tensor>& shortcut_bias_,
       const std::string& residual, int64_t stride, double dropout, const std::optional<Tensor>& rng, double eps_)
      : a{},
        x(x_),
        values(values_),
        gcn_weight(gcn_weight_),
        conv_weight(conv_weight_),
        gcn_bias(gcn_bias_),
        conv_bias(conv_bias_),
        shortcut_weight(shortcut_weight_),
        shortcut_bias(shortcut_bias_),
        eps(eps_) {
    GraphConv& g = a.graph;
    g = graph_conv_arguments(x, values, edges, K, V, W, gcn_weight, gcn_bias, false, joints);
    const int64_t limit[3] = {K, V, W};
    for (int64_t i = 0; edges && i < 3 * g.E; ++i)
      STD_TORCH_CHECK(g.edges[i] >= 0 && g.edges[i] < limit[i / g.E], kOp, ": edge ", i % g.E, " names ", g.edges[i],
                      " on axis ", i / g.E, " of a graph (", K, ", ", V, ", ", W, ")");
    if (joints) check_joints(*joints, V);
    if (!edges) {
      every_edge.resize(static_cast<size_t>(3 * g.E));
      for (int64_t e = 0; e < g.E; ++e) {
        every_edge[e] = e / (V * W);
        every_edge[g.E + e] = e / W % V;
        every_edge[2 * g.E + e] = e % W;
      }
      g.edges = every_edge.data();
    }
    STD_TORCH_CHECK(conv_weight.dim() == 4 && conv_weight.size(0) == g.D && conv_weight.size(1) == g.D &&
                        conv_weight.size(2) % 2 == 1 && conv_weight.size(3) == 1,
                    kOp, ": conv must be (", g.D, ", ", g.D, ", taps, 1) with odd taps");
    STD_TORCH_CHECK(stride >= 1, kOp, ": stride must be >= 1, got ", stride);
    STD_TORCH_CHECK(dropout >= 0 && dropout < 1, kOp, ": dropout must be in [0, 1), got ", dropout);
    a.taps = conv_weight.size(2), a.stride = stride;
    a.frames = g.T > 0 ? (g.T - 1) / stride + 1 : 0;
    STD_TORCH_CHECK(g.N * a.frames * g.Q > 1, kOp, ": batch norms need more than one number a channel");
    a.identity = residual == "identity", a.shortcut = residual == "conv";
    STD_TORCH_CHECK(a.identity || a.shortcut || residual == "none", kOp,
                    ": residual must be none, identity or conv, got ", residual);
    STD_TORCH_CHECK(!(a.identity || a.shortcut) || g.Q == g.J, kOp, ": a residual needs as many joints out as in");
    STD_TORCH_CHECK(!a.identity || (g.C == g.D && stride == 1), kOp, ": identity needs C = D and stride 1");
    STD_TORCH_CHECK(a.shortcut == shortcut_weight.has_value(), kOp, ": a shortcut and its weight go together");
    if (a.shortcut)
      STD_TORCH_CHECK(shortcut_weight->dim() == 4 && shortcut_weight->size(0) == g.D &&
                          shortcut_weight->size(1) == g.C && shortcut_weight->size(2) == 1 &&
                          shortcut_weight->size(3) == 1,
                      kOp, ": shortcut must be (", g.D, ", ", g.C, ", 1, 1)");
    for (const std::optional<Tensor>* bias : {&conv_bias, &shortcut_bias})
      if (*bias) STD_TORCH_CHECK((*bias)->dim() == 1 && (*bias)->size(0) == g.D, kOp, ": a bias must be (", g.D, ",)");
    if (rng) {
      a.random = philox_of(kOp, *rng);
      const double below = std::nearbyint(dropout * 4294967296.0);
      a.drops = below > 0;
      a.last = static_cast<uint32_t>(std::max(below, 1.0) - 1);
    }
    a.kept = 1 / (1 - dropout);
    constexpr int64_t kFrames = 48;  // rows of the products, and what the cache holds of K times the channels
    a.group = std::max<int64_t>(1, kFrames / g.T);
    a.fast = x.scalar_type() != ScalarType::Double && stride == 1 && a.taps == 9 && g.D >= kFastChannels;
    const auto by_pairs = [&](int64_t channels) {
      return x.scalar_type() == ScalarType::BFloat16 && multiplies_bf16() && channels % kPairChannels == 0;
    };
    a.conv_pairs = by_pairs(g.D);
    a.graph_pairs = by_pairs(g.C) && by_pairs(g.D);
    a.conv_group = conv_group(kFastRows);
  }

  const GraphConv& g() const { return a.graph; }
  // Clips that the convolution over frames takes together, for products of so many rows.
  int64_t conv_group(int64_t rows) const {
    if (!a.fast) return 1;
    const int64_t pairs = std::max<int64_t>(1, (g().T + 2) / 3 / 2);
    return std::clamp<int64_t>((rows - 1) / (pairs * g().Q) + 1, 1, 8);
  }
  int64_t group() const { return g().joints_row != 0 ? 1 : a.group; }
  int64_t kept_bytes() const { return a.drops ? g().N * ((a.frames * g().Q * g().D + 7) / 8) : 0; }
  int64_t clip_work() const { return g().T * g().Q * g().D * (g().K * g().C + a.taps * g().D); }

  template <class A> Operands<A> graph_weight(bool back) const {
    const Axis k{g().K, g().D * gcn_weight.stride(0)}, c{g().C, gcn_weight.stride(1)}, d{g().D, gcn_weight.stride(0)};
    return {back ? ordered<A>(gcn_weight, k, d, c) : ordered<A>(gcn_weight, k, c, d), back ? g().C : g().D,
            a.graph_pairs};
  }
  template <class T> Operands<acc_t<T>> frame_weight(bool back) const {
    using A = acc_t<T>;
    const Axis k{a.taps, conv_weight.stride(2)}, c{g().D, conv_weight.stride(1)}, d{g().D, conv_weight.stride(0)};
    std::vector<A> taps = back ? ordered<A>(conv_weight, k, d, c) : ordered<A>(conv_weight, k, c, d);
    if (!a.fast) return {std::move(taps), g().D, a.conv_pairs};
    constexpr int64_t kPlaces = 25;
    const int64_t rows = a.conv_pairs ? g().D / 2 : g().D;
    Operands<A> places;
    void* to = nullptr;
    if (a.conv_pairs) places.pairs.resize(static_cast<size_t>(kPlaces * rows * g().D)), to = places.pairs.data();
    else places.numbers.resize(static_cast<size_t>(kPlaces * rows * g().D)), to = places.numbers.data();
    const auto kernel = ASMA_PICK(stgcn_block_conv_weight<T>);
    torch::stable::parallel_for(0, rows, grain(kPlaces * g().D),
                                [&](int64_t begin, int64_t end) { kernel(a, taps.data(), back, to, begin, end); });
    return places;
  }
  template <class A> Operands<A> residual_weight() const {
    if (!shortcut_weight) return {};
    const Axis c{g().C, shortcut_weight->stride(1)}, d{g().D, shortcut_weight->stride(0)}, one{1, 0};
    return {ordered<A>(*shortcut_weight, one, c, d), g().D, a.graph_pairs};
  }
  template <class A> std::vector<A> residual_weight_back() const {
    if (!shortcut_weight) return {};
    const Axis c{g().C, shortcut_weight->stride(1)}, d{g().D, shortcut_weight->stride(0)}, one{1, 0};
    return ordered<A>(*shortcut_weight, one, d, c);
  }
};

template <class A> std::vector<A> of_optional(const std::optional<Tensor>& tensor) {
  return tensor ? numbers<A>(*tensor) : std::vector<A>{};
}
template <class A> const A* pointer(const std::vector<A>& held) { return held.empty() ? nullptr : held.data(); }

inline Tensor channels_last(int64_t N, int64_t D, int64_t T, int64_t Q, ScalarType dtype) {
  return torch::stable::empty({N, D, T, Q}, dtype, std::nullopt, std::nullopt, std::nullopt,
                              torch::headeronly::MemoryFormat::ChannelsLast);
}

// Rows of the statistics of one norm, (5, D).
enum Row { kMean, kVariance, kInverse, kScale, kShift };

template <class A> BlockNorm<A> norm_of(const A* rows, int64_t D, const A* bias) {
  return {rows + kMean * D, rows + kInverse * D, rows + kScale * D, bias, nullptr, nullptr};
}

// body(begin, end) over clips, in whole groups.
template <class Body> void over_groups(const Call& call, int64_t group, const Body& body) {
  const int64_t N = call.g().N;
  torch::stable::parallel_for(0, (N + group - 1) / group, grain(group * call.clip_work() / 8),
                              [&](int64_t begin, int64_t end) { body(begin * group, std::min(end * group, N)); });
}
template <class Body> void over_clips(const Call& call, int64_t work, const Body& body) {
  torch::stable::parallel_for(0, call.g().N, grain(work), body);
}

}  // namespace
}  // namespace asma::bind
