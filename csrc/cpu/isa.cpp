#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace asma {
namespace {

constexpr const char* kNames[] = {"generic", "avx2", "avx512"};

Isa detect() {
  Isa best = Isa::generic;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
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
  static const Isa level = detect();
  return level;
}

const char* isa_name() {
#if defined(__aarch64__)
  return "neon";
#else
  return kNames[static_cast<int>(isa())];
#endif
}

}  // namespace asma
