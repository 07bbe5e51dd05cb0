// What the bindings of graph_conv and graph_conv_dense share.
#pragma once
#include <optional>
#include <tuple>
#include <vector>

#include "common.h"

namespace asma::bind {

// A dense adjacency as (N, K, C, T, V, W), its axes N, C and T broadcast where they have one entry.
struct Adjacency {
  const Tensor& numbers;
  int64_t size[6], stride[6];

  explicit Adjacency(const Tensor& graph) : numbers(graph) {
    // An adjacency of three axes is (K, V, W).
    const bool short_form = graph.dim() == 3;
    for (int64_t axis = 0, from = 0; axis < 6; ++axis) {
      const bool given = !short_form || axis == 1 || axis > 3;
      size[axis] = given ? graph.size(from) : 1;
      stride[axis] = given && size[axis] > 1 ? graph.stride(from) : 0;
      if (given) ++from;
    }
  }
};

using Outputs = std::tuple<Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// The output, and h where it is asked for; else none.
Outputs graph_conv_of(const Tensor& x, const Adjacency& graph, const std::optional<Tensor>& weight,
                      const std::optional<Tensor>& bias, bool post, bool keep, const std::optional<Tensor>& joints,
                      bool with_hidden);
Gradients graph_conv_backward_of(const Tensor& grad, const Tensor& x, const Adjacency& graph,
                                 const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                                 const std::optional<Tensor>& hidden, bool post, bool keep,
                                 const std::optional<Tensor>& joints, bool for_x, bool for_graph, bool for_weight,
                                 bool for_bias);

inline void check_joints(const Tensor& joints, int64_t V) {
  const int64_t* number = data<int64_t>(joints);
  for (int64_t i = 0; i < joints.numel(); ++i)
    STD_TORCH_CHECK(number[i] >= 0 && number[i] < V, "graph_conv: joints must be in [0, V), got ", number[i],
                    " with V = ", V);
}

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
  visit_float("graph_conv", tensor.scalar_type(), [&]<class T>(T) {
    const T* from = data<T>(tensor);
    for (int64_t i = 0; i < size[0]; ++i)
      for (int64_t j = 0; j < size[1]; ++j)
        for (int64_t k = 0; k < size[2]; ++k)
          out.push_back(static_cast<A>(widen(from[i * stride[0] + j * stride[1] + k * stride[2]])));
  });
  return out;
}

// The chunks' partial sums, added to the first chunk's in the chunks' order; all of them zero where there is no chunk.
template <class A> const A* added_up(std::vector<A>& partial, int64_t chunks, int64_t size) {
  if (chunks == 0) partial.assign(static_cast<size_t>(size), A(0));
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < size; ++i) partial[i] += partial[chunk * size + i];
  return partial.data();
}

// place(i) says where number i of the sums belongs in the gradient, or -1.
template <class A, class Place> void write(const A* sums, int64_t size, Tensor& gradient, const Place& place) {
  visit_float("graph_conv", gradient.scalar_type(), [&]<class T>(T) {
    T* to = mutable_data<T>(gradient);
    for (int64_t i = 0; i < size; ++i)
      if (const int64_t at = place(i); at >= 0) to[at] = narrow<T>(static_cast<acc_t<T>>(sums[i]));
  });
}

}  // namespace asma::bind
