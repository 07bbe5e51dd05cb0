#include "decimal.h"

#include <charconv>
#include <cmath>
#include <system_error>

namespace asma::host {
namespace {

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Where the digits, the point and the exponent of [at, end) end, and the power of ten of its first digit that is not 0.
struct Shape {
  bool decimal = false, zero = true;
  std::int64_t magnitude = 0;
};

Shape shape_of(const char* at, const char* end) {
  constexpr std::int64_t far = 1'000'000'000'000;  // no text is that long
  Shape shape;
  bool digits = false, point = false;
  for (; at < end && (is_digit(*at) || (*at == '.' && !point)); ++at) {
    if (*at == '.') {
      point = true;
      continue;
    }
    digits = true;
    shape.zero = shape.zero && *at == '0';
    if (point ? shape.zero : !shape.zero) shape.magnitude += point ? -1 : 1;
  }
  if (digits && at < end && (*at == 'e' || *at == 'E')) {
    ++at;
    const bool negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) ++at;
    digits = at < end;
    std::int64_t exponent = 0;
    for (; at < end && is_digit(*at); ++at) exponent = exponent < far ? exponent * 10 + (*at - '0') : far;
    shape.magnitude += negative ? -exponent : exponent;
  }
  shape.decimal = digits && at == end;
  return shape;
}

bool is_nan(const char* word, const char* end) {
  return end - word == 3 && (word[0] | 32) == 'n' && (word[1] | 32) == 'a' && (word[2] | 32) == 'n';
}

template <class T> bool parse_whole(const char* word, const char* end, T* value) {
  const auto found = std::from_chars(word, end, *value);
  return found.ec == std::errc() && found.ptr == end;
}

}  // namespace

bool parse_float(const char* word, const char* end, float* value) {
  const bool negative = word < end && *word == '-';
  if (negative || (word < end && *word == '+')) ++word;
  double number = 0;
  if (is_nan(word, end)) {
    *value = NAN;
    return true;
  }
  const Shape shape = shape_of(word, end);
  if (!shape.decimal) return false;
  const auto found = std::from_chars(word, end, number);
  // Which of the two it is, too large or too small for a double, from_chars does not tell.
  if (found.ec == std::errc::result_out_of_range) number = shape.zero || shape.magnitude < 0 ? 0 : HUGE_VAL;
  *value = static_cast<float>(negative ? -number : number);
  return !std::isinf(*value);
}

bool parse_integer(const char* word, const char* end, std::int64_t* value) { return parse_whole(word, end, value); }
bool parse_unsigned(const char* word, const char* end, std::uint64_t* value) { return parse_whole(word, end, value); }

}  // namespace asma::host
