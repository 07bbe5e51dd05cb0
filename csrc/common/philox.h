// Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3").
// key = the 64-bit seed, counter = (element, row, call_lo, call_hi); word 0 of the block is the draw.
#pragma once
#include <cstdint>

#include "scalar.h"

namespace asma {

struct Philox {
  uint32_t key0, key1;    // seed
  uint32_t call0, call1;  // number of the op call

  static ASMA_INLINE Philox of(int64_t seed, int64_t call) {
    const uint64_t s = static_cast<uint64_t>(seed), c = static_cast<uint64_t>(call);
    return {static_cast<uint32_t>(s), static_cast<uint32_t>(s >> 32), static_cast<uint32_t>(c),
            static_cast<uint32_t>(c >> 32)};
  }

#if defined(__AVX512DQ__)
  // AVX-512 multiplies in 64-bit lanes: numbers stay in them, with anything in the upper half, unpacked between rounds.
  using Number = uint64_t;
#else
  using Number = uint32_t;
#endif

  ASMA_INLINE uint32_t word(uint32_t element, uint32_t row) const {
    Number c0 = element, c1 = row, c2 = call0, c3 = call1;
    uint32_t k0 = key0, k1 = key1;
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * static_cast<uint32_t>(c0);
      const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * static_cast<uint32_t>(c2);
      const Number n0 = static_cast<Number>(p1 >> 32) ^ c1 ^ k0;
      const Number n2 = static_cast<Number>(p0 >> 32) ^ c3 ^ k1;
      c1 = static_cast<Number>(p1);
      c3 = static_cast<Number>(p0);
      c0 = n0;
      c2 = n2;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return static_cast<uint32_t>(c0);
  }
};

}  // namespace asma
