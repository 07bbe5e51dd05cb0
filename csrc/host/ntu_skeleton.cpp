// Compiled once per instruction set: nothing of the standard library that is a function (csrc/cpu/scratch.h says why).
#include "ntu_skeleton.h"

#include "decimal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace asma {
namespace ASMA_ISA {
namespace {

using namespace asma::host;

#define ASMA_INLINE inline __attribute__((always_inline))

constexpr int kBodyWords = 10;
constexpr int kJointWords = 12;
constexpr int kNumbers = kJoints * 3;

// For each byte of a block a bit: whether it is blank (up to ' ', so line ends are), whether it is '\n'.
struct Masks {
  uint64_t blank, newline;
};

#if defined(__AVX2__)
ASMA_INLINE uint64_t bits(__m256i low, __m256i high) {
  return static_cast<uint32_t>(_mm256_movemask_epi8(low)) |
         static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(high))) << 32;
}

ASMA_INLINE Masks masks_of(const char* block) {
  const __m256i space = _mm256_set1_epi8(' '), end = _mm256_set1_epi8('\n');
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block));
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 32));
  return {
      bits(_mm256_cmpeq_epi8(_mm256_min_epu8(low, space), low), _mm256_cmpeq_epi8(_mm256_min_epu8(high, space), high)),
      bits(_mm256_cmpeq_epi8(low, end), _mm256_cmpeq_epi8(high, end))};
}

// For each number of decimals, how the digit before the point and they come to the right end of 16 bytes.
constexpr int kMostDecimals = 14;
struct Shuffles {
  alignas(16) uint8_t bytes[kMostDecimals + 1][16];
};
constexpr Shuffles shuffles() {
  Shuffles made{};
  for (int decimals = 0; decimals <= kMostDecimals; ++decimals) {
    for (int to = 0; to < 16; ++to) {
      const int digit = to - (15 - decimals);
      made.bytes[decimals][to] = static_cast<uint8_t>(digit < 0 ? 0x80 : digit == 0 ? 0 : digit + 1);  // 0x80 gives 0
    }
  }
  return made;
}
constexpr Shuffles kShuffles = shuffles();

// The digits of "d.dd", `decimals` of them behind the point; false where one of them is none. Reads 16 bytes.
ASMA_INLINE bool digits_of(const char* word, uint64_t decimals, int32_t* upper, int32_t* lower) {
  const auto* shuffle = reinterpret_cast<const __m128i*>(kShuffles.bytes[decimals]);
  __m128i digits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(word));
  digits = _mm_shuffle_epi8(_mm_sub_epi8(digits, _mm_set1_epi8('0')), _mm_load_si128(shuffle));
  const __m128i beyond_nine = _mm_subs_epu8(digits, _mm_set1_epi8(9));
  if (!_mm_testz_si128(beyond_nine, beyond_nine)) return false;
  // Pairs, fours, eights.
  __m128i sums = _mm_maddubs_epi16(digits, _mm_set1_epi16(1 << 8 | 10));
  sums = _mm_madd_epi16(sums, _mm_set1_epi32(1 << 16 | 100));
  sums = _mm_madd_epi16(_mm_packus_epi32(sums, sums), _mm_set1_epi32(1 << 16 | 10000));
  *upper = _mm_cvtsi128_si32(sums);
  *lower = _mm_extract_epi32(sums, 1);
  return true;
}
#else
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte of a word must be its lowest");

// Eight bytes at a time: the highest bit of each byte says it, and a product brings these bits together.
ASMA_INLINE uint64_t bits(uint64_t highest) { return (highest >> 7) * 0x0102040810204080 >> 56; }

ASMA_INLINE Masks masks_of(const char* block) {
  constexpr uint64_t ones = 0x0101010101010101, highest = 0x8080808080808080;
  Masks masks{0, 0};
  for (int part = 0; part < 8; ++part) {
    uint64_t bytes;
    __builtin_memcpy(&bytes, block + 8 * part, sizeof bytes);
    const uint64_t above = ((bytes & ~highest) + (0x7F - ' ') * ones) | bytes;
    const uint64_t other = (((bytes ^ '\n' * ones) & ~highest) + 0x7F * ones) | bytes;
    masks.blank |= bits(~above & highest) << (8 * part);
    masks.newline |= bits(~other & highest) << (8 * part);
  }
  return masks;
}

constexpr int kMostDecimals = 8;

// The digits of "d.dd", `decimals` of them behind the point; false where one of them is none. Reads 10 bytes.
ASMA_INLINE bool digits_of(const char* word, uint64_t decimals, int32_t* upper, int32_t* lower) {
  // The decimals into the upper bytes, zeros before them: bytes behind the end fall out.
  constexpr uint64_t zeros = 0x3030303030303030, high = 0xF0F0F0F0F0F0F0F0;
  const int spare = 8 * static_cast<int>(8 - decimals);
  uint64_t bytes;
  __builtin_memcpy(&bytes, word + 2, sizeof bytes);
  bytes = (bytes << spare) | (zeros >> 8) >> (56 - spare);
  const auto first = static_cast<uint8_t>(word[0] - '0');
  if (first > 9 || ((bytes & high) ^ zeros) | (((bytes + 0x0606060606060606) & high) ^ zeros)) return false;
  // Pairs, fours, eights.
  bytes -= zeros;
  bytes = bytes * 10 + (bytes >> 8);
  constexpr uint64_t pairs = 0x000000FF000000FF;
  bytes = (bytes & pairs) * (100 + (1000000ull << 32)) + ((bytes >> 16) & pairs) * (1 + (10000ull << 32));
  constexpr int32_t wholes[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
  *upper = 0;
  *lower = first * wholes[decimals] + static_cast<int32_t>(bytes >> 32);
  return true;
}
#endif

struct Word {
  const char *begin, *end;
};

ASMA_INLINE bool is_blank(char c) { return static_cast<unsigned char>(c) <= ' '; }

// The first word of [at, end); empty where there is none.
Word word_after(const char* at, const char* end) {
  while (at < end && is_blank(*at)) ++at;
  const char* const begin = at;
  while (at < end && !is_blank(*at)) ++at;
  return {begin, at};
}

// Numbers as (upper * 10^8 + lower) / divisor. The sign is the divisor's, so that -0.0 has one. Dividend and divisor
// are exact doubles, so one rounding gives what float() gives (W. D. Clinger, How to read floating point numbers
// accurately, PLDI 1990).
struct Quotients {
  int32_t upper[kNumbers], lower[kNumbers];
  double divisor[kNumbers];
  int hard;  // how many numbers have another notation, their places and values
  int place[kNumbers];
  float value[kNumbers];
};

constexpr double kDivisors[2][15] = {
    {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14},
    {-1e0, -1e1, -1e2, -1e3, -1e4, -1e5, -1e6, -1e7, -1e8, -1e9, -1e10, -1e11, -1e12, -1e13, -1e14}};

// "d.d" and more decimals with or without '-', as most coordinates in metres are written.
ASMA_INLINE bool parse_metres(const char* word, const char* end, int place, Quotients* out) {
  const bool negative = *word == '-';
  word += negative;
  const auto decimals = static_cast<uint64_t>(end - word - 2);
  if (decimals - 1 >= kMostDecimals || word[1] != '.') return false;
  out->divisor[place] = kDivisors[negative][decimals];
  return digits_of(word, decimals, out->upper + place, out->lower + place);
}

class Parser {
 public:
  explicit Parser(NtuSkeleton* skeleton) : out_(*skeleton), next_(out_.text), end_(out_.text + out_.size) {}

  bool parse() {
    out_.bodies = out_.frames = out_.line = 0;
    if (!begin() || !count(Rule::number_of_frames, 0, kMostFrames, &out_.frames)) return false;
    for (int64_t frame = 0; frame < out_.frames; ++frame) {
      int64_t bodies;
      if (!count(Rule::number_of_bodies, 0, kMostBodies, &bodies)) return false;
      for (int64_t i = 0; i < bodies; ++i)
        if (!body(static_cast<int32_t>(frame))) return false;
    }
    while (next_ < end_)
      if (next_line(Rule::end) && words_) return fail(Rule::end, line_, line_end_);
    out_.broken = Rule::none;
    return true;
  }

 private:
  bool fail(Rule rule, const char* found, const char* found_end) {
    out_.broken = rule;
    out_.found = found;
    out_.found_end = found_end;
    return false;
  }

  bool begin() {
    const auto starts_with = [this](const char* mark, size_t length) {
      return out_.size >= length && __builtin_memcmp(next_, mark, length) == 0;
    };
    out_.line = 1;
    if (starts_with("\xFF\xFE", 2) || starts_with("\xFE\xFF", 2)) return fail(Rule::not_utf16, next_, next_ + 2);
    if (starts_with("\xEF\xBB\xBF", 3)) next_ += 3;
    out_.line = 0;
    return true;
  }

  // Goes to the next line and counts its words; false at the end of the text.
  ASMA_INLINE bool next_line(Rule wanted) {
    ++out_.line;
    if (next_ >= end_) return fail(wanted, end_, end_);
    line_ = next_;
    words_ = 0;
    Masks masks = masks_of(line_);
    blank_ = masks.blank;
    const char* block = line_;
    for (uint64_t after_blank = 1;; after_blank = masks.blank >> 63, masks = masks_of(block += 64)) {
      const uint64_t begins = ~masks.blank & (masks.blank << 1 | after_blank);
      // All bits below the first '\n', or all.
      words_ += __builtin_popcountll(begins & (masks.newline - 1) & ~masks.newline);
      if (masks.newline) {
        line_end_ = block + __builtin_ctzll(masks.newline);
        next_ = line_end_ + 1;
        return true;
      }
    }
  }

  // A line of one integer in [least, most].
  bool count(Rule rule, int64_t least, int64_t most, int64_t* value) {
    if (!next_line(rule)) return false;
    const Word word = word_after(line_, line_end_);
    if (words_ == 1 && parse_integer(word.begin, word.end, value) && *value >= least && *value <= most) return true;
    return fail(rule, line_, line_end_);
  }

  bool body(int32_t frame) {
    if (!next_line(Rule::body)) return false;
    if (words_ != kBodyWords) return fail(Rule::body, line_, line_end_);
    const Word word = word_after(line_, line_end_);
    if (!parse_unsigned(word.begin, word.end, out_.id + out_.bodies)) return fail(Rule::id, word.begin, word.end);
    out_.frame[out_.bodies] = frame;
    int64_t joints;
    if (!count(Rule::number_of_joints, kJoints, kJoints, &joints)) return false;
    quotients_.hard = 0;
    for (int number = 0; number < kNumbers; number += 3)
      if (!joint(number)) return false;
    float* const xyz = out_.xyz + kNumbers * out_.bodies;
    for (int i = 0; i < kNumbers; ++i) {
      const double dividend = quotients_.upper[i] * 1e8 + quotients_.lower[i];
      xyz[i] = static_cast<float>(dividend / quotients_.divisor[i]);
    }
    for (int i = 0; i < quotients_.hard; ++i) xyz[quotients_.place[i]] = quotients_.value[i];
    ++out_.bodies;
    return true;
  }

  ASMA_INLINE bool joint(int number) {
    if (!next_line(Rule::joint)) return false;
    if (words_ != kJointWords) return fail(Rule::joint, line_, line_end_);
    uint64_t begins = ~blank_ & (blank_ << 1 | 1), ends = blank_ & ~blank_ << 1;
    const char* before = line_;
    for (int axis = 0; axis < 3; ++axis) {
      Word word;
      if (ends) {
        word = {line_ + __builtin_ctzll(begins), line_ + __builtin_ctzll(ends)};
        begins &= begins - 1;
        ends &= ends - 1;
      } else {
        word = word_after(before, line_end_);  // beyond the first block
      }
      before = word.end;
      const int place = number + axis;
      if (parse_metres(word.begin, word.end, place, &quotients_)) continue;
      if (!parse_float(word.begin, word.end, quotients_.value + quotients_.hard))
        return fail(static_cast<Rule>(static_cast<int>(Rule::x) + axis), word.begin, word.end);
      quotients_.place[quotients_.hard++] = place;
      quotients_.upper[place] = quotients_.lower[place] = 0;
      quotients_.divisor[place] = 1;
    }
    return true;
  }

  NtuSkeleton& out_;
  const char *next_, *end_;
  const char *line_ = nullptr, *line_end_ = nullptr;
  uint64_t blank_ = 0;  // of the first block of the line
  int words_ = 0;
  Quotients quotients_;
};

}  // namespace

bool parse_ntu_skeleton(NtuSkeleton* skeleton) { return Parser(skeleton).parse(); }

}  // namespace ASMA_ISA
}  // namespace asma
