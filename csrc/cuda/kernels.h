// What the CUDA kernels offer to their bindings, on one page: raw device pointers and a stream, so that neither side
// needs the other's headers. Each returns a cudaError_t; 0 is success. Shapes are checked by the bindings.
#pragma once
#include <cstdint>

#include "../common/frame_drop.h"
#include "../common/frame_mask.h"
#include "../common/graph_conv.h"
#include "../common/joint_mask.h"
#include "../common/motion_energy.h"
#include "../common/skeleton_view.h"
#include "../common/token_mask.h"
#include "../common/view_draw.h"

namespace asma::cuda {

enum class Dtype { float64, float32, bfloat16, float16 };

const char* error_string(int error);

// rng: int64 [seed, call], `step` elements apart. words: contiguous (rows, columns).
int philox(const int64_t* rng, int64_t step, int64_t* words, int64_t rows, int64_t columns, void* stream);

// energy: contiguous (N, T), (N, V) or (N, T, V), of x's dtype.
int motion_energy(Dtype dtype, const MotionEnergy& a, const void* x, void* energy, void* stream);
// grad: contiguous, of energy's shape; grad_x: contiguous (N, C, T, V, M).
int motion_energy_backward(Dtype dtype, const MotionEnergy& a, const void* grad, const void* x, void* grad_x,
                           void* stream);

// matrix: (C_out, C) or (N, C_out, C), or null: identity. offset: (C_out) or (N, C_out), or null. An index outside its
// range counts as -1. out: contiguous (N, C_out, T_out, V_out, M).
int skeleton_view(Dtype dtype, const SkeletonView& a, const void* matrix, const void* offset, const void* x, void* out,
                  void* stream);
// grad: contiguous, of out's shape; grad_x: contiguous (N, C, T, V, M). The strides of `a` are not used.
int skeleton_view_backward(Dtype dtype, const SkeletonView& a, const void* matrix, const void* grad, void* grad_x,
                           void* stream);
// Pieces of a clip that are summed by themselves.
int64_t skeleton_view_pieces(const SkeletonView& a);
// sums: room for (N, pieces, C_out, C + 1). grad_matrix: (C_out, C) where it is shared, else (N, C_out, C);
// grad_offset: (C_out) or (N, C_out). Both contiguous, of matrix's dtype.
int skeleton_view_backward_matrix(Dtype dtype, const SkeletonView& a, const void* grad, const void* x, double* sums,
                                  bool matrix_shared, bool offset_shared, void* grad_matrix, void* grad_offset,
                                  void* stream);

// A small tensor of up to three axes, of a dtype of its own.
struct Parameter {
  const void* data;
  Dtype dtype;
  int64_t step[3];
};
// values (E) or (K, V, W); weight (K, C, D); bias (K * D), (D) with post, or null.
struct GraphConvParameters {
  Parameter values, weight, bias;
};
// Contiguous, of the dtypes and layouts of x and the user's parameters; null where not wanted.
struct GraphConvGradients {
  void *x, *values, *weight, *bias;
};
// Room that a call needs, and the room itself; numbers are float64 for float64 x, else float32.
struct GraphConvRoom {
  int64_t ints, numbers;
};
struct GraphConvScratch {
  int32_t* ints;
  void* numbers;
};
GraphConvRoom graph_conv_room(const GraphConv& a);
GraphConvRoom graph_conv_backward_room(Dtype dtype, const GraphConv& a, const GraphConvGradients& wanted);
// out: contiguous (N, D, T, Q). An edge or a kept joint outside the graph feeds nothing.
int graph_conv(Dtype dtype, const GraphConv& a, const GraphConvParameters& given, const void* x,
               const GraphConvScratch& scratch, void* out, void* stream);
int graph_conv_backward(Dtype dtype, const GraphConv& a, const GraphConvParameters& given, const void* grad,
                        const void* x, const GraphConvScratch& scratch, const GraphConvGradients& gradients,
                        void* stream);

// rng: int64 [seed, call], `step` elements apart. frames: contiguous (N, T), joints: (N, V), matrix: (N, 3, 3).
int view_draw(const ViewDraw& a, const int64_t* rng, int64_t step, int64_t* frames, int64_t* joints, float* matrix,
              int64_t N, void* stream);

// rng: int64 [seed, call], `step` elements apart, or null where nothing is drawn. kept: contiguous (N, T - drop -
// extra).
int frame_mask(Dtype dtype, const FrameMask& a, int64_t N, const int64_t* rng, int64_t step, const void* energy,
               int64_t* kept, void* stream);

// As above. room: for as many numbers of x's dtype as frame_drop_room says. kept: contiguous (N, C, left, V, M);
// frames: contiguous (N, left).
int64_t frame_drop_room(const FrameDrop& a);
int frame_drop(Dtype dtype, const FrameDrop& a, const int64_t* rng, int64_t step, const void* x, void* room, void* kept,
               int64_t* frames, void* stream);

// As above. starts: room for as many numbers as joint_mask_starts says. mask: (rows, V); kept: (rows, width), padded
// with -1; count: (rows); all contiguous. Of more than 2^20 - 1 tokens the last are left out.
int64_t joint_mask_starts(const JointMask& a);
int joint_mask(const JointMask& a, int64_t rows, const int64_t* rng, int64_t step, int32_t* starts, bool* mask,
               int64_t* kept, int64_t* count, void* stream);

// noise: (N, L), or null: drawn. ids_keep: (N, keep), ids_restore: (N, L), mask: (N, L), of score's dtype; contiguous.
int token_mask(Dtype dtype, const TokenMask& a, int64_t N, const int64_t* rng, int64_t step, const void* score,
               const void* noise, int64_t* ids_keep, int64_t* ids_restore, void* mask, void* stream);

}  // namespace asma::cuda
