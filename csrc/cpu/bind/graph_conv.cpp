#include "../graph_conv.h"

#include "graph_conv.h"

#include <array>

#include "../../bind/graph_conv.h"

namespace asma::bind {
namespace {

constexpr const char* kOp = "graph_conv";

struct Call {
  GraphConv a;
  std::array<int64_t, 3> steps;  // of weight[k, c, d] in a contiguous weight

  Call(const Tensor& x, const Tensor& values, const std::optional<Tensor>& edges, int64_t K, int64_t V, int64_t W,
       const Tensor& weight, const std::optional<Tensor>& bias, bool post, const std::optional<Tensor>& joints)
      : a(graph_conv_arguments(x, values, edges, K, V, W, weight, bias, post, joints)),
        steps(graph_conv_weight_steps(a, weight.size(1), 1)) {
    const int64_t E = a.E, limit[3] = {K, V, W};
    for (int64_t i = 0; edges && i < 3 * E; ++i)
      STD_TORCH_CHECK(a.edges[i] >= 0 && a.edges[i] < limit[i / E], kOp, ": edge ", i % E, " names ", a.edges[i],
                      " on axis ", i / E, " of a graph (", K, ", ", V, ", ", W, ")");
    if (joints) check_joints(*joints, V);
  }

  int64_t at(int64_t k, int64_t c, int64_t d) const { return k * steps[0] + c * steps[1] + d * steps[2]; }
  int64_t work_per_row() const { return a.T * a.Q * a.K * a.C * a.D + a.T * a.E * a.C; }
};

template <class A> std::vector<A> reordered(const Tensor& weight, const Call& call, bool back) {
  const GraphConv& a = call.a;
  const std::vector<A> given = numbers<A>(weight);
  std::vector<A> out(given.size());
  size_t place = 0;
  if (!back)
    for (int64_t k = 0; k < a.K; ++k)
      for (int64_t c = 0; c < a.C; ++c)
        for (int64_t d = 0; d < a.D; ++d) out[place++] = given[call.at(k, c, d)];
  else
    for (int64_t d = 0; d < a.D; ++d)
      for (int64_t k = 0; k < a.K; ++k)
        for (int64_t c = 0; c < a.C; ++c) out[place++] = given[call.at(k, c, d)];
  return out;
}

Tensor graph_conv(const Tensor& x, const Tensor& values, std::optional<Tensor> edges, int64_t K, int64_t V, int64_t W,
                  const Tensor& weight, std::optional<Tensor> bias, bool post, std::optional<Tensor> joints) {
  const Call call(x, values, edges, K, V, W, weight, bias, post, joints);
  if (!edges) return std::get<0>(graph_conv_of(x, Adjacency(values), weight, bias, post, false, joints, false));
  const GraphConv& a = call.a;
  Tensor out = empty_on(x, {a.N, a.D, a.T, a.Q});
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    using A = acc_t<T>;
    const std::vector<A> value = numbers<A>(values), packed = reordered<A>(weight, call, false);
    const std::vector<A> added = bias ? numbers<A>(*bias) : std::vector<A>{};
    const auto kernel = ASMA_PICK(graph_conv<T>);
    T* to = mutable_data<T>(out);
    torch::stable::parallel_for(0, a.N, grain(call.work_per_row()), [&](int64_t begin, int64_t end) {
      kernel(a, data<T>(x), value.data(), packed.data(), bias ? added.data() : nullptr, to, begin, end);
    });
  });
  return out;
}

Gradients graph_conv_backward(const Tensor& grad, const Tensor& x, const Tensor& values, std::optional<Tensor> edges,
                              int64_t K, int64_t V, int64_t W, const Tensor& weight, std::optional<Tensor> bias,
                              bool post, std::optional<Tensor> joints, bool for_x, bool for_values, bool for_weight,
                              bool for_bias) {
  Call call(x, values, edges, K, V, W, weight, bias, post, joints);
  if (!edges)
    return graph_conv_backward_of(grad, x, Adjacency(values), weight, bias, std::nullopt, post, false, joints, for_x,
                                  for_values, for_weight, for_bias);
  graph_conv_set_grad(call.a, grad, x);
  for_bias = for_bias && bias;
  GraphConvResults results(call.a, x, values, weight, bias, for_x, for_values, for_weight, for_bias);
  const GraphConv& a = call.a;
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    using A = acc_t<T>;
    const std::vector<A> value = numbers<A>(values), packed = reordered<A>(weight, call, true);
    const std::vector<A> added = bias ? numbers<A>(*bias) : std::vector<A>{};
    const int64_t chunks = graph_conv_chunks(a.N), weights = a.K * a.C * a.D, biases = weight.size(0);
    std::vector<A> part_values(for_values ? chunks * a.E : 0), part_weight(for_weight ? chunks * weights : 0),
        part_bias(for_bias ? chunks * biases : 0);
    const auto kernel = ASMA_PICK(graph_conv_backward<T>);
    T* to = for_x ? mutable_data<T>(results.x) : nullptr;
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk)
        kernel(a, data<T>(grad), data<T>(x), value.data(), packed.data(), bias ? added.data() : nullptr, to,
               for_values ? part_values.data() + chunk * a.E : nullptr,
               for_weight ? part_weight.data() + chunk * weights : nullptr,
               for_bias ? part_bias.data() + chunk * biases : nullptr, a.N * chunk / chunks,
               a.N * (chunk + 1) / chunks);
    });
    const auto sum = [&](std::vector<A>& parts, int64_t size, Tensor& result, const auto& place) {
      write(added_up(parts, chunks, size), size, result, place);
    };
    const auto same = [](int64_t i) { return i; };
    if (for_values) sum(part_values, a.E, results.values, same);
    if (for_bias) sum(part_bias, biases, results.bias, same);
    if (for_weight)
      sum(part_weight, weights, results.weight,
          [&](int64_t i) { return call.at(i / (a.C * a.D), i / a.D % a.C, i % a.D); });
  });
  return {results.x, results.values, results.weight, results.bias};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("graph_conv", TORCH_BOX(&asma::bind::graph_conv));
  m.impl("graph_conv_backward", TORCH_BOX(&asma::bind::graph_conv_backward));
}
