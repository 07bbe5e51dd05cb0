// Every op's schema on one page. Definitions: docs/ops.md.
#include <torch/csrc/stable/library.h>

#if !defined(ASMA_LIBRARY)  // the tests build the CUDA half a second time, under another name
#define ASMA_LIBRARY asma
#endif

STABLE_TORCH_LIBRARY(ASMA_LIBRARY, m) {
  m.def("isa() -> str");
  m.def("multiplies_bf16() -> bool");

  m.def("philox(Tensor rng, SymInt rows, SymInt columns) -> Tensor");

  m.def("motion_energy(Tensor x, str reduce, float p, int stride, str boundary, Tensor? lengths) -> Tensor");
  m.def(
      "motion_energy_backward(Tensor grad, Tensor x, str reduce, float p, int stride, str boundary, Tensor? lengths)"
      " -> Tensor");

  m.def(
      "joint_mask(Tensor weights, SymInt k, SymInt rows, Tensor? rng, str mode, bool shared)"
      " -> (Tensor, Tensor, Tensor)");
  m.def("frame_mask(Tensor energy, SymInt drop, str which, SymInt extra, Tensor? rng, bool shared) -> Tensor");
  m.def(
      "frame_drop(Tensor x, SymInt drop, str which, SymInt extra, Tensor? rng, bool shared, float p, int stride,"
      " str boundary, Tensor? lengths) -> (Tensor, Tensor)");
  m.def("token_mask(Tensor score, SymInt keep, Tensor? rng, float tau, Tensor? noise) -> (Tensor, Tensor, Tensor)");

  m.def(
      "graph_conv(Tensor x, Tensor values, Tensor? edges, SymInt K, SymInt V, SymInt W, Tensor weight, Tensor? bias, "
      "bool post,"
      " Tensor? joints) -> Tensor");
  m.def(
      "graph_conv_backward(Tensor grad, Tensor x, Tensor values, Tensor? edges, SymInt K, SymInt V, SymInt W, Tensor "
      "weight,"
      " Tensor? bias, bool post, Tensor? joints, bool for_x, bool for_values, bool for_weight, bool for_bias)"
      " -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "graph_conv_dense(Tensor x, Tensor graph, Tensor? weight, Tensor? bias, bool post, bool keep, Tensor? joints,"
      " bool with_hidden) -> (Tensor, Tensor)");
  m.def(
      "graph_conv_dense_backward(Tensor grad, Tensor x, Tensor graph, Tensor? weight, Tensor? bias, Tensor? hidden,"
      " bool post, bool keep, Tensor? joints, bool for_x, bool for_graph, bool for_weight, bool for_bias)"
      " -> (Tensor, Tensor, Tensor, Tensor)");

  m.def(
      "stgcn_block(Tensor x, Tensor values, Tensor? edges, SymInt K, SymInt V, SymInt W, Tensor? joints,"
      " Tensor gcn_weight, Tensor? gcn_bias, Tensor norm1_weight, Tensor norm1_bias, Tensor conv_weight,"
      " Tensor? conv_bias, Tensor norm2_weight, Tensor norm2_bias, Tensor? shortcut_weight, Tensor? shortcut_bias,"
      " Tensor? norm3_weight, Tensor? norm3_bias, str residual, SymInt stride, float dropout, Tensor? rng, float eps)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "stgcn_block_backward(Tensor grad, Tensor out, Tensor statistics, Tensor y1, Tensor y2, Tensor y3, Tensor kept,"
      " Tensor x, Tensor values, Tensor? edges, SymInt K, SymInt V, SymInt W, Tensor? joints, Tensor gcn_weight,"
      " Tensor? gcn_bias, Tensor norm1_weight, Tensor norm1_bias, Tensor conv_weight, Tensor? conv_bias,"
      " Tensor norm2_weight, Tensor norm2_bias, Tensor? shortcut_weight, Tensor? shortcut_bias, Tensor? norm3_weight,"
      " Tensor? norm3_bias, str residual, SymInt stride, float dropout, Tensor? rng, float eps)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,"
      " Tensor)");
  m.def(
      "stgcn_block_folded(Tensor x, Tensor values, Tensor? edges, SymInt K, SymInt V, SymInt W, Tensor? joints,"
      " Tensor gcn_weight, Tensor? gcn_bias, Tensor shift, Tensor conv_weight, Tensor conv_bias,"
      " Tensor? shortcut_weight, Tensor? shortcut_bias, str residual, SymInt stride) -> Tensor");

  m.def("skeleton_view(Tensor x, Tensor? frames, Tensor? joints, Tensor? matrix, Tensor? offset) -> Tensor");
  m.def(
      "skeleton_view_backward(Tensor grad, Tensor? x, SymInt T, SymInt V, Tensor? frames, Tensor? joints,"
      " Tensor? matrix, bool needs_x, bool matrix_shared, bool offset_shared) -> (Tensor, Tensor, Tensor)");
  m.def(
      "view_draw(Tensor rng, SymInt N, SymInt T, SymInt pad, float shear, float main, float other, Tensor? flip,"
      " int flip_below, bool mirror, bool per_clip) -> (Tensor, Tensor, Tensor)");

  m.def("barlow_twins(Tensor z1, Tensor z2, float lambd, float eps) -> (Tensor, Tensor, Tensor)");
  m.def(
      "barlow_twins_backward(Tensor grad, Tensor z1, Tensor z2, Tensor statistics, Tensor products, float lambd,"
      " float eps) -> (Tensor, Tensor)");
}
