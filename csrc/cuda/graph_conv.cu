// Bytes: x once for each 64 channels out (from the second cache after the first), out once. Flops: 2 T (E C + Q K C D)
// a row, and the partitions that no edge brings to a target are not left out.
#include "graph_conv.h"

namespace asma::cuda {
namespace graph_conv_parts {
namespace {

constexpr int kPositions = kConvolveTile;
constexpr int kSlice = 16;     // channels in that are aggregated before they are multiplied
constexpr int kGroup = 8;      // channels that a thread aggregates together
constexpr int kPrepare = 512;  // threads

// Position of a joint among the kept ones, or -1.
__device__ inline int position_of(const GraphConv& a, const int64_t* kept, int64_t joint) {
  if (!a.subset) return static_cast<int>(joint);
  int found = -1;
  for (int64_t j = 0; j < a.J; ++j)
    if (kept[j] == joint) found = static_cast<int>(j);
  return found;
}

// An edge or a kept joint outside the graph feeds nothing.
template <class A>
__device__ void list_edges(const GraphConv& a, const Parameter& values, const int64_t* kept, bool back,
                           const Lists<A>& list) {
  const int thread = static_cast<int>(threadIdx.x), entries = list.entries;
  for (int e = thread; e < entries; e += kPrepare) {
    const int64_t k = a.edges[e], v = a.edges[a.E + e], w = a.edges[2 * a.E + e];
    const bool known = k >= 0 && k < a.K && v >= 0 && v < a.V && w >= 0 && w < a.W;
    const int from = known ? position_of(a, kept, v) : -1, to = known ? position_of(a, kept, w) : -1;
    list.cell[e] = from < 0 || to < 0 ? list.cells : static_cast<int>(k) * list.G + (back ? from : to);
  }
  __syncthreads();
  for (int e = thread; e < entries; e += kPrepare) {
    const int cell = list.cell[e];
    if (cell == list.cells) continue;
    int place = 0;
    for (int other = 0; other < entries; ++other) {
      const int its = list.cell[other];
      place += its < cell || (its == cell && other < e);
    }
    const int64_t source = a.edges[(back ? 2 : 1) * a.E + e];
    list.source[place] = position_of(a, kept, source);
    list.target[place] = cell % list.G;
    list.number[place] = e;
    list.value[place] = number_of<A>(values, e * values.step[0]);
  }
  for (int cell = thread; cell <= list.cells; cell += kPrepare) {
    int before = 0;
    for (int e = 0; e < entries; ++e) before += list.cell[e] < cell;
    list.first[cell] = before;
  }
}

template <class A>
__device__ void list_dense(const GraphConv& a, const Parameter& values, const int64_t* kept, bool back,
                           const Lists<A>& list) {
  for (int place = static_cast<int>(threadIdx.x); place < list.entries; place += kPrepare) {
    const int k = place / (list.S * list.G), source = place / list.G % list.S, target = place % list.G;
    const int64_t from = back ? target : source, to = back ? source : target;
    const int64_t v = a.subset ? kept[from] : from, w = a.subset ? kept[to] : to;
    const bool known = v >= 0 && v < a.V && w >= 0 && w < a.W;
    list.source[place] = source;
    list.target[place] = target;
    list.number[place] = known ? static_cast<int>((k * a.V + v) * a.W + w) : -1;
    list.value[place] =
        known ? number_of<A>(values, k * values.step[0] + v * values.step[1] + w * values.step[2]) : A(0);
  }
}

// The first two rows of blocks make the lists, a block for each instance; the third packs the parameters.
template <class A> __global__ void __launch_bounds__(kPrepare, 1) graph_conv_prepare_kernel(Preparation<A> job) {
  const GraphConv& a = job.a;
  if (blockIdx.y == 2) {
    const int64_t size = a.K * a.C * a.D, row_step = static_cast<int64_t>(gridDim.x) * kPrepare;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * kPrepare + threadIdx.x;
    const int64_t into = job.weight_back ? a.D : a.C, out = job.weight_back ? a.C : a.D;
    const Parameter &weight = job.given.weight, &bias = job.given.bias;
    for (int64_t i = first; i < size; i += row_step) {
      const int64_t k = i / (into * out), p = i / out % into, q = i % out;
      const int64_t c = job.weight_back ? q : p, d = job.weight_back ? p : q;
      job.weight[i] = number_of<A>(weight, k * weight.step[0] + c * weight.step[1] + d * weight.step[2]);
    }
    const int64_t biases = bias.data ? (a.post ? a.D : a.K * a.D) : 0;
    for (int64_t i = first; i < biases; i += row_step) job.bias[i] = number_of<A>(bias, i * bias.step[0]);
    return;
  }
  const bool back = blockIdx.y == 1;
  const Lists<A>& all = back ? job.back : job.forward;
  if (!all.value) return;
  for (int64_t instance = blockIdx.x; instance < (all.shared ? 1 : a.N); instance += gridDim.x) {
    const Lists<A> list = all.of_row(instance);
    const int64_t* kept = a.subset ? a.joints + instance * a.joints_row : nullptr;
    if (list.dense) list_dense(a, job.given.values, kept, back, list);
    else list_edges(a, job.given.values, kept, back, list);
    __syncthreads();
    for (int cell = static_cast<int>(threadIdx.x); cell < list.cells; cell += kPrepare) {
      const int k = cell / list.G, w = cell % list.G, begin = list.begin(k, w), count = list.count(k, w);
      A sum = 0;
      for (int i = 0; i < count; ++i) sum += list.value[begin + i * list.step()];
      list.total[cell] = sum;
    }
  }
}

// A block for each tile of positions and Columns channels out. x's slice of the tile lies in shared memory where its
// joints have room there; it is aggregated for one partition after the other.
template <class T, int Columns>
__global__ void __launch_bounds__(4 * Columns, kResident<acc_t<T>> / (4 * Columns))
    graph_conv_kernel(Convolution<T> job) {
  using A = acc_t<T>;
  constexpr int kThreads = 4 * Columns, kAcross = kThreads < kPositions ? kThreads : kPositions;
  constexpr int kAlong = kThreads / kAcross;
  alignas(16) __shared__ A left[kSlice][kPositions];
  alignas(16) __shared__ A right[kSlice][Columns];
  __shared__ T stage[kSlice][kPositions];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kAcross, line = thread / kAcross;
  const Tiles& tiles = job.tiles;
  const int S = job.graph.S, K = job.graph.K;
  const bool staged = tiles.frames * S <= kPositions;
  const Corner corner(2);
  const int64_t blocks_of_d = (job.D + Columns - 1) / Columns, items = tiles.count * blocks_of_d;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile tile(tiles, item / blocks_of_d);
    const int d0 = static_cast<int>(item % blocks_of_d) * Columns;
    const Lists<A> graph = job.graph.of_row(tile.n);
    const T* x = job.x + tile.n * job.sn + tile.t * job.st;
    A sum[4][8] = {};
    for (int c0 = 0; c0 < job.C; c0 += kSlice) {
      const int channels = job.C - c0 < kSlice ? job.C - c0 : kSlice;
      const T* slice = x + c0 * job.sc;
      if (staged) {
        for (int p = lane; p < tile.frames * S; p += kAcross) {
          const T* from = slice + p / S * job.st + p % S * job.sv;
          for (int c = line; c < channels; c += kAlong) stage[c][p] = from[c * job.sc];
        }
        __syncthreads();
      }
      for (int k = 0; k < K; ++k) {
        for (int p = lane; p < kPositions; p += kAcross) {
          const Position at(tiles, tile, p);
          const int begin = at.inside ? graph.begin(k, at.w) : 0, count = at.inside ? graph.count(k, at.w) : 0;
          for (int group = line; group * kGroup < channels; group += kAlong) {
            A part[kGroup] = {};
            for (int i = 0; i < count; ++i) {
              const int entry = begin + i * graph.step(), source = graph.source[entry];
              const A value = graph.value[entry];
              if (staged) {
                const T* from = &stage[group * kGroup][at.f * S + source];
#pragma unroll
                for (int c = 0; c < kGroup; ++c) part[c] += value * widen(from[c * kPositions]);
              } else {
                const T* from = slice + group * kGroup * job.sc + at.f * job.st + source * job.sv;
#pragma unroll
                for (int c = 0; c < kGroup; ++c)
                  if (group * kGroup + c < channels) part[c] += value * widen(from[c * job.sc]);
              }
            }
#pragma unroll
            for (int c = 0; c < kGroup; ++c) left[group * kGroup + c][p] = part[c];
          }
        }
        const A* weight = job.weight + (static_cast<int64_t>(k) * job.C + c0) * job.D + d0;
        for (int i = thread; i < channels * Columns; i += kThreads) {
          const int c = i / Columns, d = i % Columns;
          right[c][d] = d0 + d < job.D ? weight[static_cast<int64_t>(c) * job.D + d] : A(0);
        }
        __syncthreads();
        multiply<kPositions, Columns>(&left[0][corner.column], &right[0][corner.row], channels, sum);
        __syncthreads();
      }
    }
    // A quarter of the channels at a time through shared memory, so that neighbouring lanes write neighbours.
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        left[corner.row / 4][corner.column + j] = sum[quarter][j];
        left[corner.row / 4][corner.column + 32 + j] = sum[quarter][j + 4];
      }
      __syncthreads();
      for (int p = lane; p < kPositions; p += kAcross) {
        const Position at(tiles, tile, p);
        for (int row = line; row < Columns / 4; row += kAlong) {
          const int d = d0 + row * 4 + quarter;
          if (!at.inside || d >= job.D) continue;
          A number = left[row][p];
          if (job.bias && job.post) number += job.bias[d];
          if (job.bias && !job.post)
            for (int k = 0; k < K; ++k)
              number += graph.total[k * graph.G + at.w] * job.bias[static_cast<int64_t>(k) * job.D + d];
          job.out[((tile.n * job.D + d) * tiles.T + tile.t + at.f) * tiles.G + at.w] = narrow<T>(number);
        }
      }
      __syncthreads();
    }
  }
}

}  // namespace

template <class A> int prepare(const Preparation<A>& job, void* stream) {
  const GraphConv& a = job.a;
  const int64_t instances = a.joints_row == 0 ? 1 : a.N;
  const unsigned packers = blocks(a.K * a.C * a.D, kPrepare, 256), listers = blocks(instances, 1, 1024);
  return ASMA_LAUNCH((graph_conv_prepare_kernel<A>), dim3(packers > listers ? packers : listers, 3), dim3(kPrepare),
                     stream, job);
}
template int prepare<float>(const Preparation<float>&, void*);
template int prepare<double>(const Preparation<double>&, void*);

template <class T> int convolve(const Convolution<T>& job, void* stream) {
  // Fewer channels a block where 64 would be too many, or would give too few blocks for the multiprocessors.
  const auto items = [&](int64_t columns) { return job.tiles.count * ((job.D + columns - 1) / columns); };
  constexpr int64_t kEnough = 256, kMost = 2048;
  if (job.D > 32 && items(64) >= kEnough)
    return ASMA_LAUNCH((graph_conv_kernel<T, 64>), dim3(blocks(items(64), 1, kMost)), dim3(256), stream, job);
  if (job.D > 16 && items(32) >= kEnough)
    return ASMA_LAUNCH((graph_conv_kernel<T, 32>), dim3(blocks(items(32), 1, kMost)), dim3(128), stream, job);
  return ASMA_LAUNCH((graph_conv_kernel<T, 16>), dim3(blocks(items(16), 1, kMost)), dim3(64), stream, job);
}
#define INSTANTIATE(T) template int convolve<T>(const Convolution<T>&, void*);
INSTANTIATE(double)
INSTANTIATE(float)
INSTANTIATE(bf16)
INSTANTIATE(half)

}  // namespace graph_conv_parts
using namespace graph_conv_parts;

namespace {

// Places in the scratch, and its size.
template <class A> struct ForwardPlan {
  Lists<A> graph;
  int64_t ints, weight, bias, numbers;
  explicit ForwardPlan(const GraphConv& a) : graph(Lists<A>::of(a, false)) {
    ints = graph.instances(a.N) * graph.ints;
    weight = graph.instances(a.N) * graph.numbers;
    bias = weight + a.K * a.C * a.D;
    numbers = bias + (a.post ? a.D : a.K * a.D);
  }
};

}  // namespace

GraphConvRoom graph_conv_room(const GraphConv& a) {
  const ForwardPlan<float> plan(a);
  return {plan.ints, plan.numbers};
}

int graph_conv(Dtype dtype, const GraphConv& a, const GraphConvParameters& given, const void* x,
               const GraphConvScratch& scratch, void* out, void* stream) {
  if (a.N * a.D * a.T * a.Q == 0) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    using A = acc_t<T>;
    const ForwardPlan<A> plan(a);
    A* numbers = static_cast<A*>(scratch.numbers);
    const Lists<A> graph = plan.graph.at(scratch.ints, numbers);
    A *weight = numbers + plan.weight, *bias = given.bias.data ? numbers + plan.bias : nullptr;
    const int error = prepare(Preparation<A>{a, given, graph, {}, false, weight, bias}, stream);
    if (error) return error;
    return convolve(
        Convolution<T>{static_cast<const T*>(x), a.sn, a.sc, a.st, a.sv, static_cast<int>(a.C), static_cast<int>(a.D),
                       Tiles(a.N, a.T, a.Q, kPositions), graph, weight, bias, a.post, static_cast<T*>(out)},
        stream);
  });
}

}  // namespace asma::cuda
