#include "../graph_conv_dense.h"

#include "graph_conv.h"

namespace asma::bind {
namespace {

constexpr const char* kOp = "graph_conv";

int64_t least(int64_t p, int64_t q) { return p < q ? p : q; }

// Tiles whose numbers stay in the second cache; frames fill whole blocks of the products.
void set_tiles(GraphConvDense& a) {
  const bool first = a.plan == GraphConvDense::kAggregateFirst, only = a.plan == GraphConvDense::kAggregateOnly;
  const int64_t rows = first ? a.C + a.ones : a.D;
  const int64_t most = first ? 72 : 48;
  const int64_t blocks = (rows + most - 1) / most;
  a.channels = blocks > 0 ? (rows + blocks - 1) / blocks : 1;
  const int64_t B = a.channels, parts = a.keep ? a.K : 1;
  const int64_t numbers = first  ? B * a.J + a.K * B * a.Q + (parts + 1) * a.D * a.Q
                          : only ? ((a.shared ? 1 : a.K) * a.J + parts * a.Q) * B
                                 : 2 * a.C * a.J + (a.K * a.J + parts * a.Q) * B;
  constexpr int64_t kBudget = 1 << 18;
  const int64_t fit = numbers > 0 ? kBudget / numbers : 64, T = a.T > 0 ? a.T : 1;
  const int64_t frames = fit < 4 ? 4 : least(fit, 64);
  const int64_t tiles = (T + frames - 1) / frames;  // of one size, but for the last
  a.frames = least(((T + tiles - 1) / tiles + 3) / 4 * 4, T);
}

GraphConvDense described(const Tensor& x, const Adjacency& graph, const std::optional<Tensor>& weight,
                         const std::optional<Tensor>& bias, bool post, bool keep, const std::optional<Tensor>& joints) {
  check_dim(kOp, "x (N, C, T, V)", x, 4);
  const int64_t K = graph.size[1], V = graph.size[4], W = graph.size[5], channels = x.size(1);
  STD_TORCH_CHECK(K > 0, kOp, ": the graph must have at least one partition, got K = 0");
  GraphConvDense a{};
  a.N = x.size(0), a.C = channels, a.T = x.size(2), a.J = x.size(3);
  a.K = K, a.V = V, a.W = W, a.Q = W, a.shared = post, a.keep = keep;
  a.sn = x.stride(0), a.sc = x.stride(1), a.st = x.stride(2), a.sv = x.stride(3);
  if (weight) {
    check_dim(kOp, "weight", *weight, 2);
    const int64_t rows = weight->size(0);
    a.D = post ? rows : rows / K;
    STD_TORCH_CHECK(post ? weight->size(1) == K * channels && !keep : rows == K * a.D && weight->size(1) == channels,
                    kOp, ": weight must be (K * D, C) or, with post and the partitions summed, (D, K * C), got (", rows,
                    ", ", weight->size(1), ") with K = ", K, ", C = ", channels);
    if (bias) STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == rows, kOp, ": bias must be (", rows, ",)");
  } else {
    STD_TORCH_CHECK(!bias, kOp, ": bias needs a weight, got none");
    STD_TORCH_CHECK(post || channels % K == 0, kOp, ": x must be (N, K * C, T, V) with K = ", K, ", got ", channels,
                    " channels");
    a.C = a.D = post ? channels : channels / K;
  }
  const int64_t wanted[4] = {a.N, K, post ? a.C : a.D, a.T};
  for (int axis = 0; axis < 4; ++axis) {
    const bool groups = axis == 2 && graph.size[2] > 0 && wanted[2] % graph.size[2] == 0;
    STD_TORCH_CHECK(graph.size[axis] == wanted[axis] || graph.size[axis] == 1 || groups, kOp, ": axis ", "NKCT"[axis],
                    " of the graph must have ", wanted[axis], " entries or 1, got ", graph.size[axis]);
  }
  a.G = graph.size[2] > 0 ? graph.size[2] : 1;
  if (joints) {
    check_dtype(kOp, "joints", *joints, ScalarType::Long, "int64");
    check_contiguous(kOp, "joints", *joints);
    STD_TORCH_CHECK(V == W, kOp, ": joints need a square adjacency, got V = ", V, ", W = ", W);
    const bool shared = joints->dim() == 1;
    STD_TORCH_CHECK(
        shared ? joints->size(0) == a.J : joints->dim() == 2 && joints->size(0) == a.N && joints->size(1) == a.J, kOp,
        ": joints must be (J,) or (N, J) with J = ", a.J, ", N = ", a.N);
    check_joints(*joints, V);
    a.subset = true, a.joints = data<int64_t>(*joints), a.joints_row = shared ? 0 : a.J, a.Q = a.J;
  } else {
    STD_TORCH_CHECK(a.J == V, kOp, ": x has ", a.J, " joints, the graph ", V);
  }
  a.by_row = graph.size[0] != 1, a.by_channel = graph.size[2] != 1, a.by_frame = graph.size[3] != 1;
  a.an = graph.stride[0], a.ak = graph.stride[1], a.ac = graph.stride[2], a.at = graph.stride[3];
  a.av = graph.stride[4], a.aw = graph.stride[5];
  a.bt = a.by_frame ? V * W : 0, a.bc = a.by_channel ? graph.size[3] * V * W : 0;
  a.bk = graph.size[2] * graph.size[3] * V * W, a.bn = a.by_row ? K * a.bk : 0;
  a.wide = graph.numbers.scalar_type() == ScalarType::Float || graph.numbers.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(graph.numbers.scalar_type() == x.scalar_type() ||
                      (graph.numbers.scalar_type() == ScalarType::Float && x.scalar_type() != ScalarType::Double),
                  kOp, ": the graph must be in x's dtype or float32");
  // Both orders compute the same where the adjacency has no axis C: the one of fewer flops, 4 J C + 3 C D to
  // 3 J D + 4 C D for a joint and partition, forward and backward.
  const bool fewer = 4 * a.J * a.C - 3 * a.J * a.D > a.C * a.D;
  a.plan = !weight                            ? GraphConvDense::kAggregateOnly
           : !post && (a.by_channel || fewer) ? GraphConvDense::kMultiplyFirst
                                              : GraphConvDense::kAggregateFirst;
  a.ones = bias && !post && a.plan == GraphConvDense::kAggregateFirst;
  set_tiles(a);
  return a;
}

// Weight and bias as the kernels take them.
template <class A> struct Convolution {
  std::vector<A> weight, bias;
  bool added;

  Convolution(const GraphConvDense& a, const std::optional<Tensor>& w, const std::optional<Tensor>& b, bool post)
      : added(b && !a.ones) {
    if (!w) return;
    std::vector<A> given = numbers<A>(*w);
    if (b) bias = numbers<A>(*b);
    if (!post && !a.ones) {
      weight = std::move(given);
      return;
    }
    weight.reserve(given.size() + bias.size());
    for (int64_t k = 0; k < a.K; ++k)
      for (int64_t d = 0; d < a.D; ++d) {
        const int64_t row = post ? (d * a.K + k) * a.C : (k * a.D + d) * a.C;
        weight.insert(weight.end(), given.begin() + row, given.begin() + row + a.C);
        if (a.ones) weight.push_back(bias[k * a.D + d]);
      }
  }
  const A* bias_data() const { return added ? bias.data() : nullptr; }
};

void check_hidden(const GraphConvDense& a, bool with_hidden) {
  STD_TORCH_CHECK(!with_hidden || a.plan == GraphConvDense::kMultiplyFirst, kOp,
                  ": only with a weight and an adjacency of channels, in order pre, there is an h to keep");
}

// Where one adjacency serves all rows its planes are turned once, and not for each of them.
template <class A> std::vector<A> turned_planes(const GraphConvDense& a, const Adjacency& graph) {
  std::vector<A> planes;
  if (a.by_row || a.subset) return planes;
  planes.reserve(a.K * a.bk);
  visit_float(kOp, graph.numbers.scalar_type(), [&]<class G>(G) {
    const G* from = data<G>(graph.numbers);
    for (int64_t k = 0; k < a.K; ++k)
      for (int64_t c = 0; c < graph.size[2]; ++c)
        for (int64_t t = 0; t < graph.size[3]; ++t)
          for (int64_t w = 0; w < a.W; ++w)
            for (int64_t v = 0; v < a.V; ++v)
              planes.push_back(static_cast<A>(widen(from[k * a.ak + c * a.ac + t * a.at + v * a.av + w * a.aw])));
  });
  return planes;
}

int64_t work_of_tile(const GraphConvDense& a) {
  return a.frames * a.K * a.Q * (a.J * a.D + (a.plan == GraphConvDense::kAggregateOnly ? 0 : a.C * a.D));
}

// Parts that gradients are summed in: they depend on N alone, so that threads do not change a bit.
int64_t chunks_of(const GraphConvDense& a) { return least(a.N, 16); }

}  // namespace

Outputs graph_conv_of(const Tensor& x, const Adjacency& graph, const std::optional<Tensor>& weight,
                      const std::optional<Tensor>& bias, bool post, bool keep, const std::optional<Tensor>& joints,
                      bool with_hidden) {
  const GraphConvDense a = described(x, graph, weight, bias, post, keep, joints);
  check_hidden(a, with_hidden);
  Tensor out = empty_on(x, {a.N, (keep ? a.K : 1) * a.D, a.T, a.Q});
  Tensor hidden = with_hidden ? empty_on(x, {a.N, a.K * a.D, a.T, a.J}) : empty_on(x, {0});
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    const Convolution<acc_t<T>> by(a, weight, bias, post);
    const auto kernel = ASMA_PICK(graph_conv_dense<T>);
    T* to = mutable_data<T>(out);
    T* h = with_hidden ? mutable_data<T>(hidden) : nullptr;
    torch::stable::parallel_for(0, a.N * a.tiles(), grain(work_of_tile(a)), [&](int64_t begin, int64_t end) {
      kernel(a, data<T>(x), graph.numbers.const_data_ptr(), by.weight.data(), by.bias_data(), to, h, begin, end);
    });
  });
  return {out, hidden};
}

Gradients graph_conv_backward_of(const Tensor& grad, const Tensor& x, const Adjacency& graph,
                                 const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                                 const std::optional<Tensor>& hidden, bool post, bool keep,
                                 const std::optional<Tensor>& joints, bool for_x, bool for_graph, bool for_weight,
                                 bool for_bias) {
  GraphConvDense a = described(x, graph, weight, bias, post, keep, joints);
  check_hidden(a, hidden.has_value());
  if (hidden) {
    check_contiguous(kOp, "hidden", *hidden);
    STD_TORCH_CHECK(hidden->numel() == a.N * a.K * a.D * a.T * a.J && hidden->scalar_type() == x.scalar_type(), kOp,
                    ": hidden must be (N, K * D, T, V) in x's dtype, as the forward gave it");
  }
  const int64_t channels = (keep ? a.K : 1) * a.D;
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == a.N && grad.size(1) == channels && grad.size(2) == a.T &&
                      grad.size(3) == a.Q && grad.scalar_type() == x.scalar_type(),
                  "graph_conv_backward: grad must be (N, D, T, W) = (", a.N, ", ", channels, ", ", a.T, ", ", a.Q,
                  ") in x's dtype");
  a.gn = grad.stride(0), a.gc = grad.stride(1), a.gt = grad.stride(2), a.gv = grad.stride(3);
  for_weight = for_weight && weight, for_bias = for_bias && bias;
  const auto like = [&](bool wanted, const Tensor& given) {
    if (!wanted) return empty_on(x, {0});
    std::vector<int64_t> sizes;
    for (int64_t axis = 0; axis < given.dim(); ++axis) sizes.push_back(given.size(axis));
    return empty_on(given, sizes);
  };
  Tensor of_x = like(for_x, x), of_graph = like(for_graph, graph.numbers),
         of_weight = like(for_weight, weight ? *weight : x), of_bias = like(for_bias, bias ? *bias : x);
  visit_float(kOp, x.scalar_type(), [&]<class T>(T) {
    using A = acc_t<T>;
    const Convolution<A> by(a, weight, bias, post);
    const std::vector<A> turned = turned_planes<A>(a, graph);
    a.turned = turned.empty() ? nullptr : turned.data();
    const T* h = hidden ? data<T>(*hidden) : nullptr;
    const int64_t chunks = chunks_of(a), graphs = a.K * a.bk, rows = a.C + a.ones;
    const bool ones = for_bias && a.ones, sums = for_bias && !a.ones;
    const int64_t weights = for_weight || ones ? a.K * a.D * rows : 0, biases = sums ? bias->size(0) : 0;
    // An adjacency of every row has a gradient of every row; else there are partial sums.
    const bool direct = a.by_row && a.wide;
    const int64_t copies = a.by_row ? a.N : chunks;
    std::vector<A> part_graph(for_graph && !direct ? copies * graphs : 0), part_weight(chunks * weights),
        part_bias(chunks * biases);
    A* graph_sums = part_graph.data();
    if (for_graph && direct) {
      graph_sums = mutable_data<A>(of_graph);
      if (a.subset || a.T == 0)
        for (int64_t i = 0; i < a.N * graphs; ++i) graph_sums[i] = A(0);
    }
    const auto kernel = ASMA_PICK(graph_conv_dense_backward<T>);
    T* to = for_x ? mutable_data<T>(of_x) : nullptr;
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk)
        kernel(a, data<T>(grad), data<T>(x), graph.numbers.const_data_ptr(), by.weight.data(), by.bias_data(), h, to,
               for_graph ? graph_sums + (a.by_row ? 0 : chunk * graphs) : nullptr,
               weights ? part_weight.data() + chunk * weights : nullptr,
               biases ? part_bias.data() + chunk * biases : nullptr, a.N * chunk / chunks, a.N * (chunk + 1) / chunks);
    });
    const auto same = [](int64_t i) { return i; };
    if (for_graph && a.by_row && !direct) write(graph_sums, a.N * graphs, of_graph, same);
    if (for_graph && !a.by_row) write(added_up(part_graph, chunks, graphs), graphs, of_graph, same);
    if (sums) write(added_up(part_bias, chunks, biases), biases, of_bias, same);
    if (!for_weight && !ones) return;
    const A* total = added_up(part_weight, chunks, weights);
    const bool last = a.plan == GraphConvDense::kMultiplyFirst;  // the weight's gradient is (K, D, C), else (K, C, D)
    const auto place = [&](int64_t i, bool bias_row) {
      const int64_t k = i / (rows * a.D), c = last ? i % rows : i / a.D % rows, d = last ? i / rows % a.D : i % a.D;
      if (bias_row) return c == a.C ? k * a.D + d : int64_t(-1);
      if (c == a.C) return int64_t(-1);
      return post ? (d * a.K + k) * a.C + c : (k * a.D + d) * a.C + c;
    };
    if (for_weight) write(total, weights, of_weight, [&](int64_t i) { return place(i, false); });
    if (ones) write(total, weights, of_bias, [&](int64_t i) { return place(i, true); });
  });
  return {of_x, of_graph, of_weight, of_bias};
}

namespace {

void check_graph(const Tensor& graph) { check_dim(kOp, "the graph (N, K, C, T, V, W)", graph, 6); }

Outputs graph_conv_dense(const Tensor& x, const Tensor& graph, std::optional<Tensor> weight, std::optional<Tensor> bias,
                         bool post, bool keep, std::optional<Tensor> joints, bool with_hidden) {
  check_graph(graph);
  return graph_conv_of(x, Adjacency(graph), weight, bias, post, keep, joints, with_hidden);
}

Gradients graph_conv_dense_backward(const Tensor& grad, const Tensor& x, const Tensor& graph,
                                    std::optional<Tensor> weight, std::optional<Tensor> bias,
                                    std::optional<Tensor> hidden, bool post, bool keep, std::optional<Tensor> joints,
                                    bool for_x, bool for_graph, bool for_weight, bool for_bias) {
  check_graph(graph);
  return graph_conv_backward_of(grad, x, Adjacency(graph), weight, bias, hidden, post, keep, joints, for_x, for_graph,
                                for_weight, for_bias);
}

}  // namespace
}  // namespace asma::bind

STABLE_TORCH_LIBRARY_IMPL(asma, CPU, m) {
  m.impl("graph_conv_dense", TORCH_BOX(&asma::bind::graph_conv_dense));
  m.impl("graph_conv_dense_backward", TORCH_BOX(&asma::bind::graph_conv_dense_backward));
}
