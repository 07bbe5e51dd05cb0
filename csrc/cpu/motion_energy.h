#pragma once
#include "../common/motion_energy.h"
#include "../common/scalar.h"
#include "isa.h"

ASMA_DECLARE_KERNEL(
    // energy: contiguous (N, T), (N, V) or (N, T, V); clips [begin, end).
    template <class T> void motion_energy(const ::asma::MotionEnergy& a, const T* x, T* energy, int64_t begin,
                                          int64_t end);
    // grad: contiguous, of energy's shape; grad_x: contiguous (N, C, T, V, M).
    template <class T> void motion_energy_backward(const ::asma::MotionEnergy& a, const T* grad, const T* x, T* grad_x,
                                                   int64_t begin, int64_t end);)
