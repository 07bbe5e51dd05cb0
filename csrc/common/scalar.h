// Scalar types of tensors: storage type, accumulation type and the conversions between them.
// Included by kernels that are compiled once per instruction set, so every function here is forced inline:
// a weak inline copy compiled for AVX-512 could otherwise be the one that the linker keeps for older processors.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#define ASMA_INLINE __host__ __device__ __forceinline__
#define ASMA_ANY_SIDE _Pragma("nv_exec_check_disable")  // before a template whose callable decides on the side
#else
#define ASMA_INLINE inline __attribute__((always_inline))
#define ASMA_ANY_SIDE
#endif

namespace asma {

struct bf16 {
  uint16_t bits;
};

// IEEE binary16. nvcc has no _Float16 on the device; GCC 12 has it for ARM64 in C only, and __fp16 is the same format.
// Code that computes with none, as the edge engine, need not ask its compiler for one.
#if defined(ASMA_NO_HALF)
struct half {
  uint16_t bits;
};
#elif defined(__CUDACC__)
using half = __half;
#elif defined(__aarch64__) && !defined(__clang__) && __GNUC__ < 13
using half = __fp16;
#else
using half = _Float16;
#endif

template <class T> struct Accumulate {
  using type = float;
};
template <> struct Accumulate<double> {
  using type = double;
};
// Sums of T are kept in acc_t<T>: float32 or wider.
template <class T> using acc_t = typename Accumulate<T>::type;

static ASMA_INLINE float widen(bf16 value) {
  union {
    uint32_t bits;
    float number;
  } u;
  u.bits = static_cast<uint32_t>(value.bits) << 16;
  return u.number;
}
#if !defined(ASMA_NO_HALF)
static ASMA_INLINE float widen(half value) { return static_cast<float>(value); }
#endif
static ASMA_INLINE float widen(float value) { return value; }
static ASMA_INLINE double widen(double value) { return value; }

template <class T> struct Narrow {
  static ASMA_INLINE T from(acc_t<T> value) { return static_cast<T>(value); }
};
template <> struct Narrow<bf16> {
  // Round to nearest, ties to even; NaN stays NaN.
  static ASMA_INLINE bf16 from(float value) {
    union {
      float number;
      uint32_t bits;
    } u;
    u.number = value;
    const uint32_t rounded = (u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16;
    const uint32_t quiet = (u.bits >> 16) | 0x40u;
    return bf16{static_cast<uint16_t>((u.bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded)};
  }
};
template <class T> static ASMA_INLINE T narrow(acc_t<T> value) { return Narrow<T>::from(value); }

static ASMA_INLINE double power_of(double base, double exponent) {
#if defined(__CUDACC__)
  return pow(base, exponent);
#else
  return __builtin_pow(base, exponent);
#endif
}

}  // namespace asma
