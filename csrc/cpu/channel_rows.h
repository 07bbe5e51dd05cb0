// Rows of channels, [row][channel], as the steps of a block hand features to each other: vectors are over channels.
#pragma once
#include "../common/philox.h"
#include "lanes.h"
#include "transpose.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// Rows (frame, joint) of a clip of any strides: where they lie, or in `scratch`.
template <class T>
const acc_t<T>* channel_rows(const T* from, int64_t sc, int64_t st, int64_t sv, int64_t channels, int64_t frames,
                             int64_t joints, acc_t<T>* scratch) {
  if constexpr (sizeof(T) == sizeof(acc_t<T>))
    if (sc == 1 && sv == channels && st == joints * channels) return from;
  for (int64_t t = 0; t < frames; ++t)
    gather_transposed(from + t * st, sc, sv, scratch + t * joints * channels, channels, channels, joints);
  return scratch;
}

// Where numbers of type T are computed: there, or in `scratch`, from which `store_rows` takes them.
template <class T> ASMA_INLINE acc_t<T>* room(T* to, acc_t<T>* scratch) {
  if constexpr (sizeof(T) == sizeof(acc_t<T>)) return to;
  else return scratch;
}
template <class T> void store_rows(const acc_t<T>* from, int64_t count, T* to) {
  if constexpr (sizeof(T) != sizeof(acc_t<T>))
    for_lanes<kLanes<T>>(count, [&]<int L>(int64_t i) { store<L>(to + i, load<L>(from + i)); });
}

// sums[i * step] = sum over rows of what body(row, parts) adds to parts[i]. Runs of rows are summed in A, runs in
// double: their rounding does not grow with the number of rows.
template <int Count, int L, class A, class Body>
ASMA_INLINE void sum_rows(int64_t rows, double* sums, int64_t step, const Body& body) {
  constexpr int64_t kRun = 32;
  using Wide = lanes_t<double, L>;
  Wide totals[Count] = {};
  for (int64_t first = 0; first < rows; first += kRun) {
    lanes_t<A, L> parts[Count] = {};
    const int64_t last = rows - first < kRun ? rows : first + kRun;
    for (int64_t row = first; row < last; ++row) body(row, parts);
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) totals[i] += __builtin_convertvector(parts[i], Wide);
  }
#pragma GCC unroll 4
  for (int i = 0; i < Count; ++i) *reinterpret_cast<Wide*>(sums + i * step) = totals[i];
}

// moments[channel] = mean over the rows, moments[channels + channel] = sum of squares about it.
template <class A> void moments_of(const A* rows, int64_t count, int64_t channels, double* moments) {
  for_lanes<kLanes<A>>(channels, [&]<int L>(int64_t c) {
    using Lane = lanes_t<A, L>;
    using Wide = lanes_t<double, L>;
    sum_rows<1, L, A>(count, moments + c, channels, [&](int64_t row, Lane* sum) __attribute__((always_inline)) {
      sum[0] += load<L>(rows + row * channels + c);
    });
    Wide& mean = *reinterpret_cast<Wide*>(moments + c);
    mean /= static_cast<double>(count);
    const Lane middle = __builtin_convertvector(mean, Lane);
    sum_rows<1, L, A>(count, moments + channels + c, channels,
                      [&](int64_t row, Lane* sum) __attribute__((always_inline)) {
                        const Lane from_mean = load<L>(rows + row * channels + c) - middle;
                        sum[0] += from_mean * from_mean;
                      });
  });
}

// Bytes that are 0 or not, as bits: eight of them in a byte, the first in the lowest bit.
inline int64_t bytes_of_bits(int64_t count) { return (count + 7) / 8; }
typedef uint64_t EightBytes __attribute__((aligned(1), may_alias));
inline void pack_bits(const uint8_t* bytes, int64_t count, uint8_t* bits) {  // bytes: 0 or 1, up to a multiple of 8
  const EightBytes* from = reinterpret_cast<const EightBytes*>(bytes);
  for (int64_t i = 0; i < bytes_of_bits(count); ++i)
    bits[i] = static_cast<uint8_t>((from[i] * UINT64_C(0x0102040810204080)) >> 56);
}
inline void unpack_bits(const uint8_t* bits, int64_t count, uint8_t* bytes) {  // written up to a multiple of 8
  EightBytes* to = reinterpret_cast<EightBytes*>(bytes);
  for (int64_t i = 0; i < bytes_of_bits(count); ++i)
    to[i] = (bits[i] * UINT64_C(0x0101010101010101)) & UINT64_C(0x8040201008040201);
}

// kept[i] = whether word (i, row) is above `last`.
inline void draw_kept(const Philox& random, uint32_t last, uint32_t row, int64_t count, uint8_t* kept) {
  constexpr int64_t kRun = 64;
  uint32_t words[kRun];
  for (int64_t first = 0; first < count; first += kRun) {
    for (int64_t i = 0; i < kRun; ++i) words[i] = random.word(static_cast<uint32_t>(first + i), row);
    const int64_t run = count - first < kRun ? count - first : kRun;
    if (run == kRun)
      for (int64_t i = 0; i < kRun; ++i) kept[first + i] = words[i] > last;
    else
      for (int64_t i = 0; i < run; ++i) kept[first + i] = words[i] > last;
  }
}

template <class A> struct SameWidth {
  using type = int32_t;
};
template <> struct SameWidth<double> {
  using type = int64_t;
};

// numbers where kept is not 0, else 0
template <int L, class A> ASMA_INLINE lanes_t<A, L> where_kept(const uint8_t* kept, lanes_t<A, L> numbers) {
  using Bits = lanes_t<typename SameWidth<A>::type, L>;
  const auto bytes = *reinterpret_cast<const lanes_t<uint8_t, L>*>(kept);
  return __builtin_convertvector(bytes, Bits) != 0 ? numbers : lanes_t<A, L>{};
}

}  // namespace
}  // namespace ASMA_ISA
}  // namespace asma
