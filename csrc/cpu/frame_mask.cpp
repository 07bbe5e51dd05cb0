#include "frame_mask.h"

#include "scratch.h"
#include "select.h"

namespace asma {
namespace ASMA_ISA {
namespace {

// removed (stay): which of the frames that energy left are removed by chance.
void draw_extra(const FrameMask& a, const Philox& random, int64_t row, int32_t* __restrict__ words, bool* removed) {
  const int64_t stay = a.T - a.drop;
  for (int64_t i = 0; i < stay; ++i)
    words[i] = ordered_key(random.word(static_cast<uint32_t>(i), static_cast<uint32_t>(row)));
  for (int64_t i = stay; i < padded(stay); ++i) words[i] = INT32_MAX;
  mark(smallest(words, stay, a.extra), words, stay, removed);
}

}  // namespace

template <class T>
void frame_mask(const FrameMask& a, Philox random, const T* energy, int64_t* kept, int64_t begin, int64_t end) {
  using Key = decltype(ordered_key(widen(T())));
  const int64_t stay = a.T - a.drop, left = stay - a.extra;
  // Dropping the least is dropping the most of the keys turned round: among equals the earlier frame stays both ways.
  const Key turn = a.low ? Key(-1) : Key(0);
  Scratch<Key> keys(padded(a.T));
  for (int64_t t = a.T; t < padded(a.T); ++t) keys[t] = ordered_key(acc_t<T>(__builtin_nan("")));
  Scratch<int32_t> words(padded(stay));
  // One more place each than is used: the loop below writes and reads without asking whether it is done.
  Scratch<bool> stays(a.T), removed(stay + 1);
  Scratch<int64_t> frames(left + 1);
  for (int64_t position = 0; position <= stay; ++position) removed[position] = false;
  if (a.extra > 0 && a.shared) draw_extra(a, random, 0, words.data, removed.data);

  for (int64_t clip = begin; clip < end; ++clip) {
    if (a.extra > 0 && !a.shared) draw_extra(a, random, clip, words.data, removed.data);
    const T* row = energy + clip * a.sn;
    for (int64_t t = 0; t < a.T; ++t) keys[t] = ordered_key(widen(row[t * a.st])) ^ turn;
    mark(smallest(keys.data, a.T, stay), keys.data, a.T, stays.data);
    int64_t position = 0, written = 0;
    for (int64_t t = 0; t < a.T; ++t) {
      frames[written] = t;
      written += stays[t] & !removed[position];
      position += stays[t];
    }
    int64_t* out = kept + clip * left;
    for (int64_t i = 0; i < left; ++i) out[i] = frames[i];
  }
}

#define INSTANTIATE(T) template void frame_mask<T>(const FrameMask&, Philox, const T*, int64_t*, int64_t, int64_t);
ASMA_FOR_EACH_FLOAT(INSTANTIATE)

}  // namespace ASMA_ISA
}  // namespace asma
