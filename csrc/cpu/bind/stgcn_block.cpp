#include "stgcn_block.h"

namespace asma::bind {
namespace {

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

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

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
         statistics = empty_on(x, {3, 5, D}, wide), kept = empty_on(x, {call.kept_bytes()}, ScalarType::Byte);
  visit_float(kOp, dtype, [&]<class T>(T) {
    using A = acc_t<T>;
    A* rows = mutable_data<A>(statistics);
    T *to1 = mutable_data<T>(y1), *to2 = mutable_data<T>(y2), *to3 = a.shortcut ? mutable_data<T>(y3) : nullptr;
    std::vector<double> moments(2 * N * D), moments3(a.shortcut ? 2 * N * D : 0);
    {
      const auto value = numbers<A>(values);
      const auto weight = call.graph_weight<A>(false), by_shortcut = call.residual_weight<A>();
      const auto bias = of_optional<A>(gcn_bias), of_shortcut = of_optional<A>(shortcut_bias);
      const auto kernel = ASMA_PICK(stgcn_block_graph<T>);
      over_groups(call, call.group(), [&](int64_t begin, int64_t end) {
        kernel(a, data<T>(x), value.data(), weight.data(), pointer(bias), by_shortcut.data(), pointer(of_shortcut), to1,
               to3, moments.data(), moments3.data(), begin, end);
      });
    }
    const auto bias1 = numbers<A>(norm1_bias), bias2 = numbers<A>(norm2_bias), bias3 = of_optional<A>(norm3_bias);
    finish(moments, N, D, before, numbers<A>(norm1_weight), bias1, eps, rows);
    if (a.shortcut) finish(moments3, N, D, after, of_optional<A>(norm3_weight), bias3, eps, rows + 10 * D);
    else std::fill(rows + 10 * D, rows + 15 * D, A(0));
    {
      const auto weight = call.frame_weight<T>(false);
      const auto bias = of_optional<A>(conv_bias);
      const auto kernel = ASMA_PICK(stgcn_block_conv<T>);
      over_groups(call, a.conv_group, [&](int64_t begin, int64_t end) {
        kernel(a, to1, norm_of(rows, D, bias1.data()), weight.data(), pointer(bias), to2, moments.data(), begin, end);
      });
    }
    finish(moments, N, D, after, numbers<A>(norm2_weight), bias2, eps, rows + 5 * D);
    const auto kernel = ASMA_PICK(stgcn_block_out<T>);
    over_clips(call, after * D, [&](int64_t begin, int64_t end) {
      kernel(a, data<T>(x), to2, to3, norm_of(rows + 5 * D, D, bias2.data()), norm_of(rows + 10 * D, D, pointer(bias3)),
             mutable_data<T>(out), mutable_data<uint8_t>(kept), begin, end);
    });
  });
  return {out, statistics, y1, y2, y3, kept};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) { m.impl("stgcn_block", TORCH_BOX(&asma::bind::stgcn_block)); }
