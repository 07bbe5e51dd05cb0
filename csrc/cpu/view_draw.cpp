#include "view_draw.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// Which word of a clip draws what: the same on every backend (asma_kernels/reference/view_draw.py).
enum Word { crop_word = 0, shear_word = 1, axis_word = 7, angle_word = 8, flip_word = 11, kWords = 12 };

// In [0, 1), exact in float32.
ASMA_INLINE float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// Uniform in [0, count), count < 2^31.
ASMA_INLINE int64_t whole(uint32_t word, int64_t count) {
  return static_cast<int64_t>((static_cast<uint64_t>(word) * static_cast<uint64_t>(count)) >> 32);
}

// Frames start ... start + T - 1 of the clip that is reflected by pad frames at both ends, the end frames repeated.
void crop(int64_t T, int64_t pad, int64_t start, int64_t* frames) {
  for (int64_t t = 0; t < T; ++t) {
    const int64_t place = start + t - pad;
    frames[t] = place < 0 ? -1 - place : place < T ? place : 2 * T - 1 - place;
  }
}

void shear_and_rotate(const ViewDraw& a, const uint32_t* words, float* matrix) {
  int next = shear_word;
  for (int row = 0; row < 3; ++row)
    for (int column = 0; column < 3; ++column)
      matrix[row * 3 + column] = row == column ? 1.0f : (2.0f * uniform(words[next++]) - 1.0f) * a.shear;
  const int64_t main = whole(words[axis_word], 3);
  for (int axis = 0; axis < 3; ++axis) {
    const float angle = uniform(words[angle_word + axis]) * (axis == main ? a.main : a.other);
    const float cosine = __builtin_cosf(angle), sine = __builtin_sinf(angle);
    float* first = matrix + (axis + 1) % 3 * 3;
    float* second = matrix + (axis + 2) % 3 * 3;
    for (int column = 0; column < 3; ++column) {
      const float before = first[column];
      first[column] = cosine * before + sine * second[column];
      second[column] = cosine * second[column] - sine * before;
    }
  }
}

}  // namespace

void view_draw(const ViewDraw& a, int64_t* frames, int64_t* joints, float* matrix, int64_t begin, int64_t end) {
  for (int64_t clip = begin; clip < end; ++clip) {
    uint32_t words[kWords];
    const uint32_t row = a.shared ? 0 : static_cast<uint32_t>(clip);
    for (uint32_t i = 0; i < kWords; ++i) words[i] = a.random.word(i, row);
    crop(a.T, a.pad, whole(words[crop_word], 2 * a.pad + 1), frames + clip * a.T);
    float* to = matrix + clip * 9;
    shear_and_rotate(a, words, to);
    const bool flipped = words[flip_word] < a.flip_below;
    for (int64_t v = 0; v < a.V; ++v) joints[clip * a.V + v] = flipped ? a.flip[v] : v;
    if (flipped && a.mirror)
      for (int column = 0; column < 3; ++column) to[column] = -to[column];
  }
}

}  // namespace ASMA_ISA
}  // namespace asma
