#include "philox.h"

namespace asma {
namespace ASMA_ISA {

void philox(Philox random, int64_t* words, int64_t columns, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row)
    for (int64_t column = 0; column < columns; ++column)
      words[row * columns + column] = random.word(static_cast<uint32_t>(column), static_cast<uint32_t>(row));
}

}  // namespace ASMA_ISA
}  // namespace asma
