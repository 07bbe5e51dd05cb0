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
constexpr int64_t kFastRows = 96;      // of one of its products

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
    const int64_t pairs = std::max<int64_t>(1, (g.T + 2) / 3 / 2);
    a.conv_group = a.fast ? std::clamp<int64_t>((kFastRows - 1) / (pairs * g.Q) + 1, 1, 8) : 1;
  }

  const GraphConv& g() const { return a.graph; }
  int64_t group() const { return g().joints_row != 0 ? 1 : a.group; }
  int64_t clip_work() const { return g().T * g().Q * g().D * (g().K * g().C + a.taps * g().D); }

  template <class A> std::vector<A> graph_weight(bool back) const {
    const Axis k{g().K, g().D * gcn_weight.stride(0)}, c{g().C, gcn_weight.stride(1)}, d{g().D, gcn_weight.stride(0)};
    return back ? ordered<A>(gcn_weight, k, d, c) : ordered<A>(gcn_weight, k, c, d);
  }
  template <class T> std::vector<acc_t<T>> frame_weight(bool back) const {
    using A = acc_t<T>;
    const Axis k{a.taps, conv_weight.stride(2)}, c{g().D, conv_weight.stride(1)}, d{g().D, conv_weight.stride(0)};
    std::vector<A> taps = back ? ordered<A>(conv_weight, k, d, c) : ordered<A>(conv_weight, k, c, d);
    if (!a.fast) return taps;
    constexpr int64_t kPlaces = 25;
    const int64_t all = g().D * g().D;
    std::vector<A> places(static_cast<size_t>(kPlaces * all));
    const auto kernel = ASMA_PICK(stgcn_block_conv_weight<T>);
    // Whole vectors to each, so that every number is made by the same instructions.
    torch::stable::parallel_for(0, g().D, grain(kPlaces * g().D), [&](int64_t begin, int64_t end) {
      kernel(a, taps.data(), back, places.data(), begin * g().D, end * g().D);
    });
    return places;
  }
  template <class A> std::vector<A> residual_weight(bool back) const {
    if (!shortcut_weight) return {};
    const Axis c{g().C, shortcut_weight->stride(1)}, d{g().D, shortcut_weight->stride(0)}, one{1, 0};
    return back ? ordered<A>(*shortcut_weight, one, d, c) : ordered<A>(*shortcut_weight, one, c, d);
  }
};

template <class A> std::vector<A> of_optional(const std::optional<Tensor>& tensor) {
  return tensor ? numbers<A>(*tensor) : std::vector<A>{};
}
template <class A> const A* pointer(const std::vector<A>& held) { return held.empty() ? nullptr : held.data(); }

Tensor channels_last(int64_t N, int64_t D, int64_t T, int64_t Q, ScalarType dtype) {
  return torch::stable::empty({N, D, T, Q}, dtype, std::nullopt, std::nullopt, std::nullopt,
                              torch::headeronly::MemoryFormat::ChannelsLast);
}

// Rows of the statistics of one norm, (5, D).
enum Row { kMean, kVariance, kInverse, kScale, kShift };

// The clips' moments put together (Chan, Golub, LeVeque 1979), in their order.
template <class A>
void finish(const std::vector<double>& moments, int64_t N, int64_t D, int64_t count, const std::vector<A>& weight,
            const std::vector<A>& bias, double eps, A* rows) {
  const double clips = static_cast<double>(N), each = static_cast<double>(count);
  for (int64_t d = 0; d < D; ++d) {
    double mean = 0, squares = 0;
    for (int64_t n = 0; n < N; ++n) mean += moments[n * 2 * D + d];
    mean /= clips;
    for (int64_t n = 0; n < N; ++n) {
      const double off = moments[n * 2 * D + d] - mean;
      squares += moments[n * 2 * D + D + d] + each * off * off;
    }
    const double variance = squares / (clips * each), inverse = 1 / std::sqrt(variance + eps);
    const double scale = static_cast<double>(weight[d]) * inverse;
    rows[kMean * D + d] = static_cast<A>(mean);
    rows[kVariance * D + d] = static_cast<A>(variance);
    rows[kInverse * D + d] = static_cast<A>(inverse);
    rows[kScale * D + d] = static_cast<A>(scale);
    rows[kShift * D + d] = static_cast<A>(static_cast<double>(bias[d]) - mean * scale);
  }
}

template <class A> BlockNorm<A> norm_of(const A* rows, int64_t D, const A* bias) {
  return {rows + kMean * D, rows + kInverse * D, rows + kScale * D, bias, nullptr, nullptr};
}

// What a norm's gradient needs beside: offset and slope from the sums of the gradient and of its product with the
// normed numbers, `of` places (first, second) of the `width` sums of each clip. Also the gradients of its parameters.
template <class A> struct NormGradient {
  std::vector<A> offset, slope, of_bias, of_weight;

  NormGradient(const std::vector<double>& sums, int64_t width, int64_t first, int64_t N, int64_t D, double count,
               const A* rows)
      : offset(D), slope(D), of_bias(D), of_weight(D) {
    for (int64_t d = 0; d < D; ++d) {
      double sum = 0, product = 0;
      for (int64_t n = 0; n < N; ++n) {
        sum += sums[(n * width + first) * D + d];
        product += sums[(n * width + first + 1) * D + d];
      }
      const double scale = static_cast<double>(rows[kScale * D + d]);
      of_bias[d] = static_cast<A>(sum);
      of_weight[d] = static_cast<A>(product);
      offset[d] = static_cast<A>(scale * sum / count);
      slope[d] = static_cast<A>(scale * static_cast<double>(rows[kInverse * D + d]) * product / count);
    }
  }
  BlockNorm<A> on(BlockNorm<A> norm) const {
    norm.offset = offset.data(), norm.slope = slope.data();
    return norm;
  }
};

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using BlockGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                                  Tensor, Tensor, Tensor, Tensor>;

// body(begin, end) over clips, in whole groups.
template <class Body> void over_groups(const Call& call, int64_t group, const Body& body) {
  const int64_t N = call.g().N;
  torch::stable::parallel_for(0, (N + group - 1) / group, grain(group * call.clip_work() / 8),
                              [&](int64_t begin, int64_t end) { body(begin * group, std::min(end * group, N)); });
}
template <class Body> void over_clips(const Call& call, int64_t work, const Body& body) {
  torch::stable::parallel_for(0, call.g().N, grain(work), body);
}

Results stgcn_block(const Tensor& x, const Tensor& values, std::optional<Tensor> edges, int64_t K, int64_t V, int64_t W,
                    std::optional<Tensor> joints, const Tensor& gcn_weight, std::optional<Tensor> gcn_bias,
                    const Tensor& norm1_weight, const Tensor& norm1_bias, const Tensor& conv_weight,
                    std::optional<Tensor> conv_bias, const Tensor& norm2_weight, const Tensor& norm2_bias,
                    std::optional<Tensor> shortcut_weight, std::optional<Tensor> shortcut_bias,
                    std::optional<Tensor> norm3_weight, std::optional<Tensor> norm3_bias, std::string residual,
                    int64_t stride, double dropout, std::optional<Tensor> rng, double eps) {
  const Call call(x, values, edges, K, V, W, joints, gcn_weight, gcn_bias, conv_weight, conv_bias, shortcut_weight,
                  shortcut_bias, residual, stride, dropout, rng, eps);
  const STGCNBlock& a = call.a;
  const GraphConv& g = a.graph;
  const int64_t N = g.N, D = g.D, before = g.T * g.Q, after = a.frames * g.Q;
  const ScalarType dtype = x.scalar_type(), wide = dtype == ScalarType::Double ? dtype : ScalarType::Float;
  Tensor out = channels_last(N, D, a.frames, g.Q, dtype), y1 = channels_last(N, D, g.T, g.Q, dtype),
         y2 = channels_last(N, D, a.frames, g.Q, dtype),
         y3 = a.shortcut ? channels_last(N, D, a.frames, g.Q, dtype) : empty_on(x, {0}),
         statistics = empty_on(x, {3, 5, D}, wide);
  visit_float(kOp, dtype, [&]<class T>(T) {
    using A = acc_t<T>;
    A* rows = mutable_data<A>(statistics);
    T *to1 = mutable_data<T>(y1), *to2 = mutable_data<T>(y2), *to3 = a.shortcut ? mutable_data<T>(y3) : nullptr;
    std::vector<double> moments(2 * N * D), moments3(a.shortcut ? 2 * N * D : 0);
    {
      const auto value = numbers<A>(values), weight = call.graph_weight<A>(false),
                 by_shortcut = call.residual_weight<A>(false);
      const auto bias = of_optional<A>(gcn_bias), of_shortcut = of_optional<A>(shortcut_bias);
      const auto kernel = ASMA_PICK(stgcn_block_graph<T>);
      over_groups(call, call.group(), [&](int64_t begin, int64_t end) {
        kernel(a, data<T>(x), value.data(), weight.data(), pointer(bias), pointer(by_shortcut), pointer(of_shortcut),
               to1, to3, moments.data(), moments3.data(), begin, end);
      });
    }
    const auto bias1 = numbers<A>(norm1_bias), bias2 = numbers<A>(norm2_bias), bias3 = of_optional<A>(norm3_bias);
    finish(moments, N, D, before, numbers<A>(norm1_weight), bias1, eps, rows);
    if (a.shortcut) finish(moments3, N, D, after, of_optional<A>(norm3_weight), bias3, eps, rows + 10 * D);
    else std::fill(rows + 10 * D, rows + 15 * D, A(0));
    {
      const auto weight = call.frame_weight<T>(false), bias = of_optional<A>(conv_bias);
      const auto kernel = ASMA_PICK(stgcn_block_conv<T>);
      over_groups(call, a.conv_group, [&](int64_t begin, int64_t end) {
        kernel(a, to1, norm_of(rows, D, bias1.data()), weight.data(), pointer(bias), to2, moments.data(), begin, end);
      });
    }
    finish(moments, N, D, after, numbers<A>(norm2_weight), bias2, eps, rows + 5 * D);
    const auto kernel = ASMA_PICK(stgcn_block_out<T>);
    over_clips(call, after * D, [&](int64_t begin, int64_t end) {
      kernel(a, data<T>(x), to2, to3, norm_of(rows + 5 * D, D, bias2.data()), norm_of(rows + 10 * D, D, pointer(bias3)),
             mutable_data<T>(out), begin, end);
    });
  });
  return {out, statistics, y1, y2, y3};
}

Tensor like(const Tensor& given) {
  std::vector<int64_t> sizes;
  for (int64_t axis = 0; axis < given.dim(); ++axis) sizes.push_back(given.size(axis));
  return empty_on(given, sizes);
}
Tensor like(const std::optional<Tensor>& given, const Tensor& x) { return given ? like(*given) : empty_on(x, {0}); }
void zero(Tensor& gradient) {
  if (gradient.numel() > 0) torch::stable::zero_(gradient);
}
template <class A> void write_all(const std::vector<A>& sums, Tensor& gradient) {
  write(sums.data(), gradient.numel(), gradient, [](int64_t i) { return i; });
}

// Partial sums of the chunks of clips, which the kernels begin, each with its own.
template <class A> struct Partial {
  int64_t chunks, size;
  Tensor all;
  Partial(const Tensor& x, int64_t chunks_, int64_t numbers)
      : chunks(chunks_),
        size(numbers),
        all(empty_on(x, {chunks * size}, sizeof(A) == 8 ? ScalarType::Double : ScalarType::Float)) {}
  A* of(int64_t chunk) { return mutable_data<A>(all) + chunk * size; }

  // Added up in the chunks' order. The sums are (rows, columns, last); in the gradient number (r, c, l) is at
  // r * steps[0] + c * steps[1] + l * steps[2].
  struct Steps {
    int64_t columns, last, row, column, one;
  };
  void write_to(Tensor& gradient, Steps at) {
    if (size == 0) return;
    visit_float(kOp, gradient.scalar_type(), [&]<class T>(T) {
      T* to = mutable_data<T>(gradient);
      A* sums = of(0);
      torch::stable::parallel_for(0, size / at.last, grain(chunks * at.last), [&](int64_t begin, int64_t end) {
        for (int64_t chunk = 1; chunk < chunks; ++chunk)
          for (int64_t i = begin * at.last; i < end * at.last; ++i) sums[i] += sums[chunk * size + i];
        for (int64_t i = begin; i < end; ++i) {
          T* place = to + i / at.columns * at.row + i % at.columns * at.column;
          for (int64_t l = 0; l < at.last; ++l)
            place[l * at.one] = narrow<T>(static_cast<acc_t<T>>(sums[i * at.last + l]));
        }
      });
    });
  }
  void write_to(Tensor& gradient) { write_to(gradient, {1, size, 0, 0, 1}); }
};

void check_saved(const char* name, const Tensor& tensor, const Tensor& x, int64_t numbers) {
  STD_TORCH_CHECK(tensor.scalar_type() == x.scalar_type() && tensor.numel() == numbers, kOp, "_backward: ", name,
                  " must be as the forward gave it");
}

BlockGradients stgcn_block_backward(
    const Tensor& grad, const Tensor& out_, const Tensor& statistics, const Tensor& y1_, const Tensor& y2_,
    const Tensor& y3_, const Tensor& x, const Tensor& values, std::optional<Tensor> edges, int64_t K, int64_t V,
    int64_t W, std::optional<Tensor> joints, const Tensor& gcn_weight, std::optional<Tensor> gcn_bias,
    const Tensor& norm1_weight, const Tensor& norm1_bias, const Tensor& conv_weight, std::optional<Tensor> conv_bias,
    const Tensor& norm2_weight, const Tensor& norm2_bias, std::optional<Tensor> shortcut_weight,
    std::optional<Tensor> shortcut_bias, std::optional<Tensor> norm3_weight, std::optional<Tensor> norm3_bias,
    std::string residual, int64_t stride, double dropout, std::optional<Tensor> rng, double eps) {
  Call call(x, values, edges, K, V, W, joints, gcn_weight, gcn_bias, conv_weight, conv_bias, shortcut_weight,
            shortcut_bias, residual, stride, dropout, rng, eps);
  STGCNBlock& a = call.a;
  GraphConv& g = a.graph;
  const int64_t N = g.N, D = g.D, before = g.T * g.Q, after = a.frames * g.Q;
  const ScalarType dtype = x.scalar_type(), wide = dtype == ScalarType::Double ? dtype : ScalarType::Float;
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == N && grad.size(1) == D && grad.size(2) == a.frames &&
                      grad.size(3) == g.Q && grad.scalar_type() == dtype,
                  kOp, "_backward: grad must be (N, D, T', V') in x's dtype");
  g.gn = grad.stride(0), g.gc = grad.stride(1), g.gt = grad.stride(2), g.gv = grad.stride(3);
  check_saved("out", out_, x, N * D * after);
  check_saved("y1", y1_, x, N * D * before);
  check_saved("y2", y2_, x, N * D * after);
  check_saved("y3", y3_, x, a.shortcut ? N * D * after : 0);
  STD_TORCH_CHECK(statistics.scalar_type() == wide && statistics.numel() == 15 * D && statistics.is_contiguous(), kOp,
                  "_backward: statistics must be as the forward gave them");
  const auto as_rows = [](const Tensor& tensor) {
    return torch::stable::contiguous(tensor, torch::headeronly::MemoryFormat::ChannelsLast);
  };
  const Tensor out = as_rows(out_), y1 = as_rows(y1_), y2 = as_rows(y2_), y3 = a.shortcut ? as_rows(y3_) : y3_;
  Tensor of_x = channels_last(N, g.C, g.T, g.J, dtype), of_values = like(values), of_gcn = like(gcn_weight),
         of_gcn_bias = like(gcn_bias, x), of_norm1 = like(norm1_weight), of_norm1_bias = like(norm1_bias),
         of_conv = like(conv_weight), of_conv_bias = like(conv_bias, x), of_norm2 = like(norm2_weight),
         of_norm2_bias = like(norm2_bias), of_shortcut = like(shortcut_weight, x),
         of_shortcut_bias = like(shortcut_bias, x), of_norm3 = like(norm3_weight, x),
         of_norm3_bias = like(norm3_bias, x);
  zero(of_conv_bias);
  zero(of_shortcut_bias);
  Tensor grad_z = empty_on(x, {N, g.T, g.Q, D}, wide);
  Tensor kept = empty_on(x, {a.drops ? N * after * D : 0}, ScalarType::Byte);
  visit_float(kOp, dtype, [&]<class T>(T) {
    using A = acc_t<T>;
    const A* rows = data<A>(statistics);
    const T *upper = data<T>(grad), *result = data<T>(out), *from1 = data<T>(y1), *from2 = data<T>(y2),
            *from3 = a.shortcut ? data<T>(y3) : nullptr;
    const auto bias1 = numbers<A>(norm1_bias), bias2 = numbers<A>(norm2_bias), bias3 = of_optional<A>(norm3_bias);
    BlockNorm<A> norm1 = norm_of(rows, D, bias1.data()), norm2 = norm_of(rows + 5 * D, D, bias2.data()),
                 norm3 = norm_of(rows + 10 * D, D, pointer(bias3));
    uint8_t* keep = mutable_data<uint8_t>(kept);
    std::vector<double> sums(4 * N * D), sums1(2 * N * D);
    const auto sums_of = ASMA_PICK(stgcn_block_sums<T>);
    over_clips(call, 2 * after * D, [&](int64_t begin, int64_t end) {
      sums_of(a, upper, result, from2, from3, norm2, norm3, keep, sums.data(), begin, end);
    });
    const double numbers_after = static_cast<double>(N * after);
    const NormGradient<A> gradient2(sums, 4, 0, N, D, numbers_after, rows + 5 * D),
        gradient3(sums, 4, 2, N, D, numbers_after, rows + 10 * D);
    write_all(gradient2.of_weight, of_norm2);
    write_all(gradient2.of_bias, of_norm2_bias);
    if (a.shortcut) {
      write_all(gradient3.of_weight, of_norm3);
      write_all(gradient3.of_bias, of_norm3_bias);
    }
    const int64_t chunks = graph_conv_chunks(N);
    A* of_z = mutable_data<A>(grad_z);
    {
      Partial<A> parts(x, chunks, a.taps * D * D);
      const auto weight_back = call.frame_weight<T>(true);
      const auto kernel = ASMA_PICK(stgcn_block_conv_backward<T>);
      torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t chunk = begin; chunk < end; ++chunk)
          kernel(a, upper, result, keep, from1, from2, norm1, gradient2.on(norm2), weight_back.data(), of_z,
                 sums1.data(), parts.of(chunk), N * chunk / chunks, N * (chunk + 1) / chunks);
      });
      parts.write_to(of_conv, {D, D, 1, a.taps, D * a.taps});  // (taps, D, D) -> (D, D, taps), turned
    }
    const NormGradient<A> gradient1(sums1, 2, 0, N, D, static_cast<double>(N * before), rows);
    write_all(gradient1.of_weight, of_norm1);
    write_all(gradient1.of_bias, of_norm1_bias);
    Partial<A> of_edges(x, chunks, g.E), weights(x, chunks, g.K * g.C * D), biases(x, chunks, gcn_bias ? g.K * D : 0),
        shortcuts(x, chunks, a.shortcut ? g.C * D : 0);
    const auto value = numbers<A>(values), weight_back = call.graph_weight<A>(true),
               shortcut_back = call.residual_weight<A>(true), bias = of_optional<A>(gcn_bias);
    const auto kernel = ASMA_PICK(stgcn_block_graph_backward<T>);
    T* to = mutable_data<T>(of_x);
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk)
        kernel(a, upper, result, data<T>(x), from1, from3, of_z, gradient1.on(norm1), gradient3.on(norm3), value.data(),
               weight_back.data(), pointer(bias), pointer(shortcut_back), to, of_edges.of(chunk), weights.of(chunk),
               biases.of(chunk), shortcuts.of(chunk), N * chunk / chunks, N * (chunk + 1) / chunks);
    });
    of_edges.write_to(of_values);
    weights.write_to(of_gcn, {g.C, D, D * g.C, 1, g.C});  // (K, C, D) -> (K, D, C)
    biases.write_to(of_gcn_bias);
    shortcuts.write_to(of_shortcut, {g.C, D, 0, 1, g.C});  // (C, D) -> (D, C)
  });
  return {of_x,         of_values, of_gcn,        of_gcn_bias, of_norm1,         of_norm1_bias, of_conv,
          of_conv_bias, of_norm2,  of_norm2_bias, of_shortcut, of_shortcut_bias, of_norm3,      of_norm3_bias};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("stgcn_block", TORCH_BOX(&asma::bind::stgcn_block));
  m.impl("stgcn_block_backward", TORCH_BOX(&asma::bind::stgcn_block_backward));
}
