#include "skeleton_view.h"

#include "lanes.h"
#include "scratch.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// Numbers that are gathered before they are multiplied: long enough for whole vectors, small enough for L1.
constexpr int64_t kGathered = 4096;
// Products that are summed in acc_t before the sum goes on in double.
constexpr int64_t kSummed = 1024;
// Bytes that are copied before a call of memcpy would have got going.
constexpr int64_t kShortRun = 1024;

template <class A> struct Affine {
  const A* matrix;  // element (row, column) at row * row_step + column * column_step; null: identity
  int64_t rows, columns, row_step, column_step;
  const A* offset;  // (rows) or null
};

template <class In, class Out> void copy(const In* from, Out* to, int64_t width) {
  for_lanes<kLanes<In>>(width,
                        [&]<int L>(int64_t i) __attribute__((always_inline)) { store<L>(to + i, load<L>(from + i)); });
}
template <class Same> ASMA_INLINE void copy(const Same* from, Same* to, int64_t width) {
  const int64_t bytes = width * static_cast<int64_t>(sizeof(Same));
  if (bytes > kShortRun) {
    __builtin_memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  const auto* source = reinterpret_cast<const uint8_t*>(from);
  auto* target = reinterpret_cast<uint8_t*>(to);
  for_lanes<kLaneBytes>(bytes, [&]<int L>(int64_t i) __attribute__((always_inline)) {
    *reinterpret_cast<lanes_t<uint8_t, L>*>(target + i) = *reinterpret_cast<const lanes_t<uint8_t, L>*>(source + i);
  });
}

template <class A, class In, class Out>
void apply_identity(const Affine<A>& f, const In* in, int64_t in_step, Out* out, int64_t out_step, int64_t width) {
  for (int64_t row = 0; row < f.rows; ++row) {
    const In* from = in + row * in_step;
    Out* to = out + row * out_step;
    if (!f.offset) {
      copy(from, to, width);
      continue;
    }
    const A added = f.offset[row];
    for_lanes<kLanes<In>>(
        width, [&]<int L>(int64_t i) __attribute__((always_inline)) { store<L>(to + i, load<L>(from + i) + added); });
  }
}

// Three coordinates to three coordinates: the case of every skeleton, with the matrix in registers.
template <class A, class In, class Out>
void apply_3(const Affine<A>& f, const In* in, int64_t in_step, Out* out, int64_t out_step, int64_t width) {
  A m[3][3], b[3];
  for (int row = 0; row < 3; ++row) {
    b[row] = f.offset ? f.offset[row] : A(0);
    for (int column = 0; column < 3; ++column) m[row][column] = f.matrix[row * f.row_step + column * f.column_step];
  }
  for_lanes<kLanes<In>>(width, [&]<int L>(int64_t i) __attribute__((always_inline)) {
    const auto x = load<L>(in + i), y = load<L>(in + in_step + i), z = load<L>(in + 2 * in_step + i);
    for (int row = 0; row < 3; ++row)
      store<L>(out + row * out_step + i, b[row] + m[row][0] * x + m[row][1] * y + m[row][2] * z);
  });
}

template <class A, class In, class Out>
void apply_any(const Affine<A>& f, const In* in, int64_t in_step, Out* out, int64_t out_step, int64_t width) {
  for (int64_t row = 0; row < f.rows; ++row)
    for_lanes<kLanes<In>>(width, [&]<int L>(int64_t i) __attribute__((always_inline)) {
      lanes_t<A, L> sum = lanes_t<A, L>{} + (f.offset ? f.offset[row] : A(0));
      for (int64_t column = 0; column < f.columns; ++column)
        sum += f.matrix[row * f.row_step + column * f.column_step] * load<L>(in + column * in_step + i);
      store<L>(out + row * out_step + i, sum);
    });
}

// out[row][i] = sum over columns of matrix[row][column] * in[column][i], + offset[row]; i < width.
template <class A, class In, class Out>
void apply(const Affine<A>& f, const In* in, int64_t in_step, Out* out, int64_t out_step, int64_t width) {
  if (!f.matrix) apply_identity(f, in, in_step, out, out_step, width);
  else if (f.rows == 3 && f.columns == 3) apply_3(f, in, in_step, out, out_step, width);
  else apply_any(f, in, in_step, out, out_step, width);
}

template <class Out> void clear(Out* out, int64_t rows, int64_t out_step, int64_t width) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < width; ++i) out[row * out_step + i] = narrow<Out>(acc_t<Out>(0));
}

// Which frames and joints of x one clip of the output takes.
struct Picks {
  const int64_t* frames;
  const int64_t* joints;
  bool in_order;  // joint v of the output is joint v of x
  bool absent;    // some joint of the output is -1
  Picks(const SkeletonView& a, int64_t clip)
      : frames(a.frames ? a.frames + clip * a.frames_step : nullptr),
        joints(a.joints ? a.joints + clip * a.joints_step : nullptr),
        in_order(a.V_out == a.V),
        absent(false) {
    if (!joints) return;
    for (int64_t v = 0; v < a.V_out; ++v) {
      in_order &= joints[v] == v;
      absent |= joints[v] < 0;
    }
  }
  ASMA_INLINE int64_t frame(int64_t t) const { return frames ? frames[t] : t; }
  ASMA_INLINE int64_t joint(int64_t v) const { return joints ? joints[v] : v; }
  // How many frames of the output from t on are consecutive frames of x.
  int64_t run(const SkeletonView& a, int64_t t) const {
    if (!frames) return a.T_out - t;
    int64_t end = t + 1;
    while (end < a.T_out && frames[end] == frames[end - 1] + 1) ++end;
    return end - t;
  }
  // Joints without a source become zeros in `count` frames.
  template <class Out>
  void clear_absent(const SkeletonView& a, Out* out, int64_t rows, int64_t out_step, int64_t count) const {
    if (!absent) return;
    for (int64_t t = 0; t < count; ++t)
      for (int64_t v = 0; v < a.V_out; ++v)
        if (joints[v] < 0) clear(out + (t * a.V_out + v) * a.M, rows, out_step, a.M);
  }
};

// The joints and persons of a frame of x lie in memory as in the output.
ASMA_INLINE bool rows_contiguous(const SkeletonView& a) { return (a.sm == 1 || a.M == 1) && (a.sv == a.M || a.V == 1); }

// rows (C, row_step): coordinates of the picked joints of one frame. With the sizes of C and M known the loops are
// unrolled, and adjacent persons are copied at once.
template <int Coordinates, int Persons, bool Adjacent, class T>
void gather(const SkeletonView& a, const int64_t* places, const T* frame, T* rows, int64_t row_step) {
  const int64_t C = Coordinates ? Coordinates : a.C, M = Persons ? Persons : a.M, sc = a.sc, sm = a.sm;
  for (int64_t v = 0; v < a.V_out; ++v) {
    const T* from = frame + places[v];
    T* to = rows + v * M;
    for (int64_t c = 0; c < C; ++c) {
      if (Adjacent) __builtin_memcpy(to + c * row_step, from + c * sc, static_cast<size_t>(M) * sizeof(T));
      else
        for (int64_t m = 0; m < M; ++m) to[c * row_step + m] = from[c * sc + m * sm];
    }
  }
}

template <class T>
void gather_frame(const SkeletonView& a, const int64_t* places, const T* frame, T* rows, int64_t row_step) {
  if (a.C == 3 && a.M == 1) gather<3, 1, true>(a, places, frame, rows, row_step);
  else if (a.C == 3 && a.M == 2 && a.sm == 1) gather<3, 2, true>(a, places, frame, rows, row_step);
  else if (a.C == 3 && a.M == 2) gather<3, 2, false>(a, places, frame, rows, row_step);
  else gather<0, 0, false>(a, places, frame, rows, row_step);
}

// Calls source(rows, row_step, t, count) for blocks of output frames [t, t + count) whose coordinates of x are in the
// C rows, and gap(t) for output frames without a source. rows is x itself where no number changes its place.
template <class T> struct Blocks {
  const SkeletonView& a;
  int64_t frames;  // of a gathered block
  Scratch<T> gathered;
  Scratch<int64_t> places;
  explicit Blocks(const SkeletonView& a)
      : a(a), frames(frames_of(a)), gathered(a.C * frames * a.V_out * a.M), places(a.V_out) {}
  static int64_t frames_of(const SkeletonView& a) {
    const int64_t numbers = a.C * a.V_out * a.M;
    return numbers > 0 && numbers < kGathered ? kGathered / numbers : 1;
  }

  template <class Source, class Gap>
  ASMA_INLINE void visit(const Picks& picks, const T* x, const Source& source, const Gap& gap) {
    const int64_t width = a.V_out * a.M;
    const bool in_place = picks.in_order && rows_contiguous(a);
    // Without joints every pick is -1, and there is nothing to read.
    const bool empty = a.V == 0;
    // Absent joints read joint 0; who takes the rows clears them.
    for (int64_t v = 0; v < a.V_out; ++v) places[v] = picks.joint(v) < 0 ? 0 : picks.joint(v) * a.sv;
    for (int64_t t = 0; t < a.T_out;) {
      if (empty || picks.frame(t) < 0) {
        gap(t++);
        continue;
      }
      int64_t count = 1;
      if (in_place) {
        if (a.st == width) count = picks.run(a, t);
        source(x + picks.frame(t) * a.st, a.sc, t, count);
      } else {
        while (count < frames && t + count < a.T_out && picks.frame(t + count) >= 0) ++count;
        for (int64_t i = 0; i < count; ++i) {
          const T* frame = x + picks.frame(t + i) * a.st;
          gather_frame(a, places.data, frame, gathered.data + i * width, count * width);
        }
        source(gathered.data, count * width, t, count);
      }
      t += count;
    }
  }
};

// Every frame of x sums the output frames that were taken from it, in their order: no two threads add to one number.
template <class T> struct Backward {
  using A = acc_t<T>;
  const SkeletonView& a;
  Scratch<int64_t> first, next;  // of the output frames taken from frame f: first[f], then next[first[f]], ..., -1
  Scratch<A> taken, sums;        // one frame: coordinates of the output's joints, and of x's joints
  explicit Backward(const SkeletonView& a)
      : a(a), first(a.T), next(a.T_out), taken(a.C * a.V_out * a.M), sums(a.C * a.V * a.M) {}

  void list_frames(const Picks& picks) {
    for (int64_t f = 0; f < a.T; ++f) first[f] = -1;
    for (int64_t t = a.T_out - 1; t >= 0; --t) {
      const int64_t f = picks.frame(t);
      if (f < 0) continue;
      next[t] = first[f];
      first[f] = t;
    }
  }
  ASMA_INLINE bool once(int64_t f) { return first[f] >= 0 && next[first[f]] < 0; }

  void clip(const Affine<A>& transposed, const Picks& picks, const T* grad, T* grad_x) {
    const int64_t width = a.V * a.M, width_out = a.V_out * a.M;
    const int64_t step = a.T * width, step_out = a.T_out * width_out;
    list_frames(picks);
    for (int64_t f = 0; f < a.T;) {
      int64_t count = 1;
      if (first[f] < 0) {
        clear(grad_x + f * width, a.C, step, width);
      } else if (picks.in_order && once(f)) {
        while (f + count < a.T && once(f + count) && first[f + count] == first[f] + count) ++count;
        apply(transposed, grad + first[f] * width, step_out, grad_x + f * width, step, count * width);
      } else {
        for (int64_t i = 0; i < a.C * width; ++i) sums[i] = A(0);
        for (int64_t t = first[f]; t >= 0; t = next[t]) {
          apply(transposed, grad + t * width_out, step_out, taken.data, width_out, width_out);
          add_joints(picks);
        }
        for (int64_t c = 0; c < a.C; ++c) copy(sums.data + c * width, grad_x + c * step + f * width, width);
      }
      f += count;
    }
  }

  void add_joints(const Picks& picks) {
    if (picks.in_order) {
      for (int64_t i = 0; i < a.C * a.V * a.M; ++i) sums[i] += taken[i];
      return;
    }
    if (a.M == 1) scatter<1>(picks);
    else if (a.M == 2) scatter<2>(picks);
    else scatter<0>(picks);
  }
  template <int Persons> void scatter(const Picks& picks) {
    const int64_t M = Persons ? Persons : a.M, V_out = a.V_out;
    for (int64_t c = 0; c < a.C; ++c) {
      const A* __restrict__ from = taken.data + c * V_out * M;
      A* __restrict__ to = sums.data + c * a.V * M;
      for (int64_t v = 0; v < V_out; ++v) {
        const int64_t joint = picks.joint(v);
        if (joint < 0) continue;
        for (int64_t m = 0; m < M; ++m) to[joint * M + m] += from[v * M + m];
      }
    }
  }
};

// Sum of left[i] * right[i], or of left[i] alone, in a fixed order.
template <bool Alone, class T> double sum_of(const T* left, const T* right, int64_t count) {
  constexpr int L = kLanes<T>;
  double total = 0;
  int64_t i = 0;
  while (i + L <= count) {
    lanes_t<acc_t<T>, L> sums{};
    const int64_t end = count - i < kSummed ? count : i + kSummed;
    for (; i + L <= end; i += L) sums += Alone ? load<L>(left + i) : load<L>(left + i) * load<L>(right + i);
    for (int lane = 0; lane < L; ++lane) total += static_cast<double>(sums[lane]);
  }
  for (; i < count; ++i) total += static_cast<double>(Alone ? widen(left[i]) : widen(left[i]) * widen(right[i]));
  return total;
}

// sums (C_out, C + 1) += grad rows times source rows, and the grad rows themselves.
template <class T>
void add_products(const SkeletonView& a, const T* grad, int64_t grad_step, const T* rows, int64_t row_step,
                  int64_t width, double* sums) {
  for (int64_t out = 0; out < a.C_out; ++out) {
    const T* g = grad + out * grad_step;
    double* to = sums + out * (a.C + 1);
    for (int64_t c = 0; c < a.C; ++c) to[c] += sum_of<false>(g, rows + c * row_step, width);
    to[a.C] += sum_of<true>(g, g, width);
  }
}

}  // namespace

int64_t first_outside(const int64_t* indices, int64_t count, int64_t size) {
  uint64_t outside = 0;
  for (int64_t i = 0; i < count; ++i)
    outside |= static_cast<uint64_t>(indices[i]) + 1 > static_cast<uint64_t>(size) ? 1 : 0;
  if (!outside) return count;
  int64_t place = 0;
  while (indices[place] >= -1 && indices[place] < size) ++place;
  return place;
}

template <class T>
void skeleton_view(const SkeletonView& a, const acc_t<T>* matrix, const acc_t<T>* offset, const T* x, T* out,
                   int64_t begin, int64_t end) {
  const int64_t width = a.V_out * a.M, step = a.T_out * width;
  Blocks<T> blocks(a);
  for (int64_t clip = begin; clip < end; ++clip) {
    const Affine<acc_t<T>> f{matrix ? matrix + clip * a.matrix_step : nullptr, a.C_out, a.C, a.C, 1,
                             offset ? offset + clip * a.offset_step : nullptr};
    const Picks picks(a, clip);
    T* to = out + clip * a.C_out * step;
    blocks.visit(
        picks, x + clip * a.sn,
        [&](const T* rows, int64_t row_step, int64_t t, int64_t count) {
          apply(f, rows, row_step, to + t * width, step, count * width);
          picks.clear_absent(a, to + t * width, a.C_out, step, count);
        },
        [&](int64_t t) { clear(to + t * width, a.C_out, step, width); });
  }
}

template <class T>
void skeleton_view_backward(const SkeletonView& a, const acc_t<T>* matrix, const T* grad, T* grad_x, int64_t begin,
                            int64_t end) {
  Backward<T> backward(a);
  for (int64_t clip = begin; clip < end; ++clip) {
    const Affine<acc_t<T>> transposed{matrix ? matrix + clip * a.matrix_step : nullptr, a.C, a.C_out, 1, a.C, nullptr};
    backward.clip(transposed, Picks(a, clip), grad + clip * a.C_out * a.T_out * a.V_out * a.M,
                  grad_x + clip * a.C * a.T * a.V * a.M);
  }
}

template <class T>
void skeleton_view_backward_matrix(const SkeletonView& a, const T* grad, const T* x, double* sums, int64_t begin,
                                   int64_t end) {
  const int64_t width = a.V_out * a.M, step = a.T_out * width;
  Blocks<T> blocks(a);
  Scratch<T> present(a.C_out * blocks.frames * width);  // gradients of one block, 0 where the joint is absent
  for (int64_t clip = begin; clip < end; ++clip) {
    const Picks picks(a, clip);
    const T* g = grad + clip * a.C_out * step;
    double* to = sums + clip * a.C_out * (a.C + 1);
    for (int64_t i = 0; i < a.C_out * (a.C + 1); ++i) to[i] = 0;
    blocks.visit(
        picks, x + clip * a.sn,
        [&](const T* rows, int64_t row_step, int64_t t, int64_t count) {
          if (!picks.absent) return add_products(a, g + t * width, step, rows, row_step, count * width, to);
          for (int64_t row = 0; row < a.C_out; ++row)
            copy(g + row * step + t * width, present.data + row * count * width, count * width);
          picks.clear_absent(a, present.data, a.C_out, count * width, count);
          add_products(a, present.data, count * width, rows, row_step, count * width, to);
        },
        [](int64_t) {});
  }
}

#define INSTANTIATE(T)                                                                                           \
  template void skeleton_view<T>(const SkeletonView&, const acc_t<T>*, const acc_t<T>*, const T*, T*, int64_t,   \
                                 int64_t);                                                                       \
  template void skeleton_view_backward<T>(const SkeletonView&, const acc_t<T>*, const T*, T*, int64_t, int64_t); \
  template void skeleton_view_backward_matrix<T>(const SkeletonView&, const T*, const T*, double*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
