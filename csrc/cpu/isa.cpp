#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace asma {
namespace {

constexpr const char* kNames[] = {"generic", "avx2", "avx512"};

Isa detect() {
  Isa best = Isa::generic;
#if defined(ASMA_SEVERAL_ISAS)
  __builtin_cpu_init();
  // F16C, which older compilers cannot ask for, every processor with AVX2 has.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    best = Isa::avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
      best = Isa::avx512;
  }
#endif
  if (const char* wanted = std::getenv("ASMA_ISA")) {
    for (int level = 0; level < static_cast<int>(best); ++level)
      if (std::strcmp(wanted, kNames[level]) == 0) return static_cast<Isa>(level);
  }
  return best;
}

}  // namespace

Isa isa() {
  // A constant of its own would need a guard of C++'s runtime, which the edge engine does without.
  static std::atomic<int> known{-1};
  int level = known.load(std::memory_order_relaxed);
  if (level < 0) known.store(level = static_cast<int>(detect()), std::memory_order_relaxed);
  return static_cast<Isa>(level);
}

bool multiplies_bf16() {
#if defined(__x86_64__)
  const char* wanted = std::getenv("ASMA_ISA");
  static const bool allowed = !wanted || std::strcmp(wanted, kNames[static_cast<int>(Isa::avx512)]) != 0;
  return allowed && isa() == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

const char* isa_name() {
#if defined(__aarch64__)
  return "neon";
#else
  return kNames[static_cast<int>(isa())];
#endif
}

}  // namespace asma
