#include "token_mask.h"

#include "scratch.h"
#include "select.h"

namespace asma {
namespace ASMA_ISA {
namespace {

template <class Bits> struct Token {
  Bits key;
  uint32_t index;
};

// Sorts by key, equal keys in the order they come, byte by byte from the lowest; returns the one of both rooms that
// holds the result.
template <class Bits> Token<Bits>* sort(Token<Bits>* from, Token<Bits>* to, int64_t count) {
  constexpr int bytes = sizeof(Bits);
  uint32_t places[bytes][256] = {};
  for (int64_t i = 0; i < count; ++i)
    for (int byte = 0; byte < bytes; ++byte) ++places[byte][(from[i].key >> (8 * byte)) & 255];
  for (int byte = 0; byte < bytes; ++byte) {
    uint32_t* place = places[byte];
    if (count > 0 && place[(from[0].key >> (8 * byte)) & 255] == count) continue;  // all have the same byte
    uint32_t next = 0;
    for (int digit = 0; digit < 256; ++digit) {
      const uint32_t tokens = place[digit];
      place[digit] = next;
      next += tokens;
    }
    for (int64_t i = 0; i < count; ++i) to[place[(from[i].key >> (8 * byte)) & 255]++] = from[i];
    Token<Bits>* other = from;
    from = to;
    to = other;
  }
  return from;
}

// tau times the largest score that is a number.
template <class T> acc_t<T> denominator(const TokenMask& a, const T* score) {
  using A = acc_t<T>;
  A most = -static_cast<A>(__builtin_inf());
  for (int64_t i = 0; i < a.L; ++i) {
    const A value = widen(score[i * a.score_l]);
    most = value > most ? value : most;
  }
  return static_cast<A>(a.tau) * most;
}

}  // namespace

template <class T>
void token_mask(const TokenMask& a, Philox random, const T* score, const acc_t<T>* noise, int64_t* ids_keep,
                int64_t* ids_restore, T* mask, int64_t begin, int64_t end) {
  using A = acc_t<T>;
  using Bits = typename KeyBits<decltype(ordered_key(A()))>::type;
  constexpr Bits kSign = Bits(1) << (8 * sizeof(Bits) - 1);
  Scratch<A> drawn(a.L);
  Scratch<Token<Bits>> tokens(a.L), room(a.L);
  for (int64_t row = begin; row < end; ++row) {
    const T* scores = score + row * a.score_n;
    const A* added = noise ? noise + row * a.noise_n : drawn.data;
    const int64_t step = noise ? a.noise_l : 1;
    if (!noise)
      for (int64_t i = 0; i < a.L; ++i) drawn[i] = gumbel<A>(random, i, row);
    const A scale = denominator(a, scores);
    for (int64_t i = 0; i < a.L; ++i) {
      const A number = noisy_share(widen(scores[i * a.score_l]), scale, added[i * step]);
      tokens[i] = {static_cast<Bits>(ordered_key(number)) ^ kSign, static_cast<uint32_t>(i)};
    }
    const Token<Bits>* sorted = sort(tokens.data, room.data, a.L);
    for (int64_t rank = 0; rank < a.L; ++rank) {
      const int64_t place = row * a.L + sorted[rank].index;
      ids_restore[place] = rank;
      mask[place] = narrow<T>(rank < a.keep ? A(0) : A(1));
    }
    for (int64_t rank = 0; rank < a.keep; ++rank) ids_keep[row * a.keep + rank] = sorted[rank].index;
  }
}

#define INSTANTIATE(T)                                                                                              \
  template void token_mask<T>(const TokenMask&, Philox, const T*, const acc_t<T>*, int64_t*, int64_t*, T*, int64_t, \
                              int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
