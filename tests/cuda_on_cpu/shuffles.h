// The barriers, shuffles and votes of CUDA on top of what an emulation offers in namespace cuda_on_cpu: sync_block(),
// sync_warp(), thread() and slots. Only whole warps may shuffle and vote.
#pragma once
#define ASMA_LAUNCH(...) cuda_on_cpu::launch(__VA_ARGS__)

#if defined(WITHOUT_BARRIERS)  // to see that a missing one is found
inline void __syncthreads() {}
#else
inline void __syncthreads() { cuda_on_cpu::sync_block(); }
#endif
inline void __syncwarp(unsigned = ~0u) { cuda_on_cpu::sync_warp(); }

namespace cuda_on_cpu {

// Lays down what this thread brings; its warp may then read, up to the next barrier of the warp.
template <class T> void bring(unsigned mask, T number) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  if (mask != ~0u) {
    std::fprintf(stderr, "cuda_on_cpu: only whole warps may shuffle\n");
    std::abort();
  }
  std::memcpy(&slots[thread()], &number, sizeof number);
  sync_warp();
}
// What the lane `from` of this thread's warp brought; the own number where there is no such lane.
template <class T> T exchange(unsigned mask, T number, int from) {
  bring(mask, number);
  const int warp = thread() / 32 * 32;
  T found = number;
  if (from >= 0 && from < 32 && warp + from < lanes()) std::memcpy(&found, &slots[warp + from], sizeof found);
  sync_warp();
  return found;
}
// Calls body(lane, what it brought) for every lane of this thread's warp.
template <class T, class Body> void collect(unsigned mask, T number, const Body& body) {
  bring(mask, number);
  const int warp = thread() / 32 * 32;
  for (int from = 0; from < 32 && warp + from < lanes(); ++from) {
    T found;
    std::memcpy(&found, &slots[warp + from], sizeof found);
    body(from, found);
  }
  sync_warp();
}
inline int lane() { return thread() % 32; }

}  // namespace cuda_on_cpu

template <class T> T __shfl_sync(unsigned mask, T number, int from) {
  return cuda_on_cpu::exchange(mask, number, from & 31);
}
template <class T> T __shfl_xor_sync(unsigned mask, T number, int other) {
  return cuda_on_cpu::exchange(mask, number, cuda_on_cpu::lane() ^ other);
}
template <class T> T __shfl_up_sync(unsigned mask, T number, unsigned step) {
  return cuda_on_cpu::exchange(mask, number, cuda_on_cpu::lane() - static_cast<int>(step));
}
template <class T> T __shfl_down_sync(unsigned mask, T number, unsigned step) {
  return cuda_on_cpu::exchange(mask, number, cuda_on_cpu::lane() + static_cast<int>(step));
}
inline unsigned __ballot_sync(unsigned mask, int vote) {
  unsigned votes = 0;
  cuda_on_cpu::collect(mask, vote != 0, [&](int from, bool yes) { votes |= yes ? 1u << from : 0u; });
  return votes;
}
template <class T> unsigned __match_any_sync(unsigned mask, T number) {
  unsigned same = 0;
  cuda_on_cpu::collect(mask, number, [&](int from, T other) { same |= other == number ? 1u << from : 0u; });
  return same;
}
inline int __reduce_add_sync(unsigned mask, int number) {
  int sum = 0;
  cuda_on_cpu::collect(mask, number, [&](int, int other) { sum += other; });
  return sum;
}
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
