// Bytes: the gradient and x once for each gradient that is asked for (x's: with the transposed graph, as the forward),
// the results once, at most about 800 tiles of 64 x 64 partial sums of weight. Flops: as the forward for each of them.
#include "graph_conv.h"

namespace asma::cuda {
using namespace graph_conv_parts;
namespace {

constexpr int kRows = 64;  // rows (partition, channel in) and channels out of a block's part of weight's gradient
constexpr int kPitch = kRows + 4;  // lanes that store four numbers each meet different banks
constexpr int kGroup = 8;          // rows or channels that a thread brings together
constexpr int kChannels = 32;      // channels in of a slice of values' gradient
constexpr int kSlice = 16;         // channels out that are multiplied at a time
constexpr int kLines = 8;          // warps of a block that adds up

// Positions of a tile: half as many where numbers are twice as wide.
template <class A> constexpr int kWeightTile = sizeof(A) == 4 ? 64 : 32;
template <class A> constexpr int kValuesTile = sizeof(A) == 4 ? 128 : 64;

template <class T> struct Backward {
  GraphConv a;
  const T *grad, *x;
  Tiles tiles;
  Lists<acc_t<T>> graph;
  const acc_t<T>*weight, *bias;  // weight (K, D, C)
  acc_t<T>* partial;             // of weight: (splits, K, C, D); of values: (splits, E); the sums: (N, D, Q)
};

// weight: a block for 64 rows (k, c), 64 channels d and every splits-th tile. The tile's x is aggregated for the rows
// and multiplied with the gradient over the positions.
template <class T>
__global__ void __launch_bounds__(2 * kRows, kResident<acc_t<T>> / (2 * kRows))
    graph_conv_backward_weight_kernel(Backward<T> job) {
  using A = acc_t<T>;
  constexpr int kPositions = kWeightTile<A>, kThreads = 2 * kRows;
  alignas(16) __shared__ A left[kPositions][kPitch];
  alignas(16) __shared__ A right[kPositions][kPitch];
  const GraphConv& a = job.a;
  const int C = static_cast<int>(a.C), D = static_cast<int>(a.D), rows = static_cast<int>(a.K) * C;
  const int r0 = static_cast<int>(blockIdx.y) * kRows, d0 = static_cast<int>(blockIdx.z) * kRows;
  const Corner corner(1);
  A sum[4][8] = {};
  for (int64_t i = blockIdx.x; i < job.tiles.count; i += gridDim.x) {
    const Tile tile(job.tiles, i);
    const Lists<A> graph = job.graph.of_row(tile.n);
    const T* x = job.x + tile.n * a.sn + tile.t * a.st;
    const T* grad = job.grad + tile.n * a.gn + tile.t * a.gt;
    for (int item = static_cast<int>(threadIdx.x); item < kPositions * (kRows / kGroup); item += kThreads) {
      const int p = item % kPositions, first = item / kPositions * kGroup, row = r0 + first;
      const Position at(job.tiles, tile, p);
      A part[kGroup] = {};
      const int last = row + kGroup < rows ? row + kGroup : rows;
      for (int k = row / C; at.inside && k * C < last; ++k) {
        const int begin = graph.begin(k, at.w), count = graph.count(k, at.w), c = row - k * C;
        for (int e = 0; e < count; ++e) {
          const int entry = begin + e * graph.step();
          const A value = graph.value[entry];
          const T* from = x + at.f * a.st + graph.source[entry] * a.sv;
#pragma unroll
          for (int j = 0; j < kGroup; ++j)
            if (c + j >= 0 && c + j < C) part[j] += value * widen(from[(c + j) * a.sc]);
        }
      }
#pragma unroll
      for (int j = 0; j < kGroup; ++j) left[p][first + j] = part[j];
      const T* from = grad + at.f * a.gt + at.w * a.gv;
#pragma unroll
      for (int j = 0; j < kGroup; ++j)
        right[p][first + j] = at.inside && d0 + first + j < D ? widen(from[(d0 + first + j) * a.gc]) : A(0);
    }
    __syncthreads();
    multiply<kPitch, kPitch>(&left[0][corner.column], &right[0][corner.row], tile.frames * job.tiles.width, sum);
    __syncthreads();
  }
  A* to = job.partial + static_cast<int64_t>(blockIdx.x) * rows * D;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const int row = r0 + corner.column + (j < 4 ? j : 28 + j);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int d = d0 + corner.row + i;
      if (row < rows && d < D) to[static_cast<int64_t>(row) * D + d] = sum[i][j];
    }
  }
}

// values: a block for every splits-th tile. For each partition and 32 channels in, the gradient goes back through
// weight into shared memory; then each entry takes its product with x, the lanes of an entry sharing its channels.
template <class T>
__global__ void __launch_bounds__(kValuesTile<acc_t<T>>, kResident<acc_t<T>> / kValuesTile<acc_t<T>>)
    graph_conv_backward_values_kernel(Backward<T> job) {
  using A = acc_t<T>;
  constexpr int kThreads = kValuesTile<A>;  // one for each position
  alignas(16) __shared__ A left[kSlice][kThreads];
  alignas(16) __shared__ A right[kSlice][kChannels];
  __shared__ A input[kChannels][kThreads + 1];
  __shared__ A through_bias[kThreads];
  const GraphConv& a = job.a;
  const Tiles& tiles = job.tiles;
  const int thread = static_cast<int>(threadIdx.x);
  const int C = static_cast<int>(a.C), D = static_cast<int>(a.D), K = static_cast<int>(a.K);
  const bool with_bias = job.bias && !a.post;
  const Corner corner(kThreads / 64);
  A* to = job.partial + blockIdx.x * a.E;
  for (int64_t e = thread; e < a.E; e += kThreads) to[e] = A(0);
  __syncthreads();
  for (int64_t i = blockIdx.x; i < tiles.count; i += gridDim.x) {
    const Tile tile(tiles, i);
    const Position at(tiles, tile, thread);
    const Lists<A> graph = job.graph.of_row(tile.n);
    const T* grad = job.grad + tile.n * a.gn + (tile.t + at.f) * a.gt + at.w * a.gv;
    for (int k = 0; k < K; ++k) {
      const int begin = graph.partition(k), count = graph.partition(k + 1) - begin;
      if (count == 0) continue;
      int parts = 1;  // of an entry's channels, each to a lane
      while (parts < kWarp && 2 * parts * count <= kThreads) parts *= 2;
      for (int c0 = 0; c0 < C || c0 == 0; c0 += kChannels) {
        const int channels = C - c0 < kChannels ? C - c0 : kChannels;
        A sum[4][8] = {};
        A bias_sum = 0;
        for (int d0 = 0; d0 < D; d0 += kSlice) {
          const int depth = D - d0 < kSlice ? D - d0 : kSlice;
          for (int d = 0; d < depth; ++d) {
            const A number = at.inside ? static_cast<A>(widen(grad[(d0 + d) * a.gc])) : A(0);
            left[d][thread] = number;
            if (with_bias) bias_sum += job.bias[static_cast<int64_t>(k) * D + d0 + d] * number;
          }
          const A* weight = job.weight + (static_cast<int64_t>(k) * D + d0) * C + c0;
          for (int j = thread; j < depth * kChannels; j += kThreads) {
            const int d = j / kChannels, c = j % kChannels;
            right[d][c] = c < channels ? weight[static_cast<int64_t>(d) * C + c] : A(0);
          }
          __syncthreads();
          multiply<kThreads, kChannels>(&left[0][corner.column], &right[0][corner.row], depth, sum);
          __syncthreads();
        }
#pragma unroll
        for (int row = 0; row < 4; ++row)
#pragma unroll
          for (int j = 0; j < 8; ++j) input[corner.row + row][corner.column + (j < 4 ? j : 28 + j)] = sum[row][j];
        through_bias[thread] = bias_sum;
        __syncthreads();
        const int part = thread % parts;
        for (int first = 0; first < count; first += kThreads / parts) {
          const int entry = first + thread / parts;
          const int number = entry < count ? graph.number[begin + entry] : -1;
          const int target = entry < count ? graph.target[begin + entry] - tile.w : -1;
          const bool here = number >= 0 && target >= 0 && target < tiles.width;
          A product = 0;
          if (here) {
            const T* from = job.x + tile.n * a.sn + c0 * a.sc + tile.t * a.st + graph.source[begin + entry] * a.sv;
            for (int c = part; c < channels; c += parts)
              for (int f = 0; f < tile.frames; ++f)
                product += widen(from[c * a.sc + f * a.st]) * input[c][f * tiles.width + target];
            for (int f = part; with_bias && c0 == 0 && f < tile.frames; f += parts)
              product += through_bias[f * tiles.width + target];
          }
          for (int step = parts / 2; step > 0; step /= 2) product += __shfl_xor_sync(kAll, product, step);
          if (here && part == 0) to[number] += product;
        }
        __syncthreads();
      }
    }
  }
}

// sums[n, d, w] = the gradient's sum over the frames.
template <class T> __global__ void __launch_bounds__(kWarp* kLines) graph_conv_backward_sums_kernel(Backward<T> job) {
  using A = acc_t<T>;
  __shared__ A lines[kLines][kWarp];
  const GraphConv& a = job.a;
  for (int64_t row = blockIdx.x; row < a.N * a.D; row += gridDim.x) {
    const T* from = job.grad + row / a.D * a.gn + row % a.D * a.gc;
    for (int64_t first = 0; first < a.Q; first += kWarp) {
      const int64_t w = first + threadIdx.x;
      A sum = 0;
      for (int64_t t = threadIdx.y; w < a.Q && t < a.T; t += kLines) sum += widen(from[t * a.gt + w * a.gv]);
      lines[threadIdx.y][threadIdx.x] = sum;
      __syncthreads();
      if (threadIdx.y == 0 && w < a.Q) {
        for (int line = 1; line < kLines; ++line) sum += lines[line][threadIdx.x];
        job.partial[row * a.Q + w] = sum;
      }
      __syncthreads();
    }
  }
}

template <class A> __device__ inline void store(void* to, Dtype dtype, int64_t at, A number) {
  switch (dtype) {
    case Dtype::float64: static_cast<double*>(to)[at] = static_cast<double>(number); return;
    case Dtype::float32: static_cast<float*>(to)[at] = static_cast<float>(number); return;
    case Dtype::bfloat16: static_cast<bf16*>(to)[at] = narrow<bf16>(static_cast<float>(number)); return;
    default: static_cast<half*>(to)[at] = narrow<half>(static_cast<float>(number)); return;
  }
}

// bias: a block for each of its numbers adds the sums of all rows and targets, before the aggregation times the
// target's sum of values.
template <class A>
__global__ void __launch_bounds__(kWarp* kLines)
    graph_conv_backward_bias_kernel(GraphConv a, Lists<A> all, const A* __restrict__ sums, void* to, Dtype dtype) {
  __shared__ A warps[kLines];
  const int thread = static_cast<int>(threadIdx.y) * kWarp + static_cast<int>(threadIdx.x);
  for (int64_t i = blockIdx.x; i < (a.post ? a.D : a.K * a.D); i += gridDim.x) {
    const int64_t k = i / a.D, d = i % a.D;
    A sum = 0;
    for (int64_t j = thread; j < a.N * a.Q; j += kWarp * kLines) {
      const int64_t n = j / a.Q, w = j % a.Q;
      const A part = sums[(n * a.D + d) * a.Q + w];
      sum += a.post ? part : part * all.of_row(n).total[k * a.Q + w];
    }
    sum = warp_sum(sum);
    if (threadIdx.x == 0) warps[threadIdx.y] = sum;
    __syncthreads();
    if (thread == 0) {
      for (int line = 1; line < kLines; ++line) sum += warps[line];
      store(to, dtype, i, sum);
    }
    __syncthreads();
  }
}

// Where number i = (p, q, r) of a sum of partial sums belongs.
struct Layout {
  int64_t q, r, step[3];
  __device__ int64_t place(int64_t i) const { return i / (q * r) * step[0] + i / r % q * step[1] + i % r * step[2]; }
};

// Adds the splits in their order: a warp for 32 numbers and every eighth split, then the warps in theirs.
template <class A>
__global__ void __launch_bounds__(kWarp* kLines)
    graph_conv_backward_add_kernel(const A* __restrict__ partial, int splits, int64_t size, Layout layout, void* to,
                                   Dtype dtype) {
  __shared__ A lines[kLines][kWarp];
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kWarp;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kWarp; first < size; first += stride) {
    const int64_t i = first + threadIdx.x;
    A sum = 0;
#pragma unroll 4
    for (int split = static_cast<int>(threadIdx.y); split < splits; split += kLines)
      if (i < size) sum += partial[split * size + i];
    lines[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && i < size) {
      for (int line = 1; line < kLines; ++line) sum += lines[line][threadIdx.x];
      store(to, dtype, layout.place(i), sum);
    }
    __syncthreads();
  }
}

int64_t at_most(int64_t number, int64_t limit) { return number < limit ? number : limit; }
int64_t at_least(int64_t number, int64_t limit) { return number > limit ? number : limit; }

// Places in the scratch, its size, and into how many partial sums the tiles are split: it depends on shapes alone.
template <class A> struct BackwardPlan {
  Lists<A> graph, back;
  Tiles weight_tiles, values_tiles;
  int64_t back_ints, ints;
  int64_t back_numbers, weight, bias, weight_partial, values_partial, sums, numbers;
  int64_t row_blocks, channel_blocks, weight_splits, values_splits;

  BackwardPlan(const GraphConv& a, const GraphConvGradients& wanted)
      : graph(Lists<A>::of(a, false)),
        back(Lists<A>::of(a, true)),
        weight_tiles(a.N, a.T, a.Q, kWeightTile<A>),
        values_tiles(a.N, a.T, a.Q, kValuesTile<A>) {
    constexpr int64_t kBlocks = 792, kValuesRoom = 1 << 22;
    const int64_t weights = a.K * a.C * a.D, instances = graph.instances(a.N);
    row_blocks = (a.K * a.C + kRows - 1) / kRows, channel_blocks = (a.D + kRows - 1) / kRows;
    weight_splits = at_least(1, at_most(weight_tiles.count, kBlocks / at_least(1, row_blocks * channel_blocks)));
    values_splits = at_least(1, at_most(values_tiles.count, at_most(kBlocks, kValuesRoom / at_least(1, a.E))));
    back_ints = instances * graph.ints;
    ints = back_ints + (wanted.x ? instances * back.ints : 0);
    back_numbers = instances * graph.numbers;
    weight = back_numbers + (wanted.x ? instances * back.numbers : 0);
    bias = weight + weights;
    weight_partial = bias + (a.post ? a.D : a.K * a.D);
    values_partial = weight_partial + (wanted.weight ? weight_splits * weights : 0);
    sums = values_partial + (wanted.values ? values_splits * a.E : 0);
    numbers = sums + (wanted.bias ? a.N * a.D * a.Q : 0);
  }
};

constexpr int64_t kMostBlocks = 1 << 16;

template <class T>
int backward(const GraphConv& a, const GraphConvParameters& given, const T* grad, const T* x,
             const GraphConvScratch& scratch, const GraphConvGradients& wanted, void* stream) {
  using A = acc_t<T>;
  const BackwardPlan<A> plan(a, wanted);
  const dim3 adders(kWarp, kLines);
  A* room = static_cast<A*>(scratch.numbers);
  A *weight = room + plan.weight, *bias = given.bias.data ? room + plan.bias : nullptr;
  const Lists<A> graph = plan.graph.at(scratch.ints, room);
  const Lists<A> back = wanted.x ? plan.back.at(scratch.ints + plan.back_ints, room + plan.back_numbers) : Lists<A>{};
  int error = prepare(Preparation<A>{a, given, graph, back, true, weight, bias}, stream);
  if (!error && wanted.x)
    error = convolve(
        Convolution<T>{grad, a.gn, a.gc, a.gt, a.gv, static_cast<int>(a.D), static_cast<int>(a.C),
                       Tiles(a.N, a.T, a.J, kConvolveTile), back, weight, nullptr, false, static_cast<T*>(wanted.x)},
        stream);
  const auto add = [&](const A* partial, int64_t splits, int64_t size, const Layout& layout, void* to, Dtype dtype) {
    return ASMA_LAUNCH((graph_conv_backward_add_kernel<A>), dim3(blocks(size, kWarp, kMostBlocks)), adders, stream,
                       partial, static_cast<int>(splits), size, layout, to, dtype);
  };
  if (!error && wanted.weight) {
    A* partial = room + plan.weight_partial;
    const dim3 grid(static_cast<unsigned>(plan.weight_splits), static_cast<unsigned>(plan.row_blocks),
                    static_cast<unsigned>(plan.channel_blocks));
    error = ASMA_LAUNCH((graph_conv_backward_weight_kernel<T>), grid, dim3(2 * kRows), stream,
                        Backward<T>{a, grad, x, plan.weight_tiles, graph, weight, bias, partial});
    const Layout layout = a.post ? Layout{a.C, a.D, {a.C, 1, a.K * a.C}} : Layout{a.C, a.D, {a.C * a.D, 1, a.C}};
    if (!error) error = add(partial, plan.weight_splits, a.K * a.C * a.D, layout, wanted.weight, given.weight.dtype);
  }
  if (!error && wanted.values) {
    A* partial = room + plan.values_partial;
    error = ASMA_LAUNCH((graph_conv_backward_values_kernel<T>), dim3(static_cast<unsigned>(plan.values_splits)),
                        dim3(kValuesTile<A>), stream,
                        Backward<T>{a, grad, x, plan.values_tiles, graph, weight, bias, partial});
    if (!error) error = add(partial, plan.values_splits, a.E, {1, 1, {1, 0, 0}}, wanted.values, given.values.dtype);
  }
  if (!error && wanted.bias) {
    A* sums = room + plan.sums;
    error = ASMA_LAUNCH((graph_conv_backward_sums_kernel<T>), dim3(blocks(a.N * a.D, 1, kMostBlocks)), adders, stream,
                        Backward<T>{a, grad, x, plan.weight_tiles, graph, weight, bias, sums});
    if (!error)
      error = ASMA_LAUNCH((graph_conv_backward_bias_kernel<A>), dim3(blocks(a.K * a.D, 1, kMostBlocks)), adders, stream,
                          a, graph, sums, wanted.bias, given.bias.dtype);
  }
  return error;
}

}  // namespace

GraphConvRoom graph_conv_backward_room(Dtype dtype, const GraphConv& a, const GraphConvGradients& wanted) {
  if (dtype == Dtype::float64) {
    const BackwardPlan<double> plan(a, wanted);
    return {plan.ints, plan.numbers};
  }
  const BackwardPlan<float> plan(a, wanted);
  return {plan.ints, plan.numbers};
}

int graph_conv_backward(Dtype dtype, const GraphConv& a, const GraphConvParameters& given, const void* grad,
                        const void* x, const GraphConvScratch& scratch, const GraphConvGradients& gradients,
                        void* stream) {
  if (!gradients.x && !gradients.values && !gradients.weight && !gradients.bias) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    return backward<T>(a, given, static_cast<const T*>(grad), static_cast<const T*>(x), scratch, gradients, stream);
  });
}

}  // namespace asma::cuda
