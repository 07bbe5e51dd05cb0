#pragma once
#include <cstddef>
#include <cstdint>

namespace asma::edge {

// CRC-32 as in zlib and PNG (reflected polynomial 0xedb88320).
std::uint32_t crc32(const std::uint8_t* bytes, std::size_t size);

}  // namespace asma::edge
