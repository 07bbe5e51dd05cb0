#include "view_draw.h"

namespace asma {
namespace ASMA_ISA {

void view_draw(const ViewDraw& a, const Philox& random, int64_t* frames, int64_t* joints, float* matrix, int64_t begin,
               int64_t end) {
  for (int64_t clip = begin; clip < end; ++clip) {
    uint32_t words[ViewDraw::kWords];
    for (uint32_t i = 0; i < ViewDraw::kWords; ++i) words[i] = random.word(i, a.row(clip));
    for (int64_t t = 0; t < a.T; ++t) frames[clip * a.T + t] = a.frame(words, t);
    const bool flipped = a.flipped(words);
    for (int64_t v = 0; v < a.V; ++v) joints[clip * a.V + v] = flipped ? a.flip[v] : v;
    a.draw_matrix(words, matrix + clip * 9);
  }
}

}  // namespace ASMA_ISA
}  // namespace asma
