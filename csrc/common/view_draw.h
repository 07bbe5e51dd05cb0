// What view_draw's kernels share: arguments, and what the words of a clip mean.
#pragma once
#include <cstdint>

#include "philox.h"
#include "scalar.h"

namespace asma {

static ASMA_INLINE void sine_and_cosine(float angle, float* sine, float* cosine) {
#if defined(__CUDACC__)
  // sinf has a table for huge angles, in local memory; in half turns, reduced in double, none is needed.
  const double half_turns = static_cast<double>(angle) * 0.31830988618379067;
  sincospif(static_cast<float>(half_turns - 2 * rint(half_turns / 2)), sine, cosine);
#else
  *sine = __builtin_sinf(angle);
  *cosine = __builtin_cosf(angle);
#endif
}

struct ViewDraw {
  bool shared;          // every clip has clip 0's draw
  int64_t T, pad;       // frames of a clip, and of its reflection at either end
  float shear;          // amplitude
  float main, other;    // largest angles in radians, of the drawn axis and of the other two
  const int64_t* flip;  // (V): the joint that stands for each joint in the mirror
  int64_t V;
  int64_t flip_below;  // a clip is flipped when its word is below: 2^32 times the probability
  bool mirror;         // a flipped clip also has its x negated

  // Which word of a clip draws what: the same on every backend (asma_kernels/reference/view_draw.py).
  enum Word { crop_word = 0, shear_word = 1, axis_word = 7, angle_word = 8, flip_word = 11, kWords = 12 };

  // In [0, 1), exact in float32.
  static ASMA_INLINE float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

  // Uniform in [0, count), count < 2^31.
  static ASMA_INLINE int64_t whole(uint32_t word, int64_t count) {
    return static_cast<int64_t>((static_cast<uint64_t>(word) * static_cast<uint64_t>(count)) >> 32);
  }

  ASMA_INLINE uint32_t row(int64_t clip) const { return shared ? 0 : static_cast<uint32_t>(clip); }
  ASMA_INLINE bool flipped(const uint32_t* words) const { return words[flip_word] < flip_below; }

  // Frame t of a window of the clip that is reflected by pad frames at both ends, the end frames repeated.
  ASMA_INLINE int64_t frame(const uint32_t* words, int64_t t) const {
    const int64_t place = whole(words[crop_word], 2 * pad + 1) + t - pad;
    return place < 0 ? -1 - place : place < T ? place : 2 * T - 1 - place;
  }

  // matrix (3, 3): shears first, then turns about x, y and z, then mirrors.
  ASMA_INLINE void draw_matrix(const uint32_t* words, float* matrix) const {
    int next = shear_word;
    for (int row = 0; row < 3; ++row)
      for (int column = 0; column < 3; ++column)
        matrix[row * 3 + column] = row == column ? 1.0f : (2.0f * uniform(words[next++]) - 1.0f) * shear;
    const int64_t drawn = whole(words[axis_word], 3);
    for (int axis = 0; axis < 3; ++axis) {
      float sine, cosine;
      sine_and_cosine(uniform(words[angle_word + axis]) * (axis == drawn ? main : other), &sine, &cosine);
      float* first = matrix + (axis + 1) % 3 * 3;
      float* second = matrix + (axis + 2) % 3 * 3;
      for (int column = 0; column < 3; ++column) {
        const float before = first[column];
        first[column] = cosine * before + sine * second[column];
        second[column] = cosine * second[column] - sine * before;
      }
    }
    if (mirror && flipped(words))
      for (int column = 0; column < 3; ++column) matrix[column] = -matrix[column];
  }
};

}  // namespace asma
