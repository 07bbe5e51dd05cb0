// The steps of graph_conv_dense on one tile: what is loaded, aggregated, convolved and stored. "from" are the channels
// before the aggregation, "to" those behind it. A step of 0 between partitions means: of "from", all of them read the
// same channels; of "to", they are summed.
#pragma once
#include "gemm.h"
#include "graph_conv_dense.h"
#include "lanes.h"
#include "scratch.h"
#include "transpose.h"

namespace asma {
namespace ASMA_ISA {
namespace {

using Dense = GraphConvDense;

struct Place {
  int64_t n, t, frames, c, channels;
};

// The channels of a tile: [partition][channel][frame][joint], where numbers need no conversion in the tensor itself.
template <class A> struct View {
  A* data;
  int64_t part, channel;  // steps
};

// The planes of one channel and frame, of some partitions: [source][target], or turned [target][source].
template <class T> struct Planes {
  using A = acc_t<T>;
  const Dense& a;
  const void* graph;
  Scratch<A> packed;
  Scratch<const A*> at;
  int64_t row;

  Planes(const Dense& dense, const void* adjacency)
      : a(dense), graph(adjacency), packed(a.K * a.J * a.Q), at(a.K), row(0) {}

  void load(int64_t n, int64_t k, int64_t count, int64_t c, int64_t t, bool turned) {
    if (turned && a.turned) {
      const A* planes = static_cast<const A*>(a.turned) + k * a.bk + c % a.G * a.bc + t * a.bt;
      for (int64_t i = 0; i < count; ++i) at[i] = planes + i * a.bk;
      row = a.J;
      return;
    }
    const int64_t place = n * a.an + k * a.ak + c % a.G * a.ac + t * a.at;
    if (a.wide) load_as(static_cast<const A*>(graph) + place, n, count, turned);
    else load_as(static_cast<const T*>(graph) + place, n, count, turned);
  }

  template <class G> void load_as(const G* from, int64_t n, int64_t count, bool turned) {
    const int64_t outer = turned ? a.aw : a.av, inner = turned ? a.av : a.aw;
    const int64_t depth = turned ? a.Q : a.J, width = turned ? a.J : a.Q;
    const int64_t* kept = a.subset ? a.joints + n * a.joints_row : nullptr;
    for (int64_t k = 0; k < count; ++k, from += a.ak) {
      if constexpr (sizeof(G) == sizeof(A)) {
        if (!kept && inner == 1) {
          at[k] = from;
          row = outer;
          continue;
        }
      }
      A* to = packed.data + k * depth * width;
      at[k] = to;
      row = width;
      if (!kept) {
        gather_transposed(from, inner, outer, to, width, width, depth);
        continue;
      }
      for (int64_t j = 0; j < depth; ++j)
        for (int64_t i = 0; i < width; ++i) to[j * width + i] = widen(from[kept[i] * inner + kept[j] * outer]);
    }
  }
};

// How a tile falls into products: the rows of one have a plane in common and are evenly apart.
struct Groups {
  bool by_channel;
  int64_t channels, frames, rows;

  Groups(const Dense& a, const Place& p, bool even)
      : by_channel(a.by_channel || (!even && !a.by_frame)),
        channels(by_channel ? p.channels : 1),
        frames(a.by_frame ? p.frames : 1),
        rows((by_channel ? 1 : p.channels) * (a.by_frame ? 1 : p.frames)) {}
  // The rows of a group are channels where frames have planes of their own, else frames, or frames of every channel.
  int64_t step(const Dense& a, int64_t channel, int64_t width) const { return a.by_frame ? channel : width; }
};

template <int L, class A> ASMA_INLINE A sum_of(lanes_t<A, L> lanes) {
  if constexpr (L == 1) {
    return lanes[0];
  } else {
    union {
      lanes_t<A, L> whole;
      lanes_t<A, L / 2> half[2];
    } both{lanes};
    return sum_of<L / 2, A>(both.half[0] + both.half[1]);
  }
}

// to[i] (+)= plane[i] . row, for i < width: each row of the plane is read once, in the order it lies.
template <int L, class A>
void multiply_row(const A* plane, int64_t step, const A* row, int64_t depth, int64_t width, A* to, bool add) {
  if constexpr (L > 1)
    if (depth < L) return multiply_row<L / 2>(plane, step, row, depth, width, to, add);
  const int64_t whole = depth - depth % L, rest = depth < L ? 0 : depth - L;
  lanes_t<A, L> last{};  // overlaps the vector before it: what that has counted is zero here
  for (int64_t lane = 0; lane < L; ++lane)
    if (rest + lane >= whole && rest + lane < depth) last[lane] = row[rest + lane];
  for (int64_t i = 0; i < width; ++i, plane += step) {
    lanes_t<A, L> sums{};
    for (int64_t j = 0; j < whole; j += L) sums += load<L>(plane + j) * load<L>(row + j);
    if (whole < depth) sums += load<L>(plane + rest) * last;
    const A sum = sum_of<L, A>(sums);
    to[i] = add ? to[i] + sum : sum;
  }
}

// to = from times the planes; turned, the way back.
template <class T>
void aggregate(const Dense& a, const Place& p, Planes<T>& planes, bool turned, View<const acc_t<T>> from,
               View<acc_t<T>> to, Segment<acc_t<T>>* segments) {
  using A = acc_t<T>;
  const int64_t depth = turned ? a.Q : a.J, width = turned ? a.J : a.Q, parts = to.part == 0 ? 1 : a.K;
  const Groups groups(a, p, from.channel == p.frames * depth && to.channel == p.frames * width);
  const int64_t row = groups.step(a, from.channel, depth), to_row = groups.step(a, to.channel, width);
  // A plane is not turned for one row alone.
  const bool as_it_lies = groups.rows == 1 && (turned ? a.av : a.aw) != 1 && (turned ? a.aw : a.av) == 1;
  const int64_t count = a.K / parts;
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t c = 0; c < groups.channels; ++c)
      for (int64_t t = 0; t < groups.frames; ++t) {
        if (a.by_channel || a.by_frame || c == 0) planes.load(p.n, part, count, p.c + c, p.t + t, turned != as_it_lies);
        const A* rows = from.data + part * from.part + c * from.channel + t * depth;
        A* sums = to.data + part * to.part + c * to.channel + t * width;
        for (int64_t k = 0; k < count; ++k) {
          if (as_it_lies)
            multiply_row<kLanes<T>>(planes.at[k], planes.row, rows + k * from.part, depth, width, sums, k > 0);
          segments[k] = {rows + k * from.part, planes.at[k]};
        }
        if (!as_it_lies)
          multiply(Product<A>{segments, count, depth, row, 1, planes.row, sums, to_row, false}, groups.rows, width);
      }
}

// The adjacency's gradient: sums over the frames and channels of the tile that have a plane in common.
template <class A>
void graph_gradient(const Dense& a, const Place& p, View<const A> from, View<const A> to, A* grad_graph, A* plane) {
  const Groups groups(a, p, from.channel == p.frames * a.J && to.channel == p.frames * a.Q);
  const bool whole = a.by_row && !a.subset, later = p.t > 0 && !a.by_frame;
  const int64_t* kept = a.subset ? a.joints + p.n * a.joints_row : nullptr;
  for (int64_t k = 0; k < a.K; ++k)
    for (int64_t c = 0; c < groups.channels; ++c)
      for (int64_t t = 0; t < groups.frames; ++t) {
        const Segment<A> segment{from.data + k * from.part + c * from.channel + t * a.J,
                                 to.data + k * to.part + c * to.channel + t * a.Q};
        A* sums = grad_graph + p.n * a.bn + k * a.bk + (p.c + c) % a.G * a.bc + (p.t + t) * a.bt;
        const bool add = later || !whole || p.c + c >= a.G;
        multiply(Product<A>{&segment, 1, groups.rows, 1, groups.step(a, from.channel, a.J),
                            groups.step(a, to.channel, a.Q), kept ? plane : sums, kept ? a.Q : a.W, !kept && add},
                 a.J, a.Q);
        for (int64_t v = 0; kept && v < a.J; ++v)
          for (int64_t w = 0; w < a.Q; ++w) sums[kept[v] * a.W + kept[w]] += plane[v * a.Q + w];
      }
}

// Some frames and channels of a strided tensor, `parts` times, `part` apart: where they lie, or widened in `tile`.
template <class T>
View<const acc_t<T>> load_tile(const T* from, int64_t part, int64_t sc, int64_t st, int64_t sv, int64_t parts,
                               int64_t channels, int64_t frames, int64_t joints, acc_t<T>* tile) {
  const bool runs = sv == 1 && (st == joints || frames == 1);
  if constexpr (sizeof(T) == sizeof(acc_t<T>))
    if (runs) return {from, part, sc};
  const int64_t size = frames * joints, count = runs ? 1 : frames, run = runs ? size : joints;
  acc_t<T>* to = tile;
  for (int64_t k = 0; k < parts; ++k, from += part) {
    if (sc == 1 && sv != 1) {
      for (int64_t t = 0; t < frames; ++t)
        gather_transposed(from + t * st, sv, sc, to + t * joints, size, joints, channels);
      to += channels * size;
      continue;
    }
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t t = 0; t < count; ++t, to += run) {
        const T* row = from + c * sc + t * st;
        if (sv == 1) for_lanes<kLanes<T>>(run, [&]<int L>(int64_t v) { store<L>(to + v, load<L>(row + v)); });
        else
          for (int64_t v = 0; v < run; ++v) to[v] = widen(row[v * sv]);
      }
  }
  return {tile, channels * size, size};
}

// Where a tile of a contiguous tensor with `all` numbers a channel is computed: there, or in `tile`.
template <class T>
View<acc_t<T>> target(T* to, int64_t part, int64_t all, int64_t channels, int64_t size, acc_t<T>* tile) {
  if constexpr (sizeof(T) == sizeof(acc_t<T>)) return {to, part, all};
  else return {tile, channels * size, size};
}

template <class T>
void store_tile(View<acc_t<T>> from, T* to, int64_t part, int64_t all, int64_t parts, int64_t channels, int64_t size) {
  if constexpr (sizeof(T) != sizeof(acc_t<T>))
    for (int64_t k = 0; k < parts; ++k)
      for (int64_t c = 0; c < channels; ++c) {
        const acc_t<T>* row = from.data + k * from.part + c * from.channel;
        T* out = to + k * part + c * all;
        for_lanes<kLanes<T>>(size, [&]<int L>(int64_t i) { store<L>(out + i, load<L>(row + i)); });
      }
}

// sums[channel] += the channel's sum
template <class A>
void add_sums(const A* tile, int64_t channel, int64_t channels, int64_t size, A* sums) {
  constexpr int L = 16;
  for (int64_t c = 0; c < channels; ++c, tile += channel) {
    A lanes[L] = {};
    int64_t i = 0;
    for (; i + L <= size; i += L)
      for (int lane = 0; lane < L; ++lane) lanes[lane] += tile[i + lane];
    A sum = 0;
    for (; i < size; ++i) sum += tile[i];
    for (int lane = 0; lane < L; ++lane) sum += lanes[lane];
    sums[c] += sum;
  }
}

// The sizes of a call, and its tiles of x, of the gradient and of h.
template <class T> struct Work {
  using A = acc_t<T>;
  const Dense& a;
  const bool first, only;          // the plan
  const int64_t parts, sources;    // partitions in the output, and in x
  const int64_t rows, aggregated;  // of x with the ones; channels that the aggregation acts on
  int64_t size_in, size_out;       // numbers of a channel of the tile
  Place p;
  Planes<T> planes;
  Scratch<Segment<A>> segments;

  Work(const Dense& dense, const void* graph)
      : a(dense),
        first(a.plan == Dense::kAggregateFirst),
        only(a.plan == Dense::kAggregateOnly),
        parts(a.keep ? a.K : 1),
        sources(only && !a.shared ? a.K : 1),
        rows(a.C + a.ones),
        aggregated(first ? rows : a.D),
        size_in(0),
        size_out(0),
        p{},
        planes(a, graph),
        segments(a.K) {}

  int64_t x_numbers() const { return (only || first ? sources * a.channels : a.C) * a.frames * a.J; }
  int64_t out_numbers() const { return parts * (first ? a.D : a.channels) * a.frames * a.Q; }
  int64_t between_numbers() const { return only ? 0 : a.K * a.channels * a.frames * (first ? a.Q : a.J); }

  void enter(int64_t n, int64_t t) {
    p = {n, t, a.T - t < a.frames ? a.T - t : a.frames, 0, 0};
    size_in = p.frames * a.J, size_out = p.frames * a.Q;
  }
  // The next channels of the aggregation; also where there are none, so that empty sums are written.
  bool next(int64_t c) {
    p.c = c, p.channels = aggregated - c < a.channels ? aggregated - c : a.channels;
    return c == 0 || c < aggregated;
  }
  // Those of the next channels that x has: the last may be the ones.
  int64_t given() const { return p.c + p.channels > a.C ? p.channels - a.ones : p.channels; }

  View<const A> load_x(const T* x, int64_t c, int64_t channels, A* tile) {
    return load_tile(x + p.n * a.sn + c * a.sc + p.t * a.st, a.C * a.sc, a.sc, a.st, a.sv, sources, channels, p.frames,
                     a.J, tile);
  }
  View<const A> load_block(const T* x, A* tile) {
    View<const A> view = load_x(x, p.c, given(), tile);
    if (given() < p.channels) {
      if (view.data != tile) {
        for (int64_t c = 0; c < given(); ++c)
          for_lanes<kLanes<A>>(size_in, [&]<int L>(int64_t i) {
            store<L>(tile + c * size_in + i, load<L>(view.data + c * view.channel + i));
          });
        view = {tile, 0, size_in};
      }
      for (int64_t i = given() * size_in; i < p.channels * size_in; ++i) tile[i] = A(1);
    }
    if (first || a.shared) view.part = 0;
    return view;
  }
  View<const A> load_grad(const T* grad, int64_t c, int64_t channels, A* tile) {
    View<const A> view = load_tile(grad + p.n * a.gn + c * a.gc + p.t * a.gt, a.D * a.gc, a.gc, a.gt, a.gv, parts,
                                   channels, p.frames, a.Q, tile);
    if (!a.keep) view.part = 0;
    return view;
  }
  // Blocks of the weight's rows that a product can go over: where the next channels are all, partitions are one block.
  int64_t blocks() const { return p.channels == a.D ? 1 : a.K; }
  int64_t block_rows() const { return p.channels == a.D ? a.K * a.D : p.channels; }
  // The next channels of every partition of h, from all channels of x; with `hidden`, also there.
  View<const A> convolve(const A* weight, const A* bias, View<const A> x, A* tile, T* hidden) {
    const int64_t all = a.T * a.J;
    T* corner = hidden ? hidden + hidden_place() : nullptr;
    const View<A> h = hidden ? target(corner, a.D * all, all, p.channels, size_in, tile)
                             : View<A>{tile, p.channels * size_in, size_in};
    for (int64_t k = 0; k < blocks(); ++k) {
      const int64_t channel = k * a.D + p.c;
      const Segment<A> segment{weight + channel * a.C, x.data};
      multiply(Product<A>{&segment, 1, a.C, a.C, 1, x.channel, h.data + k * h.part, h.channel, false,
                          bias ? bias + channel : nullptr},
               block_rows(), size_in);
    }
    if (hidden) store_tile(h, corner, a.D * all, all, a.K, p.channels, size_in);
    return {h.data, h.part, h.channel};
  }
  View<const A> load_hidden(const T* hidden, A* tile) {
    const int64_t all = a.T * a.J;
    return load_tile(hidden + hidden_place(), a.D * all, all, a.J, 1, a.K, p.channels, p.frames, a.J, tile);
  }
  int64_t hidden_place() const { return ((p.n * a.K * a.D + p.c) * a.T + p.t) * a.J; }
  void aggregate_to(View<const A> from, View<A> to, bool turned) {
    aggregate(a, p, planes, turned, from, to, segments.data);
  }
};

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
