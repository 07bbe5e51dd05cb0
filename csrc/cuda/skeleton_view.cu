// Bytes: forward and the gradient in x read and write what was picked once; the gradients in matrix and offset read x
// and grad once. Flops: 2 C C_out a place of the output for each.
#include "../common/skeleton_view.h"

#include "launch.h"

namespace asma::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kFrames = 4;                        // of three coordinates that a thread has under way together
constexpr int kSums = 12;                         // numbers of a 3x3 matrix and its offset
constexpr int kTile = 64;                         // most frames of x that a block lists the places of
constexpr int kFrameWords = 32, kJointWords = 8;  // each of 32 places of the output, that are listed at a time
constexpr int64_t kClips = 1024, kTiles = 4096;   // most blocks along the two axes of a grid
template <class T> constexpr int kBlocks = sizeof(T) == 8 ? 2 : 3;  // of a multiprocessor: what registers suffice for

// The threads of a block lie as the numbers do in memory: `columns` joints of persons in each of `rows` frames. A
// thread keeps its column and goes from frame to frame, so that it looks up its joint once. A few threads may be left
// over.
struct Layout {
  int columns, rows;
  Layout(int64_t width, int64_t frames, int64_t most_rows) {
    const int64_t passes = width > kThreads ? (width + kThreads - 1) / kThreads : 1;
    columns = width > 0 ? static_cast<int>((width + passes - 1) / passes) : 1;
    rows = static_cast<int>(blocks(frames, 1, kThreads / columns < most_rows ? kThreads / columns : most_rows));
  }
  dim3 block() const { return dim3((columns * rows + kWarp - 1) / kWarp * kWarp); }
};

// One of `size`, or absent: what is outside counts as -1.
__device__ inline int64_t inside(int64_t index, int64_t size) { return index >= 0 && index < size ? index : -1; }

// Where one column of the output, a joint of a person, comes from.
template <class T> struct Source {
  const T* x;
  const int64_t* frames;
  int64_t start;
  bool present;
  __device__ Source(const SkeletonView& a, const T* x, int64_t clip, int64_t column)
      : x(x), frames(a.frames ? a.frames + clip * a.frames_step : nullptr) {
    const int64_t v = column / a.M, joint = inside(a.joints ? a.joints[clip * a.joints_step + v] : v, a.V);
    start = clip * a.sn + joint * a.sv + (column - v * a.M) * a.sm;
    present = joint >= 0;
  }
  // The place of coordinate 0 in the frame that frame t of the output takes, or null.
  __device__ const T* at(const SkeletonView& a, int64_t t) const {
    if (!present || t >= a.T_out) return nullptr;
    const int64_t frame = inside(frames ? frames[t] : t, a.T);
    return frame >= 0 ? x + (start + frame * a.st) : nullptr;
  }
};

// The map of three coordinates to three, in registers.
template <class A> struct Affine {
  A m[3][3], b[3];
  __device__ Affine(const A* matrix, const A* offset) {
    for (int row = 0; row < 3; ++row) {
      b[row] = offset ? offset[row] : A(0);
      for (int column = 0; column < 3; ++column) m[row][column] = matrix ? matrix[row * 3 + column] : A(row == column);
    }
  }
};

template <int Coordinates, class T>
__global__ void __launch_bounds__(kThreads, kBlocks<T>)
    skeleton_view_kernel(SkeletonView a, Layout layout, const acc_t<T>* __restrict__ matrix,
                         const acc_t<T>* __restrict__ offset, const T* __restrict__ x, T* __restrict__ out) {
  using A = acc_t<T>;
  constexpr int kTogether = Coordinates ? kFrames : 1;
  const T zero = narrow<T>(A(0));
  const int row = static_cast<int>(threadIdx.x) / layout.columns;
  const int column = static_cast<int>(threadIdx.x) - row * layout.columns;
  if (row >= layout.rows) return;
  const int64_t width = a.V_out * a.M, step = a.T_out * width, t_step = static_cast<int64_t>(gridDim.y) * layout.rows;
  for (int64_t clip = blockIdx.x; clip < a.N; clip += gridDim.x) {
    const A* rows = matrix ? matrix + clip * a.matrix_step : nullptr;
    const A* added = offset ? offset + clip * a.offset_step : nullptr;
    for (int64_t i = column; i < width; i += layout.columns) {
      const Source<T> source(a, x, clip, i);
      T* to = out + clip * a.C_out * step + i;
      for (int64_t t = static_cast<int64_t>(blockIdx.y) * layout.rows + row; t < a.T_out; t += kTogether * t_step) {
        const T* from[kTogether];
        for (int k = 0; k < kTogether; ++k) from[k] = source.at(a, t + k * t_step);
        if constexpr (Coordinates == 3) {
          const Affine<A> map(rows, added);
          T in[kFrames][3];
          for (int k = 0; k < kFrames; ++k)
            for (int c = 0; c < 3; ++c) in[k][c] = from[k] ? from[k][c * a.sc] : zero;
          for (int k = 0; k < kFrames; ++k)
            for (int c = 0; t + k * t_step < a.T_out && c < 3; ++c) {
              T value = in[k][c];
              if (matrix)
                value = narrow<T>(map.b[c] + map.m[c][0] * widen(in[k][0]) + map.m[c][1] * widen(in[k][1]) +
                                  map.m[c][2] * widen(in[k][2]));
              else if (offset) value = narrow<T>(widen(value) + map.b[c]);
              to[c * step + (t + k * t_step) * width] = from[k] ? value : zero;
            }
        } else {
          for (int64_t r = 0; r < a.C_out; ++r) {
            T value = zero;
            if (from[0] && matrix) {
              A sum = offset ? added[r] : A(0);
              for (int64_t c = 0; c < a.C; ++c) sum += rows[r * a.C + c] * widen(from[0][c * a.sc]);
              value = narrow<T>(sum);
            } else if (from[0]) {
              value = from[0][r * a.sc];
              if (offset) value = narrow<T>(widen(value) + added[r]);
            }
            to[r * step + t * width] = value;
          }
        }
      }
    }
  }
}

// bits[word][place]: which of `Words` times 32 indices from `first` on are wanted + place. A warp for each place.
template <int Words, int Places>
__device__ void list(const int64_t* indices, int64_t first, int64_t count, int64_t wanted, int places,
                     unsigned (&bits)[Words][Places]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
  for (int place = static_cast<int>(threadIdx.x) / kWarp; place < places; place += warps)
    for (int word = 0; word < Words && first + word * kWarp < count; ++word) {
      const int64_t at = first + word * kWarp + lane;
      const unsigned found = __ballot_sync(kAll, at < count && (indices ? indices[at] : at) == wanted + place);
      if (lane == 0) bits[word][place] = found;
    }
}

// Calls body(index) for what is listed of a place, in order.
template <int Words, int Places, class Body>
__device__ void visit(const unsigned (&bits)[Words][Places], int place, int64_t first, int64_t count,
                      const Body& body) {
  for (int word = 0; word < Words && first + word * kWarp < count; ++word)
    for (unsigned left = bits[word][place]; left != 0; left &= left - 1)
      body(first + word * kWarp + __ffs(static_cast<int>(left)) - 1);
}

// Every number of x sums the places of the output that took it, in their order. They are listed in shared memory, for
// the frames and joints of this block, and of so many frames and joints of the output at a time as there is room for.
template <int Coordinates, class T>
__global__ void __launch_bounds__(kThreads, kBlocks<T>)
    skeleton_view_backward_kernel(SkeletonView a, Layout layout, const acc_t<T>* __restrict__ matrix,
                                  const T* __restrict__ grad, T* __restrict__ grad_x) {
  using A = acc_t<T>;
  constexpr int kTogether = Coordinates ? Coordinates : 1;
  constexpr int64_t kListedFrames = kFrameWords * kWarp, kListedJoints = kJointWords * kWarp;
  __shared__ unsigned frame_bits[kFrameWords][kTile], joint_bits[kJointWords][kThreads];
  const int row = static_cast<int>(threadIdx.x) / layout.columns;
  const int column = static_cast<int>(threadIdx.x) - row * layout.columns;
  const int tile = kFrames * layout.rows;
  const int64_t width = a.V * a.M, step = a.T * width, grad_step = a.T_out * a.V_out * a.M;
  const bool at_once = a.T_out <= kListedFrames && a.V_out <= kListedJoints;
  for (int64_t clip = blockIdx.x; clip < a.N; clip += gridDim.x) {
    const int64_t* frames = a.frames ? a.frames + clip * a.frames_step : nullptr;
    const int64_t* joints = a.joints ? a.joints + clip * a.joints_step : nullptr;
    const A* rows = matrix ? matrix + clip * a.matrix_step : nullptr;
    for (int64_t first = static_cast<int64_t>(blockIdx.y) * tile; first < a.T; first += int64_t{gridDim.y} * tile)
      for (int64_t i0 = 0; i0 < width; i0 += layout.columns) {
        const int64_t i = i0 + column, v = i / a.M, v0 = i0 / a.M;
        const int64_t end = i0 + layout.columns < width ? i0 + layout.columns : width;
        const int joint = static_cast<int>(v - v0), joint_count = static_cast<int>((end - 1) / a.M - v0) + 1;
        const int64_t person = clip * a.C_out * grad_step + (i - v * a.M);
        bool listed = false;
        for (int place = row; place - row < tile; place += layout.rows) {
          const bool mine = row < layout.rows && first + place < a.T && i < width;
          for (int64_t c = 0; c < a.C; c += kTogether) {
            A sums[kTogether] = {};
            for (int64_t t0 = 0; t0 < a.T_out; t0 += kListedFrames)
              for (int64_t w0 = 0; w0 < a.V_out; w0 += kListedJoints) {
                if (!listed) {
                  __syncthreads();  // before lists are written over that others still read
                  list(frames, t0, a.T_out, first, tile, frame_bits);
                  list(joints, w0, a.V_out, v0, joint_count, joint_bits);
                  __syncthreads();
                  listed = at_once;
                }
                if (!mine) continue;
                visit(frame_bits, place, t0, a.T_out, [&](int64_t t) {
                  visit(joint_bits, joint, w0, a.V_out, [&](int64_t w) {
                    const T* from = grad + (person + (t * a.V_out + w) * a.M);
                    if constexpr (Coordinates == 3) {
                      for (int r = 0; r < 3; ++r) sums[r] += widen(from[r * grad_step]);
                    } else if (matrix) {
                      for (int64_t r = 0; r < a.C_out; ++r) sums[0] += rows[r * a.C + c] * widen(from[r * grad_step]);
                    } else {
                      sums[0] += widen(from[c * grad_step]);
                    }
                  });
                });
              }
            if (!mine) continue;
            T* to = grad_x + (clip * a.C + c) * step + (first + place) * width + i;
            if constexpr (Coordinates == 3) {
              for (int l = 0; l < 3; ++l)
                to[l * step] =
                    narrow<T>(matrix ? rows[l] * sums[0] + rows[3 + l] * sums[1] + rows[6 + l] * sums[2] : sums[l]);
            } else {
              *to = narrow<T>(sums[0]);
            }
          }
        }
      }
  }
}

// sums[clip][piece][row][column]: the products of row `row` of grad and coordinate `column` of what was picked, or, in
// the last column, grad itself. A block for each piece of a clip: every gridDim.y-th frame.
template <int Coordinates, class T>
__global__ void __launch_bounds__(kThreads, kBlocks<T>)
    skeleton_view_backward_matrix_kernel(SkeletonView a, Layout layout, const T* __restrict__ grad,
                                         const T* __restrict__ x, double* __restrict__ sums) {
  using A = acc_t<T>;
  constexpr int kTogether = Coordinates ? kFrames : 1, kOwn = Coordinates ? kSums : 1;
  __shared__ double partial[kThreads / kWarp][kOwn];
  const T zero = narrow<T>(A(0));
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
  const int row = thread / layout.columns, column = thread - row * layout.columns;
  const int64_t width = a.V_out * a.M, step = a.T_out * width, t_step = static_cast<int64_t>(gridDim.y) * layout.rows;
  const int64_t numbers = a.C_out * (a.C + 1);
  for (int64_t clip = blockIdx.x; clip < a.N; clip += gridDim.x)
    for (int64_t number = 0; number < numbers; number += kOwn) {
      const int64_t r = number / (a.C + 1), c = number - r * (a.C + 1);
      A own[kOwn] = {};
      for (int64_t i = row < layout.rows ? column : width; i < width; i += layout.columns) {
        const Source<T> source(a, x, clip, i);
        const int64_t start = clip * a.C_out * step + i;
        for (int64_t t = static_cast<int64_t>(blockIdx.y) * layout.rows + row; t < a.T_out; t += kTogether * t_step) {
          const T* from[kTogether];
          for (int k = 0; k < kTogether; ++k) from[k] = source.at(a, t + k * t_step);
          if constexpr (Coordinates == 3) {
            T in[kFrames][3], out[kFrames][3];
            for (int k = 0; k < kFrames; ++k)
              for (int j = 0; j < 3; ++j) {
                in[k][j] = from[k] ? from[k][j * a.sc] : zero;
                out[k][j] = from[k] ? grad[start + j * step + (t + k * t_step) * width] : zero;
              }
            for (int k = 0; k < kFrames; ++k)
              for (int j = 0; j < 3; ++j) {
                for (int l = 0; l < 3; ++l) own[4 * j + l] += widen(out[k][j]) * widen(in[k][l]);
                own[4 * j + 3] += widen(out[k][j]);
              }
          } else if (from[0]) {
            own[0] += widen(grad[start + r * step + t * width]) * (c < a.C ? widen(from[0][c * a.sc]) : A(1));
          }
        }
      }
      for (int k = 0; k < kOwn; ++k) {
        own[k] = warp_sum(own[k]);
        if (lane == 0) partial[thread / kWarp][k] = static_cast<double>(own[k]);
      }
      __syncthreads();
      if (thread < kOwn) {
        double sum = 0;
        for (int warp = 0; warp < warps; ++warp) sum += partial[warp][thread];
        sums[(clip * gridDim.y + blockIdx.y) * numbers + number + thread] = sum;
      }
      __syncthreads();  // before the next numbers are written over these
    }
}

// A block for each number of the two gradients adds up its pieces, over all clips where they share it.
template <class A>
__global__ void __launch_bounds__(kThreads)
    skeleton_view_backward_sum_kernel(SkeletonView a, int64_t pieces, const double* __restrict__ sums,
                                      bool matrix_shared, bool offset_shared, A* __restrict__ grad_matrix,
                                      A* __restrict__ grad_offset) {
  __shared__ double partial[kThreads / kWarp];
  const int thread = static_cast<int>(threadIdx.x), warps = static_cast<int>(blockDim.x) / kWarp;
  const int64_t in_matrix = (matrix_shared ? 1 : a.N) * a.C_out * a.C, in_offset = (offset_shared ? 1 : a.N) * a.C_out;
  const int64_t numbers = a.C_out * (a.C + 1);
  for (int64_t i = blockIdx.x; i < in_matrix + in_offset; i += gridDim.x) {
    const bool of_matrix = i < in_matrix, shared = of_matrix ? matrix_shared : offset_shared;
    const int64_t place = of_matrix ? i : i - in_matrix, columns = of_matrix ? a.C : 1;
    const int64_t clip = shared ? 0 : place / (a.C_out * columns), r = place / columns % a.C_out;
    const int64_t count = (shared ? a.N : 1) * pieces;
    const int64_t from = clip * pieces * numbers + r * (a.C + 1) + (of_matrix ? place % columns : a.C);
    double sum = 0;
    for (int64_t piece = thread; piece < count; piece += blockDim.x) sum += sums[from + piece * numbers];
    sum = warp_sum(sum);
    if (thread % kWarp == 0) partial[thread / kWarp] = sum;
    __syncthreads();
    if (thread == 0) {
      for (int warp = 1; warp < warps; ++warp) sum += partial[warp];
      (of_matrix ? grad_matrix : grad_offset)[place] = static_cast<A>(sum);
    }
    __syncthreads();  // before the next number is written over this one
  }
}

Layout output_layout(const SkeletonView& a) { return Layout(a.V_out * a.M, a.T_out, kThreads); }

bool three(const SkeletonView& a) { return a.C == 3 && a.C_out == 3; }

}  // namespace

int skeleton_view(Dtype dtype, const SkeletonView& a, const void* matrix, const void* offset, const void* x, void* out,
                  void* stream) {
  if (a.N * a.C_out * a.T_out * a.V_out * a.M == 0) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    const auto *m = static_cast<const acc_t<T>*>(matrix), *b = static_cast<const acc_t<T>*>(offset);
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(out);
    const Layout layout = output_layout(a);
    const dim3 grid(blocks(a.N, 1, kClips), blocks(a.T_out, kFrames * layout.rows, kTiles));
    return three(a)
               ? ASMA_LAUNCH((skeleton_view_kernel<3, T>), grid, layout.block(), stream, a, layout, m, b, from, to)
               : ASMA_LAUNCH((skeleton_view_kernel<0, T>), grid, layout.block(), stream, a, layout, m, b, from, to);
  });
}

int skeleton_view_backward(Dtype dtype, const SkeletonView& a, const void* matrix, const void* grad, void* grad_x,
                           void* stream) {
  if (a.N * a.C * a.T * a.V * a.M == 0) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    const auto* m = static_cast<const acc_t<T>*>(matrix);
    const T* g = static_cast<const T*>(grad);
    T* to = static_cast<T*>(grad_x);
    const Layout layout(a.V * a.M, a.T, kTile / kFrames);
    const dim3 grid(blocks(a.N, 1, kClips), blocks(a.T, kFrames * layout.rows, kTiles));
    return three(a)
               ? ASMA_LAUNCH((skeleton_view_backward_kernel<3, T>), grid, layout.block(), stream, a, layout, m, g, to)
               : ASMA_LAUNCH((skeleton_view_backward_kernel<0, T>), grid, layout.block(), stream, a, layout, m, g, to);
  });
}

// Of about eight frames a thread: enough blocks, and few sums beside the products.
int64_t skeleton_view_pieces(const SkeletonView& a) {
  return blocks(a.T_out, 2 * kFrames * output_layout(a).rows, kTiles);
}

int skeleton_view_backward_matrix(Dtype dtype, const SkeletonView& a, const void* grad, const void* x, double* sums,
                                  bool matrix_shared, bool offset_shared, void* grad_matrix, void* grad_offset,
                                  void* stream) {
  if (a.C_out == 0) return 0;
  return visit_float(dtype, [&](auto type) -> int {
    using T = decltype(type);
    const T *g = static_cast<const T*>(grad), *from = static_cast<const T*>(x);
    const Layout layout = output_layout(a);
    const int64_t pieces = skeleton_view_pieces(a);
    const dim3 grid(blocks(a.N, 1, kClips), static_cast<unsigned>(pieces));
    const int error = three(a) ? ASMA_LAUNCH((skeleton_view_backward_matrix_kernel<3, T>), grid, layout.block(), stream,
                                             a, layout, g, from, sums)
                               : ASMA_LAUNCH((skeleton_view_backward_matrix_kernel<0, T>), grid, layout.block(), stream,
                                             a, layout, g, from, sums);
    if (error != 0) return error;
    const int64_t gradients = (matrix_shared ? 1 : a.N) * a.C_out * a.C + (offset_shared ? 1 : a.N) * a.C_out;
    const dim3 block((matrix_shared || offset_shared) && a.N > 1 ? kThreads : kWarp);
    return ASMA_LAUNCH((skeleton_view_backward_sum_kernel<acc_t<T>>), dim3(blocks(gradients, 1, kTiles)), block, stream,
                       a, pieces, sums, matrix_shared, offset_shared, static_cast<acc_t<T>*>(grad_matrix),
                       static_cast<acc_t<T>*>(grad_offset));
  });
}

}  // namespace asma::cuda
