// Every op's schema on one page. Definitions: docs/ops.md.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(asma, m) {
  m.def("isa() -> str");

  m.def("philox(Tensor rng, int rows, int columns) -> Tensor");

  m.def("motion_energy(Tensor x, str reduce, float p, int stride, str boundary, Tensor? lengths) -> Tensor");
  m.def(
      "motion_energy_backward(Tensor grad, Tensor x, str reduce, float p, int stride, str boundary, Tensor? lengths)"
      " -> Tensor");
}
