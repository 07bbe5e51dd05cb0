// The network of a live stream, frame by frame: each block keeps what its convolution over frames still needs, so that
// one more frame costs one frame. It gives what the network gives for the whole sequence, with zeros before its first
// frame as in training, taps / 2 of its frames late in each block.
//
// Source: Hedegaard, Heidari, Iosifidis, "Continual Spatio-Temporal Graph Convolutional Networks", arXiv 2203.11009.
#pragma once
#include "network.h"

namespace asma::edge {

struct LiveBlock {
  std::int64_t waiting;   // frames of the input that are kept: the residual waits for them
  float* inputs;          // ring of them, (M, V, C)
  float* hidden;          // ring of the newest `taps` frames (M, V, D), after the graph convolution
  std::int64_t received;  // frames so far
};

struct LiveEncoder {
  const Encoder* encoder;
  LiveBlock* blocks;
  std::int64_t persons;
  std::int64_t kept;      // T', frames of the last block that an answer is made of
  std::int64_t received;  // from the last block so far
  float* aggregated;      // (K, M, V, C) of any block
  float* out;             // (M, V, D), the last block's newest frame
  float* sums;            // (M, D), of `out` over joints
  float* frames;          // ring of the newest T' (D), sums over joints and persons
};

}  // namespace asma::edge

ASMA_DECLARE_KERNEL(
    // One more frame x (M, V, C). Persons outside [first, last) are as they were in all frames that are kept.
    void edge_live_push(::asma::edge::LiveEncoder& live, const float* x, int64_t first, int64_t last);
    // out (segments, D of the last block), means over joints, persons and the frames of each segment
    void edge_live_features(const ::asma::edge::LiveEncoder& live, float* out);)
