// Checks of motion_energy's arguments and the shape of its result.
#pragma once
#include "../common/motion_energy.h"
#include "common.h"

namespace asma::bind {

inline MotionEnergy motion_energy_arguments(const Tensor& x, const std::string& reduce, double p, int64_t stride,
                                            const std::string& boundary, const std::optional<Tensor>& lengths,
                                            const char* op = "motion_energy") {
  check_dim(op, "x (N, C, T, V, M)", x, 5);
  STD_TORCH_CHECK(reduce == "frame" || reduce == "joint" || reduce == "frame_joint", op,
                  ": reduce must be frame, joint or frame_joint, got ", reduce);
  STD_TORCH_CHECK(boundary == "zero_last" || boundary == "copy_first", op,
                  ": boundary must be zero_last or copy_first, got ", boundary);
  STD_TORCH_CHECK(p >= 1, op, ": p must be >= 1, got ", p);
  STD_TORCH_CHECK(stride >= 1, op, ": stride must be >= 1, got ", stride);
  if (lengths) {
    check_dtype(op, "lengths", *lengths, ScalarType::Long, "int64");
    check_contiguous(op, "lengths", *lengths);
    STD_TORCH_CHECK(lengths->dim() == 1 && lengths->size(0) == x.size(0), op,
                    ": lengths must be (N,) with N = ", x.size(0));
  }
  return {x.size(0),
          x.size(1),
          x.size(2),
          x.size(3),
          x.size(4),
          x.stride(0),
          x.stride(1),
          x.stride(2),
          x.stride(3),
          x.stride(4),
          lengths ? data<int64_t>(*lengths) : nullptr,
          reduce == "frame"   ? MotionEnergy::frame
          : reduce == "joint" ? MotionEnergy::joint
                              : MotionEnergy::frame_joint,
          p,
          stride,
          boundary == "copy_first"};
}

inline std::vector<int64_t> energy_shape(const Tensor& x, MotionEnergy::Reduce reduce) {
  if (reduce == MotionEnergy::frame) return {x.size(0), x.size(2)};
  if (reduce == MotionEnergy::joint) return {x.size(0), x.size(3)};
  return {x.size(0), x.size(2), x.size(3)};
}

}  // namespace asma::bind
