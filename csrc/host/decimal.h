// Decimal numbers of text, of any length and notation. What most numbers look like is read faster in ntu_skeleton.cpp.
#pragma once

#include <cstdint>

namespace asma::host {

// As Python's float() and a rounding to float32 give it: digits with a point and an exponent, or nan in any case. False
// where [word, end) is neither, or infinite in float32; what float() takes beside these (inf, 1_000) is refused too.
bool parse_float(const char* word, const char* end, float* value);

// False where [word, end) is no decimal integer or does not fit.
bool parse_integer(const char* word, const char* end, std::int64_t* value);
bool parse_unsigned(const char* word, const char* end, std::uint64_t* value);

}  // namespace asma::host
