#pragma once
#include <cstdint>

#include "../common/scalar.h"
#include "isa.h"

namespace asma {

struct MotionEnergy {
  enum Reduce { frame, joint, frame_joint };
  int64_t C, T, V, M;          // axes of a clip
  int64_t sn, sc, st, sv, sm;  // strides of x (N, C, T, V, M), in elements
  const int64_t* lengths;      // (N) or null: every clip has T frames
  Reduce reduce;
  double p;
  int64_t stride;
  bool copy_first;  // else zero_last
};

}  // namespace asma

ASMA_DECLARE_KERNEL(
    // energy: contiguous (N, T), (N, V) or (N, T, V); clips [begin, end).
    template <class T> void motion_energy(const ::asma::MotionEnergy& a, const T* x, T* energy, int64_t begin,
                                          int64_t end);
    // grad: contiguous, of energy's shape; grad_x: contiguous (N, C, T, V, M).
    template <class T> void motion_energy_backward(const ::asma::MotionEnergy& a, const T* grad, const T* x, T* grad_x,
                                                   int64_t begin, int64_t end);)
