#include "stgcn_block.h"

namespace asma::bind {
namespace {

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

using BlockGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                                  Tensor, Tensor, Tensor, Tensor>;

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

BlockGradients stgcn_block_backward(const Tensor& grad, const Tensor& out_, const Tensor& statistics, const Tensor& y1_,
                                    const Tensor& y2_, const Tensor& y3_, const Tensor& kept, const Tensor& x,
                                    const Tensor& values, std::optional<Tensor> edges, int64_t K, int64_t V, int64_t W,
                                    std::optional<Tensor> joints, const Tensor& gcn_weight,
                                    std::optional<Tensor> gcn_bias, const Tensor& norm1_weight,
                                    const Tensor& norm1_bias, const Tensor& conv_weight,
                                    std::optional<Tensor> conv_bias, const Tensor& norm2_weight,
                                    const Tensor& norm2_bias, std::optional<Tensor> shortcut_weight,
                                    std::optional<Tensor> shortcut_bias, std::optional<Tensor> norm3_weight,
                                    std::optional<Tensor> norm3_bias, std::string residual, int64_t stride,
                                    double dropout, std::optional<Tensor> rng, double eps) {
  Call call(x, values, edges, K, V, W, joints, gcn_weight, gcn_bias, conv_weight, conv_bias, shortcut_weight,
            shortcut_bias, residual, stride, dropout, rng, eps);
  STGCNBlock& a = call.a;
  GraphConv& g = a.graph;
  if (a.conv_pairs) a.conv_group = call.conv_group(kFastPairRows);
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
  STD_TORCH_CHECK(kept.scalar_type() == ScalarType::Byte && kept.numel() == call.kept_bytes() && kept.is_contiguous(),
                  kOp, "_backward: kept must be as the forward gave it");
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
  Tensor grad_z = empty_on(x, {N, g.T, g.Q, D});
  visit_float(kOp, dtype, [&]<class T>(T) {
    using A = acc_t<T>;
    const A* rows = data<A>(statistics);
    const T *upper = data<T>(grad), *result = data<T>(out), *from1 = data<T>(y1), *from2 = data<T>(y2),
            *from3 = a.shortcut ? data<T>(y3) : nullptr;
    const auto bias1 = numbers<A>(norm1_bias), bias2 = numbers<A>(norm2_bias), bias3 = of_optional<A>(norm3_bias);
    BlockNorm<A> norm1 = norm_of(rows, D, bias1.data()), norm2 = norm_of(rows + 5 * D, D, bias2.data()),
                 norm3 = norm_of(rows + 10 * D, D, pointer(bias3));
    const uint8_t* keep = data<uint8_t>(kept);
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
    T* of_z = mutable_data<T>(grad_z);
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
    const auto weight_back = call.graph_weight<A>(true);
    const auto value = numbers<A>(values), shortcut_back = call.residual_weight_back<A>(),
               bias = of_optional<A>(gcn_bias);
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
  m.impl("stgcn_block_backward", TORCH_BOX(&asma::bind::stgcn_block_backward));
}
