// The model file, and the model that its bytes describe. docs/edge.md has the format in words; src/asma/edge_file.py
// writes it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "asma_edge.h"
#include "network.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is mapped as it is, and it is little endian");

namespace asma::edge {

constexpr char kMagic[8] = {'A', 'S', 'M', 'A', 'E', 'D', 'G', 'E'};
constexpr std::uint32_t kFormat = 2;
constexpr std::size_t kChecked = 16;    // the checksum is of the bytes from here on
constexpr std::size_t kAlignment = 64;  // of every section

struct FileHeader {
  char magic[8];
  std::uint32_t format, checksum;
  std::uint64_t size;
  std::uint32_t channels, frames, joints, persons;
  std::uint32_t encoders, blocks, partitions, segments;
  std::uint32_t hidden, classes;
  std::uint32_t prepares, centre, centre_joint, face, left, right, scale, bones, stream;
  std::uint32_t name_bytes;
  std::uint32_t precision;
  std::uint32_t reserved[5];
};
static_assert(sizeof(FileHeader) == 128, "the file is mapped as it is");

struct FileBlock {
  std::uint32_t in, out, taps, stride, residual, nonzeros, reserved[2];
};
static_assert(sizeof(FileBlock) == 32, "the file is mapped as it is");

enum class Precision : std::uint32_t { float32 = 0, bfloat16 = 1, int8 = 2 };
enum class Centre : std::uint32_t { none = 0, frame = 1, clip = 2 };
enum class Stream : std::uint32_t { joint = 0, bone = 1, motion = 2 };

constexpr std::uint32_t kMostEncoders = 2, kMostBlocks = 64, kMostPersons = 8;

// A block's weights, of the header's precision; the shapes are Block's.
struct StoredWeights {
  const void *weight, *conv, *shortcut;  // shortcut is null where there is none
  // Of int8 alone: the step of the weights that lead to each channel out (D), and the steps of what is multiplied by
  // them: of rows of the graph convolution, of the convolution over frames, of the shortcut.
  const float *weight_step, *conv_step, *shortcut_step;
  const float* steps;
};
constexpr std::uint64_t kRowSteps = 3;

// Pointers into the file. What has them must not outlive its bytes.
struct Contents {
  const FileHeader* header;
  const char* names;           // the classes' and then the joints', each ends with 0
  const std::uint32_t* bones;  // pairs of joints
  const std::uint32_t* parents;
  Encoder encoders[kMostEncoders];
  Block blocks[kMostEncoders * kMostBlocks];  // one encoder's after the other's; without their weights
  StoredWeights weights[kMostEncoders * kMostBlocks];
  const float *hidden_weight, *hidden_bias;  // (features, hidden), (hidden); null where hidden is 0
  const float *head_weight, *head_bias;      // (features or hidden, classes), (classes)
  std::int64_t features;
};

// All that can be wrong with a file is found here: afterwards every index is in its range, every array is whole and no
// size overflows.
asma_edge_code read_contents(const std::uint8_t* bytes, std::size_t size, Contents* contents, asma_edge_error* error);

// Writes the sentence; returns the code.
asma_edge_code refuse(asma_edge_error* error, asma_edge_code code, const char* format, ...)
    __attribute__((format(printf, 3, 4)));
asma_edge_code accept(asma_edge_error* error);

}  // namespace asma::edge
