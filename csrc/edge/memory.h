// One block of memory for all arrays of a model or a stream: counted first, then allocated, then handed out.
#pragma once
#include <cstdint>
#include <cstdlib>

#include "asma_edge.h"
#include "file.h"

namespace asma::edge {

class Memory {
 public:
  // Without a base it counts.
  explicit Memory(void* base = nullptr) : base_(static_cast<std::uint8_t*>(base)) {}

  template <class T> T* take(std::int64_t count) {
    const std::uint64_t size = static_cast<std::uint64_t>(count) * sizeof(T);
    T* const found = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (size + kAlignment - 1) / kAlignment * kAlignment;
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
