#include "../graph_conv.h"

#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "../../bind/graph_conv.h"
#include "common.h"

namespace asma::bind {
namespace {

constexpr const char* kOp = "graph_conv";

// A floating tensor of up to three axes as accumulation numbers, in the order of its axes.
template <class A> std::vector<A> numbers(const Tensor& tensor) {
  int64_t size[3] = {1, 1, 1}, stride[3] = {0, 0, 0};
  const int64_t skip = 3 - tensor.dim();
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) {
    size[skip + axis] = tensor.size(axis);
    stride[skip + axis] = tensor.stride(axis);
  }
  std::vector<A> out;
  out.reserve(static_cast<size_t>(tensor.numel()));
  visit_float(kOp, tensor.scalar_type(), [&]<class T>(T) {
    const T* from = data<T>(tensor);
    for (int64_t i = 0; i < size[0]; ++i)
      for (int64_t j = 0; j < size[1]; ++j)
        for (int64_t k = 0; k < size[2]; ++k)
          out.push_back(static_cast<A>(widen(from[i * stride[0] + j * stride[1] + k * stride[2]])));
  });
  return out;
}

struct Call {
  GraphConv a;
  std::array<int64_t, 3> steps;  // of weight[k, c, d] in a contiguous weight
  std::vector<int64_t> dense;    // the edges of a dense adjacency

  Call(const Tensor& x, const Tensor& values, const std::optional<Tensor>& edges, int64_t K, int64_t V, int64_t W,
       const Tensor& weight, const std::optional<Tensor>& bias, bool post, const std::optional<Tensor>& joints)
      : a(graph_conv_arguments(x, values, edges, K, V, W, weight, bias, post, joints)),
        steps(graph_conv_weight_steps(a, weight.size(1), 1)) {
    const int64_t E = a.E, limit[3] = {K, V, W};
    for (int64_t i = 0; edges && i < 3 * E; ++i)
      STD_TORCH_CHECK(a.edges[i] >= 0 && a.edges[i] < limit[i / E], kOp, ": edge ", i % E, " names ", a.edges[i],
                      " on axis ", i / E, " of a graph (", K, ", ", V, ", ", W, ")");
    if (!edges) {
      dense.resize(static_cast<size_t>(3 * E));
      for (int64_t e = 0; e < E; ++e) {
        dense[e] = e / (V * W);
        dense[E + e] = e / W % V;
        dense[2 * E + e] = e % W;
      }
    }
    for (int64_t i = 0; joints && i < joints->numel(); ++i)
      STD_TORCH_CHECK(a.joints[i] >= 0 && a.joints[i] < V, kOp, ": joints must be in [0, V), got ", a.joints[i],
                      " with V = ", V);
  }

  // What the kernels work on: every adjacency as edges.
  GraphConv listed() const {
    GraphConv with_edges = a;
    if (a.dense) with_edges.edges = dense.data();
    return with_edges;
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
  const GraphConv a = call.listed();
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

// The chunks' partial sums, added in the chunks' order.
template <class A> std::vector<A> added_up(const std::vector<A>& partial, int64_t chunks) {
  const size_t size = chunks > 0 ? partial.size() / static_cast<size_t>(chunks) : 0;
  std::vector<A> sum(size, A(0));
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    for (size_t i = 0; i < size; ++i) sum[i] += partial[chunk * size + i];
  return sum;
}

// place[i] says where number i of the sums belongs in the gradient.
template <class A, class Place> void write(const std::vector<A>& sums, Tensor& gradient, const Place& place) {
  visit_float(kOp, gradient.scalar_type(), [&]<class T>(T) {
    T* to = mutable_data<T>(gradient);
    for (size_t i = 0; i < sums.size(); ++i)
      to[place(static_cast<int64_t>(i))] = narrow<T>(static_cast<acc_t<T>>(sums[i]));
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> graph_conv_backward(const Tensor& grad, const Tensor& x,
                                                               const Tensor& values, std::optional<Tensor> edges,
                                                               int64_t K, int64_t V, int64_t W, const Tensor& weight,
                                                               std::optional<Tensor> bias, bool post,
                                                               std::optional<Tensor> joints, bool for_x,
                                                               bool for_values, bool for_weight, bool for_bias) {
  Call call(x, values, edges, K, V, W, weight, bias, post, joints);
  graph_conv_set_grad(call.a, grad, x);
  for_bias = for_bias && bias;
  GraphConvResults results(call.a, x, values, weight, bias, for_x, for_values, for_weight, for_bias);
  const GraphConv a = call.listed();
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
    const auto same = [](int64_t i) { return i; };
    if (for_values) write(added_up<A>(part_values, chunks), results.values, same);
    if (for_bias) write(added_up<A>(part_bias, chunks), results.bias, same);
    if (for_weight)
      write(added_up<A>(part_weight, chunks), results.weight,
            [&](int64_t i) { return call.at(i / (a.C * a.D), i / a.D % a.C, i % a.D); });
    // No row at all: there is no chunk, and the sums are zero.
    if (chunks == 0) {
      if (for_values) write(std::vector<A>(a.E, A(0)), results.values, same);
      if (for_weight) write(std::vector<A>(weights, A(0)), results.weight, same);
      if (for_bias) write(std::vector<A>(biases, A(0)), results.bias, same);
    }
  });
  return {results.x, results.values, results.weight, results.bias};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("graph_conv", TORCH_BOX(&asma::bind::graph_conv));
  m.impl("graph_conv_backward", TORCH_BOX(&asma::bind::graph_conv_backward));
}
