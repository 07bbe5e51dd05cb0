// Checks of graph_conv's arguments, shapes of its results, and where a weight stands.
#pragma once
#include <array>

#include "../common/graph_conv.h"
#include "common.h"

namespace asma::bind {

// Whatever can be said without looking at the numbers of edges and joints.
inline GraphConv graph_conv_arguments(const Tensor& x, const Tensor& values, const std::optional<Tensor>& edges,
                                      int64_t K, int64_t V, int64_t W, const Tensor& weight,
                                      const std::optional<Tensor>& bias, bool post,
                                      const std::optional<Tensor>& joints) {
  constexpr const char* kOp = "graph_conv";
  check_dim(kOp, "x (N, C, T, V)", x, 4);
  check_dim(kOp, "weight", weight, 2);
  STD_TORCH_CHECK(K >= 0 && V >= 0 && W >= 0, kOp, ": K, V and W must be >= 0, got ", K, ", ", V, ", ", W);
  const int64_t D = post ? weight.size(0) : K > 0 ? weight.size(0) / K : 0, C = x.size(1), J = x.size(3);
  STD_TORCH_CHECK(post ? weight.size(1) == K * C : weight.size(0) == K * D && weight.size(1) == C, kOp,
                  ": weight must be (K * D, C) or, with post, (D, K * C), got (", weight.size(0), ", ", weight.size(1),
                  ") with K = ", K, ", C = ", C);
  if (bias)
    STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == weight.size(0), kOp, ": bias must be (", weight.size(0), ",)");
  if (edges) {
    check_dtype(kOp, "edges", *edges, ScalarType::Long, "int64");
    check_contiguous(kOp, "edges", *edges);
    STD_TORCH_CHECK(edges->dim() == 2 && edges->size(0) == 3, kOp, ": edges must be (3, E)");
    STD_TORCH_CHECK(values.dim() == 1 && values.size(0) == edges->size(1), kOp,
                    ": values must be (E,) with E = ", edges->size(1));
  } else {
    STD_TORCH_CHECK(values.dim() == 3 && values.size(0) == K && values.size(1) == V && values.size(2) == W, kOp,
                    ": a dense adjacency must be (K, V, W)");
  }
  int64_t joints_row = 0;
  if (joints) {
    check_dtype(kOp, "joints", *joints, ScalarType::Long, "int64");
    check_contiguous(kOp, "joints", *joints);
    STD_TORCH_CHECK(V == W, kOp, ": joints need a square adjacency, got V = ", V, ", W = ", W);
    const bool shared = joints->dim() == 1;
    STD_TORCH_CHECK(
        shared ? joints->size(0) == J : joints->dim() == 2 && joints->size(0) == x.size(0) && joints->size(1) == J, kOp,
        ": joints must be (J,) or (N, J) with J = ", J, ", N = ", x.size(0));
    joints_row = shared ? 0 : J;
  } else {
    STD_TORCH_CHECK(J == V, kOp, ": x has ", J, " joints, the graph ", V);
  }
  GraphConv a{};
  a.N = x.size(0), a.C = C, a.T = x.size(2), a.J = J;
  a.K = K, a.V = V, a.W = W, a.D = D, a.Q = joints ? J : W;
  a.sn = x.stride(0), a.sc = x.stride(1), a.st = x.stride(2), a.sv = x.stride(3);
  a.E = edges ? edges->size(1) : K * V * W;
  a.dense = !edges;
  a.edges = edges ? data<int64_t>(*edges) : nullptr;
  a.subset = joints.has_value();
  a.joints = joints ? data<int64_t>(*joints) : nullptr;
  a.joints_row = joints_row;
  a.post = post;
  return a;
}

inline void graph_conv_set_grad(GraphConv& a, const Tensor& grad, const Tensor& x) {
  STD_TORCH_CHECK(
      grad.dim() == 4 && grad.size(0) == a.N && grad.size(1) == a.D && grad.size(2) == a.T && grad.size(3) == a.Q,
      "graph_conv_backward: grad must be (N, D, T, W) = (", a.N, ", ", a.D, ", ", a.T, ", ", a.Q, ")");
  STD_TORCH_CHECK(grad.scalar_type() == x.scalar_type(), "graph_conv_backward: grad and x must have one dtype");
  a.gn = grad.stride(0), a.gc = grad.stride(1), a.gt = grad.stride(2), a.gv = grad.stride(3);
}

// The backward's results; those that nobody asked for are empty.
struct GraphConvResults {
  Tensor x, values, weight, bias;

  GraphConvResults(const GraphConv& a, const Tensor& like_x, const Tensor& like_values, const Tensor& like_weight,
                   const std::optional<Tensor>& like_bias, bool for_x, bool for_values, bool for_weight, bool for_bias)
      : x(empty_on(like_x, shape(for_x, {a.N, a.C, a.T, a.J}))),
        values(empty_on(like_values,
                        shape(for_values, !a.dense ? std::vector<int64_t>{a.E} : std::vector<int64_t>{a.K, a.V, a.W}))),
        weight(empty_on(like_weight, shape(for_weight, {like_weight.size(0), like_weight.size(1)}))),
        bias(empty_on(like_weight, shape(for_bias, {like_weight.size(0)}),
                      (like_bias ? *like_bias : like_weight).scalar_type())) {}

 private:
  static std::vector<int64_t> shape(bool wanted, std::vector<int64_t> sizes) {
    return wanted ? sizes : std::vector<int64_t>{0};
  }
};

// Steps along k, c and d of weight[k, c, d] in a (K * D, C) or, with post, (D, K * C) matrix.
inline std::array<int64_t, 3> graph_conv_weight_steps(const GraphConv& a, int64_t row, int64_t column) {
  if (a.post) return {a.C * column, column, row};
  return {a.D * row, column, row};
}

}  // namespace asma::bind
