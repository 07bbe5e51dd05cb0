#include "frame_drop.h"

#include "frame_mask.h"
#include "motion_energy.h"
#include "skeleton_view.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// Bytes of the clips that are taken together: the copy finds them in the cache that the energies read them into.
constexpr int64_t kCached = 1 << 18;

SkeletonView view_of(const FrameDrop& a, const int64_t* frames) {
  const MotionEnergy& x = a.energy;
  SkeletonView view{};
  view.N = x.N, view.C = view.C_out = x.C, view.T = x.T, view.V = view.V_out = x.V, view.M = x.M;
  view.sn = x.sn, view.sc = x.sc, view.st = x.st, view.sv = x.sv, view.sm = x.sm;
  view.T_out = view.frames_step = a.left;
  view.frames = frames;
  return view;
}

}  // namespace

template <class T>
void frame_drop(const FrameDrop& a, Philox random, const T* x, T* energies, T* kept, int64_t* frames, int64_t begin,
                int64_t end) {
  const MotionEnergy& e = a.energy;
  const int64_t bytes = e.C * e.T * e.V * e.M * static_cast<int64_t>(sizeof(T));
  const int64_t together = bytes > 0 && bytes < kCached ? kCached / bytes : 1;
  const SkeletonView view = view_of(a, frames);
  for (int64_t first = begin; first < end; first += together) {
    const int64_t last = first + together < end ? first + together : end;
    motion_energy<T>(e, x, energies, first, last);
    frame_mask<T>(a.mask, random, energies, frames, first, last);
    skeleton_view<T>(view, nullptr, nullptr, x, kept, first, last);
  }
}

#define INSTANTIATE(T) \
  template void frame_drop<T>(const FrameDrop&, Philox, const T*, T*, T*, int64_t*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
