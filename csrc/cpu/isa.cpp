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

// A constant of its own would need a guard of C++'s runtime, which the edge engine does without.
template <class Find> int remembered(std::atomic<int>* known, const Find& find) {
  int found = known->load(std::memory_order_relaxed);
  if (found < 0) known->store(found = static_cast<int>(find()), std::memory_order_relaxed);
  return found;
}

#if defined(__x86_64__)
// Whether instructions may be taken that only some processors of the level avx512 have.
bool has_more() {
  const char* wanted = std::getenv("ASMA_ISA");
  return isa() == Isa::avx512 && (!wanted || std::strcmp(wanted, kNames[static_cast<int>(Isa::avx512)]) != 0);
}
#endif

}  // namespace

Isa isa() {
  static std::atomic<int> known{-1};
  return static_cast<Isa>(remembered(&known, detect));
}

#if defined(__x86_64__)
bool multiplies_bf16() {
  static std::atomic<int> known{-1};
  return remembered(&known, [] { return has_more() && __builtin_cpu_supports("avx512bf16"); });
}
bool fuses_integer_pairs() {
  static std::atomic<int> known{-1};
  return remembered(&known, [] { return has_more() && __builtin_cpu_supports("avx512vnni"); });
}
#else
bool multiplies_bf16() { return false; }
bool fuses_integer_pairs() { return false; }
#endif

const char* isa_name() {
#if defined(__aarch64__)
  return "neon";
#else
  return kNames[static_cast<int>(isa())];
#endif
}

}  // namespace asma
