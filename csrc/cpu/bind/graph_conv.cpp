#include "../graph_conv.h"

#include <optional>
#include <tuple>
#include <vector>

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

// Where weight[k, c, d] stands in the user's (K * D, C), or (D, K * C) with post.
struct WeightOrder {
  int64_t K, C, D;
  bool post;
  int64_t at(int64_t k, int64_t c, int64_t d) const { return post ? (d * K + k) * C + c : (k * D + d) * C + c; }
};

struct Call {
  GraphConv a;
  WeightOrder order;
  std::vector<int64_t> dense;  // the edges of a dense adjacency

  Call(const Tensor& x, const Tensor& values, const std::optional<Tensor>& edges, int64_t K, int64_t V, int64_t W,
       const Tensor& weight, const std::optional<Tensor>& bias, bool post, const std::optional<Tensor>& joints) {
    check_dim(kOp, "x (N, C, T, V)", x, 4);
    check_dim(kOp, "weight", weight, 2);
    STD_TORCH_CHECK(K >= 0 && V >= 0 && W >= 0, kOp, ": K, V and W must be >= 0, got ", K, ", ", V, ", ", W);
    const int64_t D = post ? weight.size(0) : K > 0 ? weight.size(0) / K : 0, C = x.size(1);
    STD_TORCH_CHECK(post ? weight.size(1) == K * C : weight.size(0) == K * D && weight.size(1) == C, kOp,
                    ": weight must be (K * D, C) or, with post, (D, K * C), got (", weight.size(0), ", ",
                    weight.size(1), ") with K = ", K, ", C = ", C);
    if (bias)
      STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == weight.size(0), kOp, ": bias must be (", weight.size(0),
                      ",)");
    int64_t E = K * V * W;
    const int64_t* list = nullptr;
    if (edges) {
      check_dtype(kOp, "edges", *edges, ScalarType::Long, "int64");
      check_contiguous(kOp, "edges", *edges);
      STD_TORCH_CHECK(edges->dim() == 2 && edges->size(0) == 3, kOp, ": edges must be (3, E)");
      E = edges->size(1);
      list = data<int64_t>(*edges);
      const int64_t limit[3] = {K, V, W};
      for (int64_t row = 0; row < 3; ++row)
        for (int64_t e = 0; e < E; ++e)
          STD_TORCH_CHECK(list[row * E + e] >= 0 && list[row * E + e] < limit[row], kOp, ": edge ", e, " names ",
                          list[row * E + e], " on axis ", row, " of a graph (", K, ", ", V, ", ", W, ")");
      STD_TORCH_CHECK(values.dim() == 1 && values.size(0) == E, kOp, ": values must be (E,) with E = ", E);
    } else {
      STD_TORCH_CHECK(values.dim() == 3 && values.size(0) == K && values.size(1) == V && values.size(2) == W, kOp,
                      ": a dense adjacency must be (K, V, W)");
      dense.resize(static_cast<size_t>(3 * E));
      for (int64_t e = 0; e < E; ++e) {
        dense[e] = e / (V * W);
        dense[E + e] = e / W % V;
        dense[2 * E + e] = e % W;
      }
      list = dense.data();
    }
    int64_t joints_row = 0;
    const int64_t J = x.size(3);
    if (joints) {
      check_dtype(kOp, "joints", *joints, ScalarType::Long, "int64");
      check_contiguous(kOp, "joints", *joints);
      STD_TORCH_CHECK(V == W, kOp, ": joints need a square adjacency, got V = ", V, ", W = ", W);
      const bool shared = joints->dim() == 1;
      STD_TORCH_CHECK(
          shared ? joints->size(0) == J : joints->dim() == 2 && joints->size(0) == x.size(0) && joints->size(1) == J,
          kOp, ": joints must be (J,) or (N, J) with J = ", J, ", N = ", x.size(0));
      joints_row = shared ? 0 : J;
      const int64_t* list_of_joints = data<int64_t>(*joints);
      for (int64_t i = 0; i < joints->numel(); ++i)
        STD_TORCH_CHECK(list_of_joints[i] >= 0 && list_of_joints[i] < V, kOp, ": joints must be in [0, V), got ",
                        list_of_joints[i], " with V = ", V);
    } else {
      STD_TORCH_CHECK(J == V, kOp, ": x has ", J, " joints, the graph ", V);
    }
    a = GraphConv{x.size(0),
                  C,
                  x.size(2),
                  J,
                  K,
                  V,
                  W,
                  D,
                  joints ? J : W,
                  x.stride(0),
                  x.stride(1),
                  x.stride(2),
                  x.stride(3),
                  0,
                  0,
                  0,
                  0,
                  E,
                  list,
                  joints.has_value(),
                  joints ? data<int64_t>(*joints) : nullptr,
                  joints_row,
                  post};
    order = {K, C, D, post};
  }

  int64_t work_per_row() const { return a.T * a.Q * a.K * a.C * a.D + a.T * a.E * a.C; }
};

template <class A> std::vector<A> reordered(const Tensor& weight, const WeightOrder& order, bool back) {
  const std::vector<A> given = numbers<A>(weight);
  std::vector<A> out(given.size());
  size_t place = 0;
  if (!back)
    for (int64_t k = 0; k < order.K; ++k)
      for (int64_t c = 0; c < order.C; ++c)
        for (int64_t d = 0; d < order.D; ++d) out[place++] = given[order.at(k, c, d)];
  else
    for (int64_t d = 0; d < order.D; ++d)
      for (int64_t k = 0; k < order.K; ++k)
        for (int64_t c = 0; c < order.C; ++c) out[place++] = given[order.at(k, c, d)];
  return out;
}

Tensor graph_conv(const Tensor& x, const Tensor& values, std::optional<Tensor> edges, int64_t K, int64_t V, int64_t W,
                  const Tensor& weight, std::optional<Tensor> bias, bool post, std::optional<Tensor> joints) {
  const Call call(x, values, edges, K, V, W, weight, bias, post, joints);
  const GraphConv& a = call.a;
  Tensor out = empty_on(x, {a.N, a.D, a.T, a.Q});
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    using A = acc_t<T>;
    const std::vector<A> value = numbers<A>(values), packed = reordered<A>(weight, call.order, false);
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
  GraphConv& a = call.a;
  STD_TORCH_CHECK(
      grad.dim() == 4 && grad.size(0) == a.N && grad.size(1) == a.D && grad.size(2) == a.T && grad.size(3) == a.Q,
      "graph_conv_backward: grad must be (N, D, T, W) = (", a.N, ", ", a.D, ", ", a.T, ", ", a.Q, ")");
  STD_TORCH_CHECK(grad.scalar_type() == x.scalar_type(), "graph_conv_backward: grad and x must have one dtype");
  for_bias = for_bias && bias;
  a.gn = grad.stride(0), a.gc = grad.stride(1), a.gt = grad.stride(2), a.gv = grad.stride(3);
  std::vector<int64_t> value_shape, none{0};
  for (int64_t axis = 0; axis < values.dim(); ++axis) value_shape.push_back(values.size(axis));
  Tensor grad_x = empty_on(x, for_x ? std::vector<int64_t>{a.N, a.C, a.T, a.J} : none);
  Tensor grad_values = empty_on(values, for_values ? value_shape : none);
  Tensor grad_weight = empty_on(weight, for_weight ? std::vector<int64_t>{weight.size(0), weight.size(1)} : none);
  Tensor grad_bias =
      empty_on(weight, for_bias ? std::vector<int64_t>{weight.size(0)} : none, (bias ? *bias : weight).scalar_type());
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    using A = acc_t<T>;
    const std::vector<A> value = numbers<A>(values), packed = reordered<A>(weight, call.order, true);
    const std::vector<A> added = bias ? numbers<A>(*bias) : std::vector<A>{};
    const int64_t chunks = graph_conv_chunks(a.N), weights = a.K * a.C * a.D, biases = weight.size(0);
    std::vector<A> part_values(for_values ? chunks * a.E : 0), part_weight(for_weight ? chunks * weights : 0),
        part_bias(for_bias ? chunks * biases : 0);
    const auto kernel = ASMA_PICK(graph_conv_backward<T>);
    T* to = for_x ? mutable_data<T>(grad_x) : nullptr;
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk)
        kernel(a, data<T>(grad), data<T>(x), value.data(), packed.data(), bias ? added.data() : nullptr, to,
               for_values ? part_values.data() + chunk * a.E : nullptr,
               for_weight ? part_weight.data() + chunk * weights : nullptr,
               for_bias ? part_bias.data() + chunk * biases : nullptr, a.N * chunk / chunks,
               a.N * (chunk + 1) / chunks);
    });
    const auto same = [](int64_t i) { return i; };
    if (for_values) write(added_up<A>(part_values, chunks), grad_values, same);
    if (for_bias) write(added_up<A>(part_bias, chunks), grad_bias, same);
    if (for_weight)
      write(added_up<A>(part_weight, chunks), grad_weight,
            [&](int64_t i) { return call.order.at(i / (a.C * a.D), i / a.D % a.C, i % a.D); });
    // No row at all: there is no chunk, and the sums are zero.
    if (chunks == 0) {
      if (for_values) write(std::vector<A>(a.E, A(0)), grad_values, same);
      if (for_weight) write(std::vector<A>(weights, A(0)), grad_weight, same);
      if (for_bias) write(std::vector<A>(biases, A(0)), grad_bias, same);
    }
  });
  return {grad_x, grad_values, grad_weight, grad_bias};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("graph_conv", TORCH_BOX(&asma::bind::graph_conv));
  m.impl("graph_conv_backward", TORCH_BOX(&asma::bind::graph_conv_backward));
}
