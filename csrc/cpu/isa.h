// One kernel source, several instruction sets. CMake compiles each csrc/cpu/<op>.cpp once per level with ASMA_ISA set
// to the level's name; the kernel lives in namespace asma::<level>, and a binding picks one at run time with ASMA_PICK.
#pragma once

namespace asma {

enum class Isa { generic = 0, avx2 = 1, avx512 = 2 };

// The best level that this processor has and this library was built with; ASMA_ISA in the environment lowers it.
Isa isa();
const char* isa_name();
// Whether kernels of the level avx512 may multiply bfloat16 by the instruction that only some of its processors have
// (AVX512_BF16), and whether they may add up products of int16 numbers in one instruction (AVX512_VNNI);
// ASMA_ISA=avx512 says no to both.
bool multiplies_bf16();
bool fuses_integer_pairs();

}  // namespace asma

#if defined(__x86_64__) && !defined(ASMA_GENERIC_ONLY)
#define ASMA_SEVERAL_ISAS
#endif

#if defined(ASMA_SEVERAL_ISAS)
#define ASMA_DECLARE_KERNEL(...) \
  namespace asma {               \
  namespace generic {            \
  __VA_ARGS__                    \
  }                              \
  namespace avx2 {               \
  __VA_ARGS__                    \
  }                              \
  namespace avx512 {             \
  __VA_ARGS__                    \
  }                              \
  }
#define ASMA_PICK(...)                                                 \
  (::asma::isa() == ::asma::Isa::avx512 ? &::asma::avx512::__VA_ARGS__ \
   : ::asma::isa() == ::asma::Isa::avx2 ? &::asma::avx2::__VA_ARGS__   \
                                        : &::asma::generic::__VA_ARGS__)
#else
// On ARM64 the generic level is NEON, which every such processor has.
#define ASMA_DECLARE_KERNEL(...) \
  namespace asma {               \
  namespace generic {            \
  __VA_ARGS__                    \
  }                              \
  }
#define ASMA_PICK(...) (&::asma::generic::__VA_ARGS__)
#endif

// Explicit instantiations of a kernel template for every floating type, at the end of a kernel file.
#define ASMA_FOR_EACH_FLOAT(INSTANTIATE) \
  INSTANTIATE(double)                    \
  INSTANTIATE(float)                     \
  INSTANTIATE(::asma::bf16)              \
  INSTANTIATE(::asma::half)
