#include "checksum.h"

#include <cstring>

namespace asma::edge {
namespace {

// tables[j][b]: the checksum of byte b with j zero bytes after it, so that eight bytes are taken at once.
struct Tables {
  std::uint32_t of[8][256];
  constexpr Tables() : of{} {
    for (std::uint32_t b = 0; b < 256; ++b) {
      std::uint32_t sum = b;
      for (int bit = 0; bit < 8; ++bit) sum = sum & 1 ? sum >> 1 ^ 0xedb88320u : sum >> 1;
      of[0][b] = sum;
    }
    for (int j = 1; j < 8; ++j)
      for (int b = 0; b < 256; ++b) of[j][b] = of[j - 1][b] >> 8 ^ of[0][of[j - 1][b] & 255];
  }
};
constexpr Tables kTables;

}  // namespace

std::uint32_t crc32(const std::uint8_t* bytes, std::size_t size) {
  const auto& of = kTables.of;
  std::uint32_t sum = ~0u;
  for (; size >= 8; size -= 8, bytes += 8) {
    std::uint32_t low, high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + 4, 4);
    low ^= sum;
    sum = of[7][low & 255] ^ of[6][low >> 8 & 255] ^ of[5][low >> 16 & 255] ^ of[4][low >> 24] ^ of[3][high & 255] ^
          of[2][high >> 8 & 255] ^ of[1][high >> 16 & 255] ^ of[0][high >> 24];
  }
  for (; size > 0; --size, ++bytes) sum = sum >> 8 ^ of[0][(sum ^ *bytes) & 255];
  return ~sum;
}

}  // namespace asma::edge
