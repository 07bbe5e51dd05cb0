// What graph_conv's two kernel files share: the graph as lists, tiles of positions, the product in registers.
#pragma once
#include "../common/graph_conv.h"
#include "launch.h"

namespace asma::cuda::graph_conv_parts {

// The adjacency of an instance (the batch, or a row where each row keeps its own joints) between S source positions and
// G targets, as entries (source, target, value). A cell is a partition and a target. The entries of a partition stand
// together; those of a cell lie side by side, but of a dense graph G apart, so that the lanes of neighbouring targets
// read neighbours.
template <class A> struct Lists {
  int32_t *cell, *first;              // sparse: of each edge; the cells' first entries (cells + 1)
  int32_t *source, *target, *number;  // of each entry; number: its place in values, -1: none
  A *value, *total;                   // of each entry; of each cell, the sum of its values
  int64_t ints, numbers;              // room of an instance
  int K, S, G, cells, entries;
  bool dense, shared;

  static Lists of(const GraphConv& a, bool back) {
    Lists list{};
    list.K = static_cast<int>(a.K);
    list.S = static_cast<int>(back ? a.Q : a.J), list.G = static_cast<int>(back ? a.J : a.Q);
    list.cells = list.K * list.G;
    list.dense = a.dense;
    list.entries = a.dense ? list.cells * list.S : static_cast<int>(a.E);
    list.shared = a.joints_row == 0;
    list.ints = a.dense ? 3 * int64_t{list.entries} : 4 * int64_t{list.entries} + list.cells + 1;
    list.numbers = int64_t{list.entries} + list.cells;
    return list;
  }
  Lists at(int32_t* ints_at, A* numbers_at) const {
    Lists list = *this;
    list.source = ints_at, list.target = ints_at + entries, list.number = ints_at + 2 * int64_t{entries};
    list.cell = ints_at + 3 * int64_t{entries}, list.first = dense ? list.cell : list.cell + entries;
    list.value = numbers_at, list.total = numbers_at + entries;
    return list;
  }
  int64_t instances(int64_t N) const { return shared ? 1 : N; }

  __device__ Lists of_row(int64_t n) const {
    Lists list = *this;
    const int64_t i = shared ? 0 : n * ints, j = shared ? 0 : n * numbers;
    list.cell += i, list.first += i, list.source += i, list.target += i, list.number += i;
    list.value += j, list.total += j;
    return list;
  }
  __device__ int begin(int k, int w) const { return dense ? k * S * G + w : first[k * G + w]; }
  __device__ int count(int k, int w) const { return dense ? S : first[k * G + w + 1] - first[k * G + w]; }
  __device__ int step() const { return dense ? G : 1; }
  __device__ int partition(int k) const { return dense ? k * S * G : first[k * G]; }
};

// Positions (frame, target) of a row in tiles of at most P: as many whole frames as there is room for, or a part of
// one.
struct Tiles {
  int64_t T, across, along, count;
  int G, width, frames;  // width: targets of a tile's frame

  Tiles(int64_t N, int64_t T, int64_t targets, int64_t P) : T(T), G(static_cast<int>(targets)) {
    width = static_cast<int>(targets < P ? targets : P);
    frames = width > 0 ? static_cast<int>(P / width) : 0;
    across = width > 0 ? (targets + width - 1) / width : 0;
    along = frames > 0 ? (T + frames - 1) / frames : 0;
    count = N * across * along;
  }
};

struct Tile {
  int64_t n, t;
  int w, frames;
  __device__ Tile(const Tiles& tiles, int64_t i) {
    w = static_cast<int>(i % tiles.across) * tiles.width;
    t = i / tiles.across % tiles.along * tiles.frames;
    n = i / (tiles.across * tiles.along);
    frames = static_cast<int>(tiles.T - t < tiles.frames ? tiles.T - t : tiles.frames);
  }
};

struct Position {
  int f, w;
  bool inside;
  __device__ Position(const Tiles& tiles, const Tile& tile, int p) {
    f = p / tiles.width, w = tile.w + p % tiles.width;
    inside = f < tile.frames && w < tiles.G;
  }
};

// Threads that a multiprocessor must be able to hold: 128 registers of 32 bits a thread for float32, 255 for float64.
template <class A> constexpr int kResident = sizeof(A) == 4 ? 512 : 256;

template <class A> struct alignas(16) Four {
  A at[4];
};
template <class A> __device__ inline Four<A> four(const A* from) { return *reinterpret_cast<const Four<A>*>(from); }

// sum[i][j] += over r: right[r][i] * left[r][j or 32 + j - 4]. A warp makes 16 x 64 numbers of left's columns and
// right's.
template <int L, int R, class A>
__device__ inline void multiply(const A* left, const A* right, int count, A (&sum)[4][8]) {
#pragma unroll 4
  for (int r = 0; r < count; ++r) {
    const Four<A> low = four(left + r * L), high = four(left + r * L + 32), by = four(right + r * R);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sum[i][j] += by.at[i] * low.at[j];
        sum[i][j + 4] += by.at[i] * high.at[j];
      }
  }
}

// Where a thread's numbers of the product stand when `across` warps share left's columns: the first of its columns and
// of its rows.
struct Corner {
  int column, row;
  __device__ Corner(int across) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
    column = warp % across * 64 + lane % 8 * 4;
    row = warp / across * 16 + lane / 8 * 4;
  }
};

template <class A> __device__ inline A number_of(const Parameter& from, int64_t at) {
  switch (from.dtype) {
    case Dtype::float64: return static_cast<A>(static_cast<const double*>(from.data)[at]);
    case Dtype::float32: return static_cast<A>(static_cast<const float*>(from.data)[at]);
    case Dtype::bfloat16: return static_cast<A>(widen(static_cast<const bf16*>(from.data)[at]));
    default: return static_cast<A>(widen(static_cast<const half*>(from.data)[at]));
  }
}

// Brings a call's small tensors into the kernels' order: lists of the graph, weight (K, into, out), bias. What has no
// place (null) is not made.
template <class A> struct Preparation {
  GraphConv a;
  GraphConvParameters given;
  Lists<A> forward, back;  // back: from targets to sources
  bool weight_back;        // weight (K, D, C), else (K, C, D)
  A *weight, *bias;
};
template <class A> int prepare(const Preparation<A>& job, void* stream);

// out[n, d, t, w] = sum over the entries of w and over c of value * weight[k, c, d] * x[n, c, t, source] (+ bias).
template <class T> struct Convolution {
  const T* x;
  int64_t sn, sc, st, sv;
  int C, D;
  Tiles tiles;
  Lists<acc_t<T>> graph;
  const acc_t<T>*weight, *bias;
  bool post;
  T* out;
};
constexpr int kConvolveTile = 128;  // positions of its tiles
template <class T> int convolve(const Convolution<T>& job, void* stream);

}  // namespace asma::cuda::graph_conv_parts
