#include "../../bind/graph_conv.h"

#include <algorithm>
#include <tuple>

#include "common.h"

namespace asma::bind {
namespace {

constexpr const char* kOp = "graph_conv";

GraphConv arguments(const Tensor& x, const Tensor& values, const std::optional<Tensor>& edges, int64_t K, int64_t V,
                    int64_t W, const Tensor& weight, const std::optional<Tensor>& bias, bool post,
                    const std::optional<Tensor>& joints) {
  const GraphConv a = graph_conv_arguments(x, values, edges, K, V, W, weight, bias, post, joints);
  constexpr int64_t kLimit = int64_t{1} << 31;
  for (const int64_t size : {a.E, K * std::max(a.J, a.Q), K * a.J * a.Q, a.C, a.D})
    STD_TORCH_CHECK(size < kLimit, kOp, ": the CUDA kernels take graphs and channels below 2^31 numbers, got ", size);
  return a;
}

cuda::GraphConvParameters parameters(const GraphConv& a, const Tensor& values, const Tensor& weight,
                                     const std::optional<Tensor>& bias) {
  cuda::GraphConvParameters given{};
  given.values = {values.const_data_ptr(), dtype_of(kOp, values), {}};
  for (int64_t axis = 0; axis < values.dim(); ++axis) given.values.step[axis] = values.stride(axis);
  const std::array<int64_t, 3> steps = graph_conv_weight_steps(a, weight.stride(0), weight.stride(1));
  given.weight = {weight.const_data_ptr(), dtype_of(kOp, weight), {steps[0], steps[1], steps[2]}};
  if (bias) given.bias = {bias->const_data_ptr(), dtype_of(kOp, *bias), {bias->stride(0), 0, 0}};
  return given;
}

struct Scratch {
  Tensor ints, numbers;
  Scratch(const Tensor& x, const cuda::GraphConvRoom& room)
      : ints(empty_on(x, {room.ints}, ScalarType::Int)),
        numbers(empty_on(x, {room.numbers},
                         x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float)) {}
  cuda::GraphConvScratch places() { return {mutable_data<int32_t>(ints), numbers.mutable_data_ptr()}; }
};

Tensor graph_conv(const Tensor& x, const Tensor& values, std::optional<Tensor> edges, int64_t K, int64_t V, int64_t W,
                  const Tensor& weight, std::optional<Tensor> bias, bool post, std::optional<Tensor> joints) {
  const GraphConv a = arguments(x, values, edges, K, V, W, weight, bias, post, joints);
  Tensor out = empty_on(x, {a.N, a.D, a.T, a.Q});
  Scratch scratch(x, cuda::graph_conv_room(a));
  launch(kOp, x, [&](void* stream) {
    return cuda::graph_conv(dtype_of(kOp, x), a, parameters(a, values, weight, bias), x.const_data_ptr(),
                            scratch.places(), out.mutable_data_ptr(), stream);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> graph_conv_backward(const Tensor& grad, const Tensor& x,
                                                               const Tensor& values, std::optional<Tensor> edges,
                                                               int64_t K, int64_t V, int64_t W, const Tensor& weight,
                                                               std::optional<Tensor> bias, bool post,
                                                               std::optional<Tensor> joints, bool for_x,
                                                               bool for_values, bool for_weight, bool for_bias) {
  GraphConv a = arguments(x, values, edges, K, V, W, weight, bias, post, joints);
  graph_conv_set_grad(a, grad, x);
  for_bias = for_bias && bias;
  GraphConvResults results(a, x, values, weight, bias, for_x, for_values, for_weight, for_bias);
  const auto place = [](bool wanted, Tensor& tensor) {
    return wanted && tensor.numel() > 0 ? tensor.mutable_data_ptr() : nullptr;
  };
  const cuda::GraphConvGradients gradients{place(for_x, results.x), place(for_values, results.values),
                                           place(for_weight, results.weight), place(for_bias, results.bias)};
  Scratch scratch(x, cuda::graph_conv_backward_room(dtype_of(kOp, x), a, gradients));
  launch(kOp, x, [&](void* stream) {
    return cuda::graph_conv_backward(dtype_of(kOp, x), a, parameters(a, values, weight, bias), grad.const_data_ptr(),
                                     x.const_data_ptr(), scratch.places(), gradients, stream);
  });
  return {results.x, results.values, results.weight, results.bias};
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(ASMA_LIBRARY, ASMA_CUDA_KEY, m) {
  m.impl("graph_conv", TORCH_BOX(&asma::bind::graph_conv));
  m.impl("graph_conv_backward", TORCH_BOX(&asma::bind::graph_conv_backward));
}
