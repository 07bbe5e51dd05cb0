// One block of memory for all arrays of a model or a stream: counted first, then allocated, then handed out.
#pragma once
#include <cstdint>
#include <cstdlib>

#include "asma_edge.h"
#include "file.h"

#ifdef ASMA_EDGE_GUARDED
#include <sanitizer/asan_interface.h>
#endif

namespace asma::edge {

// For the fuzz target: the address sanitizer sees steps over the end of an array, not only over that of the block.
#ifdef ASMA_EDGE_GUARDED
constexpr std::uint64_t kGuard = kAlignment;
inline void guard(const void* from, const void* to) {
  ASAN_POISON_MEMORY_REGION(from, static_cast<const std::uint8_t*>(to) - static_cast<const std::uint8_t*>(from));
}
#else
constexpr std::uint64_t kGuard = 0;
inline void guard(const void*, const void*) {}
#endif

class Memory {
 public:
  // Without a base it counts.
  explicit Memory(void* base = nullptr) : base_(static_cast<std::uint8_t*>(base)) {}

  template <class T> T* take(std::int64_t count) {
    const std::uint64_t size = static_cast<std::uint64_t>(count) * sizeof(T);
    T* const found = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    const std::uint64_t end = used_ + size;
    used_ += (size + kAlignment - 1) / kAlignment * kAlignment + kGuard;
    if (base_) guard(base_ + end, base_ + used_);
    return found;
  }
  std::uint64_t used() const { return used_; }

 private:
  std::uint8_t* base_;
  std::uint64_t used_ = 0;
};

// Aligned memory, or why there is none.
inline asma_edge_code allocate(const char* what, std::uint64_t bytes, void** memory, asma_edge_error* error) {
  if (bytes > ASMA_EDGE_MOST_MEMORY)
    return refuse(error, ASMA_EDGE_TOO_LARGE, "edge: %s may take %d bytes, this one needs %llu", what,
                  ASMA_EDGE_MOST_MEMORY, static_cast<unsigned long long>(bytes));
  if (posix_memalign(memory, kAlignment, static_cast<std::size_t>(bytes)) != 0)
    return refuse(error, ASMA_EDGE_NO_MEMORY, "edge: the system has no %llu bytes for %s",
                  static_cast<unsigned long long>(bytes), what);
  return ASMA_EDGE_OK;
}

}  // namespace asma::edge
