// What asma_edge_open makes.
#pragma once
#include "file.h"

struct asma_edge_model {
  asma::edge::Contents contents;
  asma::edge::Room room;  // of the encoder that needs most
  const char** names;     // of the classes and then of the joints
  void* mapped;           // null where the bytes are the caller's
  std::uint64_t file_bytes, own_bytes;
};

namespace asma::edge {

// Of a stream: its arrays, at `memory`, or null to count them. The bytes that they take.
struct StreamArrays {
  float* ring;             // (window, M, V, 3)
  std::uint32_t* present;  // (window)
  float* x;                // (M, T, V, C)
  float* scratch;          // of prepare
  Work work;
  float *features, *absent;  // of one person: (F); of a person who is not there
  float *total, *hidden, *logits;
};
std::uint64_t stream_arrays(const asma_edge_model& model, std::uint32_t window, void* memory, StreamArrays* arrays);

}  // namespace asma::edge
