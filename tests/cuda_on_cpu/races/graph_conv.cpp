// Two rows, two partitions, a ring and a dense graph; each row keeps joints of its own. Only the order of accesses
// matters here.
#include <vector>

#include "../../../csrc/cuda/kernels.h"

int main() {
  using namespace asma;
  const int64_t edges[] = {0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3, 0};
  const int64_t joints[] = {0, 1, 3, 3, 2, 0};
  std::vector<float> x(2 * 5 * 3 * 3, 0.5f), out(2 * 4 * 3 * 3), grad_x(x.size()), values(2 * 4 * 4, 0.25f),
      weight(2 * 4 * 5, 0.1f), bias(8, 1.0f), grad_values(values.size()), grad_weight(weight.size()), grad_bias(8);
  for (const bool dense : {false, true}) {
    GraphConv a{};
    a.N = 2, a.C = 5, a.T = 3, a.J = 3, a.K = 2, a.V = 4, a.W = 4, a.D = 4, a.Q = 3;
    a.sn = 45, a.sc = 9, a.st = 3, a.sv = 1;
    a.gn = 36, a.gc = 9, a.gt = 3, a.gv = 1;
    a.E = dense ? 32 : 8, a.dense = dense, a.edges = dense ? nullptr : edges;
    a.subset = true, a.joints = joints, a.joints_row = 3;
    const cuda::Dtype dtype = cuda::Dtype::float32;
    const int64_t along = dense ? 16 : 1;
    const cuda::GraphConvParameters given{
        {values.data(), dtype, {along, 4, 1}}, {weight.data(), dtype, {20, 1, 5}}, {bias.data(), dtype, {1, 0, 0}}};
    const cuda::GraphConvGradients gradients{grad_x.data(), grad_values.data(), grad_weight.data(), grad_bias.data()};
    const cuda::GraphConvRoom room = cuda::graph_conv_room(a);
    const cuda::GraphConvRoom backward_room = cuda::graph_conv_backward_room(dtype, a, gradients);
    std::vector<int32_t> ints(room.ints + backward_room.ints);
    std::vector<float> numbers(room.numbers + backward_room.numbers);
    cuda::graph_conv(dtype, a, given, x.data(), {ints.data(), numbers.data()}, out.data(), nullptr);
    cuda::graph_conv_backward(dtype, a, given, out.data(), x.data(), {ints.data(), numbers.data()}, gradients, nullptr);
  }
}
