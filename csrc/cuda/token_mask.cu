// Bytes: score (and noise) once, ids_keep, ids_restore and mask once. Compares: N L^2. A row of more tokens than a
// block ranks has its keys made again by each of its blocks.
#include "../common/token_mask.h"

#include "../common/select.h"
#include "launch.h"

namespace asma::cuda {
namespace {

constexpr int kMostWarps = 8, kMostThreads = kWarp * kMostWarps;

// The largest score of a row that is a number; every thread of the block has it.
template <class T> __device__ acc_t<T> largest_score(const TokenMask& a, const T* __restrict__ scores) {
  using A = acc_t<T>;
  __shared__ A largest[kMostWarps];
  const int warps = static_cast<int>(blockDim.y);
  A most = -static_cast<A>(__builtin_inf());
  for (int64_t i = threadIdx.y * kWarp + threadIdx.x; i < a.L; i += warps * kWarp) {
    const A value = widen(scores[i * a.score_l]);
    most = value > most ? value : most;
  }
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const A other = __shfl_xor_sync(kAll, most, step);
    most = other > most ? other : most;
  }
  if (threadIdx.x == 0) largest[threadIdx.y] = most;
  __syncthreads();
  for (int warp = 0; warp < warps; ++warp) most = largest[warp] > most ? largest[warp] : most;
  __syncthreads();  // before the next row writes what this one still reads
  return most;
}

// A token's rank is the number of tokens before it in the order of (key, index). A block ranks Each tokens per thread
// of one row, and goes over the keys of the row in tiles of as many. Tokens come in groups of a warp's lanes, so that
// whether one group comes before another is the same for all of a warp: keys that are equal then count for the later
// group, which compares with its key plus one.
template <int Each, class T>
__global__ void __launch_bounds__(kMostThreads, kFewBlocks)
    token_mask_kernel(TokenMask a, int64_t N, const int64_t* __restrict__ rng, int64_t step,
                      const T* __restrict__ score, const acc_t<T>* __restrict__ noise, int64_t* __restrict__ ids_keep,
                      int64_t* __restrict__ ids_restore, T* __restrict__ mask) {
  using A = acc_t<T>;
  using Key = decltype(ordered_key(A()));
  constexpr Key kAbsent = static_cast<Key>(~typename KeyBits<Key>::type(0) >> 1), kLargest = kAbsent - 1;
  alignas(16) __shared__ Key keys[Each * kMostThreads];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int warps = static_cast<int>(blockDim.y);
  const int64_t width = static_cast<int64_t>(Each) * warps * kWarp;  // tokens that the block ranks
  const Philox random = noise ? Philox{} : Philox::of(rng[0], rng[step]);
  // The place in a tile of a thread's token, and of the first of its group.
  const auto group_of = [&](int e) { return (e * warps + warp) * kWarp; };
  const auto place_of = [&](int e) { return group_of(e) + lane; };

  for (int64_t row = blockIdx.x; row < N; row += gridDim.x) {
    const T* scores = score + row * a.score_n;
    const A scale = static_cast<A>(a.tau) * largest_score(a, scores);
    // Larger than any other where there is no such token; NaN comes right before.
    const auto key_of = [&](int64_t i) {
      if (i >= a.L) return kAbsent;
      const A added = noise ? noise[row * a.noise_n + i * a.noise_l] : gumbel<A>(random, i, row);
      const Key key = ordered_key(noisy_share(widen(scores[i * a.score_l]), scale, added));
      return key < kLargest ? key : kLargest;
    };
    for (int64_t own = blockIdx.y * width; own < a.L; own += gridDim.y * width) {
      Key mine[Each];
      int rank[Each];
#pragma unroll
      for (int e = 0; e < Each; ++e) {
        mine[e] = key_of(own + place_of(e));
        // Of its own group those that equal it and come before; the tiles below count those that are smaller.
        const unsigned equal = __match_any_sync(kAll, mine[e]);
        rank[e] = __popc(equal & ((1u << lane) - 1));
      }
      for (int64_t tile = 0; tile < a.L; tile += width) {
#pragma unroll
        for (int e = 0; e < Each; ++e) keys[place_of(e)] = tile == own ? mine[e] : key_of(tile + place_of(e));
        __syncthreads();
        const int there = static_cast<int>(a.L - tile < width ? a.L - tile : width);
        for (int group = 0; group < there; group += kWarp) {
          Key limit[Each];
#pragma unroll
          for (int e = 0; e < Each; ++e) {
            const bool before = tile + group < own + group_of(e);
            limit[e] = (mine[e] < kLargest ? mine[e] : kLargest) + (before ? Key(1) : Key(0));
          }
#pragma unroll
          for (int other = 0; other < kWarp; ++other)
#pragma unroll
            for (int e = 0; e < Each; ++e) rank[e] += keys[group + other] < limit[e];
        }
        __syncthreads();
      }
#pragma unroll
      for (int e = 0; e < Each; ++e) {
        const int64_t i = own + place_of(e);
        if (i >= a.L) continue;
        ids_restore[row * a.L + i] = rank[e];
        mask[row * a.L + i] = narrow<T>(rank[e] < a.keep ? A(0) : A(1));
        if (rank[e] < a.keep) ids_keep[row * a.keep + rank[e]] = i;
      }
    }
  }
}

template <int Each, class T>
int launch(const TokenMask& a, int64_t N, const int64_t* rng, int64_t step, const T* score, const acc_t<T>* noise,
           int64_t* ids_keep, int64_t* ids_restore, T* mask, void* stream) {
  const unsigned warps = blocks(a.L, Each * kWarp, kMostWarps);
  const dim3 grid(blocks(N, 1, 1 << 20), blocks(a.L, Each * kWarp * warps, 65535)), block(kWarp, warps);
  return ASMA_LAUNCH((token_mask_kernel<Each, T>), grid, block, stream, a, N, rng, step, score, noise, ids_keep,
                     ids_restore, mask);
}

}  // namespace

int token_mask(Dtype dtype, const TokenMask& a, int64_t N, const int64_t* rng, int64_t step, const void* score,
               const void* noise, int64_t* ids_keep, int64_t* ids_restore, void* mask, void* stream) {
  if (N == 0 || a.L == 0) return 0;
  return visit_float(dtype, [&](auto type) {
    using T = decltype(type);
    const T* from = static_cast<const T*>(score);
    const acc_t<T>* added = static_cast<const acc_t<T>*>(noise);
    T* to = static_cast<T*>(mask);
    return a.L <= kMostThreads ? launch<1>(a, N, rng, step, from, added, ids_keep, ids_restore, to, stream)
                               : launch<4>(a, N, rng, step, from, added, ids_keep, ids_restore, to, stream);
  });
}

}  // namespace asma::cuda
