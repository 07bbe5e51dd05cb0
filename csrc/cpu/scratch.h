// Working memory of one chunk: aligned for any vector, freed at scope end. Without std::, because weak inline
// functions of the standard library must not be compiled for an instruction set that older processors lack.
#pragma once
#include <stdint.h>
#include <stdlib.h>

namespace asma {
namespace ASMA_ISA {

template <class T> struct Scratch {
  T* data;
  explicit Scratch(int64_t count) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, static_cast<size_t>(count > 0 ? count : 1) * sizeof(T)) != 0) abort();
    data = static_cast<T*>(memory);
  }
  ~Scratch() { free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T& operator[](int64_t index) const { return data[index]; }
  void zero(int64_t count) {
    for (int64_t i = 0; i < count; ++i) data[i] = T{};
  }
};

}  // namespace ASMA_ISA
}  // namespace asma
