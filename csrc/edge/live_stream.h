// What a live stream keeps, and how it stands in time.
#pragma once
#include "live.h"
#include "memory.h"
#include "model.h"
#include "prepare.h"

namespace asma::edge {

// Numbers of frames; UINT32_MAX stands for more.
struct LiveTiming {
  std::uint32_t first;    // pushed, for the first answer
  std::uint32_t full;     // pushed, for an answer that sees nothing from before the first frame
  std::uint32_t stride;   // from one new answer to the next
  std::uint32_t settled;  // all alike, after which another one changes nothing
};
LiveTiming live_timing(const asma_edge_model& model, std::uint32_t window);

class Live {
 public:
  // Lies in the memory with its arrays; null where they are only counted.
  static Live* take(const asma_edge_model& model, std::uint32_t window, Memory* memory);

  void reset();
  // xyz (M, V, 3), finite for those who are present.
  void push(const float* xyz, std::uint32_t present);
  // x (C, V, M)
  void push_prepared(const float* x);
  bool answers() const;  // whether there are features
  void features(float* out) const;
  const LiveTiming& timing() const { return timing_; }

 private:
  void step();

  const Contents* contents_;
  LiveTiming timing_;
  LiveEncoder encoders_[kMostEncoders];
  float *frame_, *before_, *scratch_;  // (M, V, C), twice; of prepare
  bool waits_;                         // motion: `before_` is a frame
  Placement placement_;
  std::uint32_t away_[kMostPersons];  // frames since a person was there
  void (*push_)(LiveEncoder&, const float*, std::int64_t, std::int64_t);
  void (*features_)(const LiveEncoder&, float*);
};

}  // namespace asma::edge
