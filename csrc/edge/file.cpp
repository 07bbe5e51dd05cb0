#include "file.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "checksum.h"

namespace asma::edge {
namespace {

constexpr float kLeastStep = 1e-18f, kMostStep = 1e18f;
// 2^31 over 128, the largest weight, and over the largest row.
constexpr std::uint32_t kMostSummedRows = (1u << 24) / (kMostRow + 1), kMostSummedKept = (1u << 24) / (kMostKept + 1);

struct Limit {
  const char* name;
  std::uint32_t found, least, most;
};

// Takes the sections one after the other; once one is not whole, all are null.
class Sections {
 public:
  Sections(const std::uint8_t* bytes, std::size_t size) : bytes_(bytes), size_(size) {}

  template <class T> const T* take(std::uint64_t count) {
    // Limits of the sizes keep count below 2^40.
    const std::uint64_t wanted = count * sizeof(T), padded = (wanted + kAlignment - 1) / kAlignment * kAlignment;
    if (!whole_ || padded > size_ - at_) {
      whole_ = false;
      return nullptr;
    }
    const T* const found = reinterpret_cast<const T*>(bytes_ + at_);
    for (std::uint64_t i = wanted; i < padded; ++i) clean_ = clean_ && bytes_[at_ + i] == 0;
    at_ += static_cast<std::size_t>(padded);
    return found;
  }
  bool whole() const { return whole_; }
  bool clean() const { return clean_; }
  bool at_end() const { return at_ == size_; }

 private:
  const std::uint8_t* bytes_;
  std::size_t size_, at_ = 0;
  bool whole_ = true, clean_ = true;
};

asma_edge_code check_limits(const Limit* limits, std::size_t count, const char* where, asma_edge_error* error) {
  for (std::size_t i = 0; i < count; ++i) {
    const Limit& each = limits[i];
    if (each.found < each.least || each.found > each.most)
      return refuse(error, each.found > each.most ? ASMA_EDGE_TOO_LARGE : ASMA_EDGE_DAMAGED,
                    "edge: %s%s must be in [%u, %u], the file says %u", where, each.name, each.least, each.most,
                    each.found);
  }
  return ASMA_EDGE_OK;
}
template <std::size_t Count>
asma_edge_code check_limits(const Limit (&limits)[Count], const char* where, asma_edge_error* error) {
  return check_limits(limits, Count, where, error);
}

asma_edge_code check_start(const std::uint8_t* bytes, std::size_t size, asma_edge_error* error) {
  const FileHeader& header = *reinterpret_cast<const FileHeader*>(bytes);
  if (size < sizeof(kMagic) || std::memcmp(bytes, kMagic, sizeof(kMagic)) != 0)
    return refuse(error, ASMA_EDGE_NOT_A_MODEL, "edge: this is no model file: it must begin with ASMAEDGE");
  if (size < sizeof(FileHeader))
    return refuse(error, ASMA_EDGE_DAMAGED, "edge: the file is cut: it has %zu bytes, its header alone has %zu", size,
                  sizeof(FileHeader));
  if (header.format != kFormat)
    return refuse(error, ASMA_EDGE_OTHER_FORMAT,
                  "edge: the file has format %u, this engine reads %u: export the model again, or take another engine",
                  header.format, kFormat);
  if (header.size != size)
    return refuse(error, ASMA_EDGE_DAMAGED, "edge: the file must have %llu bytes, it has %zu",
                  static_cast<unsigned long long>(header.size), size);
  const std::uint32_t sum = crc32(bytes + kChecked, size - kChecked);
  if (sum != header.checksum)
    return refuse(error, ASMA_EDGE_DAMAGED, "edge: the file is damaged: its checksum is %08x, it says %08x", sum,
                  header.checksum);
  for (const std::uint32_t word : header.reserved)
    if (word != 0) return refuse(error, ASMA_EDGE_DAMAGED, "edge: reserved words must be 0, the file has %u", word);
  return ASMA_EDGE_OK;
}

asma_edge_code check_header(const FileHeader& h, asma_edge_error* error) {
  const std::uint32_t last = h.joints - 1;
  const Limit limits[] = {
      {"channels", h.channels, 1, 256},
      {"frames", h.frames, 1, 1 << 16},
      {"joints", h.joints, 1, 4096},
      {"persons", h.persons, 1, kMostPersons},
      {"encoders", h.encoders, 1, kMostEncoders},
      {"blocks", h.blocks, 1, kMostBlocks},
      {"partitions", h.partitions, 1, static_cast<std::uint32_t>(kMostPartitions)},
      {"segments", h.segments, 1, 1 << 12},
      {"hidden", h.hidden, 0, 1 << 16},
      {"classes", h.classes, 1, 1 << 16},
      {"prepares", h.prepares, 0, 1},
      {"centre", h.centre, 0, 2},
      {"face", h.face, 0, 1},
      {"scale", h.scale, 0, 1},
      {"stream", h.stream, 0, 2},
      {"name_bytes", h.name_bytes, 1, 1 << 24},
      {"precision", h.precision, 0, 2},
      {"bones", h.bones, h.scale, 1 << 16},
  };
  if (const asma_edge_code code = check_limits(limits, "", error)) return code;
  const Limit joints[] = {
      {"centre_joint", h.centre_joint, 0, last}, {"left", h.left, 0, last}, {"right", h.right, 0, last}};
  for (const Limit& each : joints)
    if (each.found > each.most)
      return refuse(error, ASMA_EDGE_DAMAGED, "edge: %s must be a joint in [0, %u), the file says %u", each.name,
                    h.joints, each.found);
  if (h.face && h.left == h.right)
    return refuse(error, ASMA_EDGE_DAMAGED, "edge: left and right must differ, the file says %u for both", h.left);
  if (h.prepares && h.channels != 3)
    return refuse(error, ASMA_EDGE_DAMAGED, "edge: channels must be 3 where the engine prepares, the file says %u",
                  h.channels);
  return ASMA_EDGE_OK;
}

asma_edge_code check_names(const Contents& contents, asma_edge_error* error) {
  const FileHeader& h = *contents.header;
  std::uint32_t ends = 0;
  for (std::uint32_t i = 0; i < h.name_bytes; ++i) ends += contents.names[i] == 0;
  if (ends != h.classes + h.joints || contents.names[h.name_bytes - 1] != 0)
    return refuse(error, ASMA_EDGE_DAMAGED, "edge: names must be %u, one a class and joint, the file has %u",
                  h.classes + h.joints, ends);
  return ASMA_EDGE_OK;
}

asma_edge_code check_joints(const char* name, const std::uint32_t* joints, std::uint64_t count, std::uint32_t most,
                            asma_edge_error* error) {
  for (std::uint64_t i = 0; i < count; ++i)
    if (joints[i] >= most)
      return refuse(error, ASMA_EDGE_DAMAGED, "edge: %s must be joints in [0, %u), the file has %u", name, most,
                    joints[i]);
  return ASMA_EDGE_OK;
}

asma_edge_code check_graph(const Block& block, std::uint64_t cells, std::uint32_t nonzeros, std::uint32_t joints,
                           asma_edge_error* error) {
  bool rising = block.starts[0] == 0 && block.starts[cells] == nonzeros;
  for (std::uint64_t i = 0; i < cells; ++i) rising = rising && block.starts[i] <= block.starts[i + 1];
  if (!rising)
    return refuse(error, ASMA_EDGE_DAMAGED, "edge: starts of a graph must rise from 0 to its %u nonzeros", nonzeros);
  return check_joints("sources of a graph", block.source, nonzeros, joints, error);
}

// The sizes of one encoder's blocks, which follow one another.
asma_edge_code check_blocks(const FileHeader& h, const FileBlock* blocks, asma_edge_error* error) {
  std::uint32_t in = h.channels;
  for (std::uint32_t b = 0; b < h.blocks; ++b) {
    const FileBlock& block = blocks[b];
    const Limit limits[] = {
        {"in", block.in, 1, 1 << 12},
        {"out", block.out, 1, 1 << 12},
        {"taps", block.taps, 1, static_cast<std::uint32_t>(kMostTaps)},
        {"stride", block.stride, 1, 1 << 8},
        {"residual", block.residual, 0, 2},
        {"nonzeros", block.nonzeros, 0, 1 << 20},
        {"reserved", block.reserved[0] | block.reserved[1], 0, 0},
    };
    if (const asma_edge_code code = check_limits(limits, "a block's ", error)) return code;
    // Sums of integers stay below 2^31.
    const std::uint64_t rows = std::uint64_t{h.partitions} * block.in, kept = std::uint64_t{block.taps} * block.out;
    if (h.precision == static_cast<std::uint32_t>(Precision::int8) &&
        (rows > kMostSummedRows || kept > kMostSummedKept))
      return refuse(
          error, ASMA_EDGE_TOO_LARGE,
          "edge: an int8 block may sum %u products over a graph and %u over frames, block %u has %llu and %llu",
          kMostSummedRows, kMostSummedKept, b, static_cast<unsigned long long>(rows),
          static_cast<unsigned long long>(kept));
    if (block.in != in)
      return refuse(error, ASMA_EDGE_DAMAGED, "edge: block %u takes %u channels, the one before gives %u", b, block.in,
                    in);
    if (block.taps % 2 == 0)
      return refuse(error, ASMA_EDGE_DAMAGED, "edge: taps must be odd, block %u has %u", b, block.taps);
    if (block.residual == 1 && (block.in != block.out || block.stride != 1))
      return refuse(error, ASMA_EDGE_DAMAGED, "edge: block %u cannot add its input: %u channels to %u by stride %u", b,
                    block.in, block.out, block.stride);
    in = block.out;
  }
  return ASMA_EDGE_OK;
}

// Finite and more than nothing, so that what is divided by them is finite too.
asma_edge_code check_steps(const float* steps, std::uint64_t count, asma_edge_error* error) {
  for (std::uint64_t i = 0; i < count; ++i)
    if (!(steps[i] >= kLeastStep && steps[i] <= kMostStep))
      return refuse(error, ASMA_EDGE_DAMAGED, "edge: steps must be in [%g, %g], the file has %g",
                    static_cast<double>(kLeastStep), static_cast<double>(kMostStep), static_cast<double>(steps[i]));
  return ASMA_EDGE_OK;
}

const void* take_numbers(Precision precision, std::uint64_t count, Sections* sections) {
  switch (precision) {
    case Precision::float32: return sections->take<float>(count);
    case Precision::bfloat16: return sections->take<std::uint16_t>(count);
    case Precision::int8: return sections->take<std::int8_t>(count);
  }
  return nullptr;
}

asma_edge_code take_steps(const FileBlock& size, Sections* sections, StoredWeights* weights, asma_edge_error* error) {
  const bool shortcut = weights->shortcut;
  weights->steps = sections->take<float>(kRowSteps);
  weights->weight_step = sections->take<float>(size.out);
  weights->conv_step = sections->take<float>(size.out);
  if (shortcut) weights->shortcut_step = sections->take<float>(size.out);
  if (!sections->whole()) return ASMA_EDGE_OK;
  if (const asma_edge_code code = check_steps(weights->steps, kRowSteps, error)) return code;
  if (const asma_edge_code code = check_steps(weights->weight_step, size.out, error)) return code;
  if (const asma_edge_code code = check_steps(weights->conv_step, size.out, error)) return code;
  return shortcut ? check_steps(weights->shortcut_step, size.out, error) : ASMA_EDGE_OK;
}

asma_edge_code take_encoder(const FileHeader& h, const FileBlock* sizes, Sections* sections, Block* blocks,
                            StoredWeights* weights, Encoder* encoder, asma_edge_error* error) {
  const Precision precision = static_cast<Precision>(h.precision);
  const std::uint64_t V = h.joints, K = h.partitions;
  *encoder = {sections->take<float>(V * h.channels),
              sections->take<float>(V * h.channels),
              blocks,
              h.blocks,
              h.joints,
              h.partitions,
              h.channels,
              h.frames,
              h.segments,
              sizes[h.blocks - 1].out,
              Operands::numbers};
  std::int64_t frames = h.frames;
  for (std::uint32_t b = 0; b < h.blocks; ++b) {
    const FileBlock& size = sizes[b];
    const std::uint64_t C = size.in, D = size.out;
    Block& block = blocks[b];
    block = {};
    block.in = size.in;
    block.out = size.out;
    block.taps = size.taps;
    block.stride = size.stride;
    block.residual = static_cast<Residual>(size.residual);
    block.fast = is_fast(size.taps, size.stride, frames) &&
                 (precision != Precision::int8 || size.out <= static_cast<std::uint32_t>(kMostFastIntegers));
    block.frames_in = frames;
    block.frames_out = frames = (frames - 1) / size.stride + 1;
    block.starts = sections->take<std::uint32_t>(V * K + 1);
    block.source = sections->take<std::uint32_t>(size.nonzeros);
    block.value = sections->take<float>(size.nonzeros);
    StoredWeights& stored = weights[b];
    stored = {};
    stored.weight = take_numbers(precision, K * C * D, sections);
    block.base = sections->take<float>(V * D);
    stored.conv = take_numbers(precision, size.taps * D * D, sections);
    block.bias = sections->take<float>(D);
    if (block.residual == Residual::shortcut) stored.shortcut = take_numbers(precision, C * D, sections);
    if (precision == Precision::int8)
      if (const asma_edge_code code = take_steps(size, sections, &stored, error)) return code;
    if (!sections->whole()) break;
    if (const asma_edge_code code = check_graph(block, V * K, size.nonzeros, h.joints, error)) return code;
  }
  return ASMA_EDGE_OK;
}

}  // namespace

asma_edge_code refuse(asma_edge_error* error, asma_edge_code code, const char* format, ...) {
  if (error) {
    va_list values;
    va_start(values, format);
    std::vsnprintf(error->sentence, sizeof(error->sentence), format, values);
    va_end(values);
  }
  return code;
}

asma_edge_code accept(asma_edge_error* error) {
  if (error) error->sentence[0] = 0;
  return ASMA_EDGE_OK;
}

asma_edge_code read_contents(const std::uint8_t* bytes, std::size_t size, Contents* contents, asma_edge_error* error) {
  if (const asma_edge_code code = check_start(bytes, size, error)) return code;
  const FileHeader& h = *reinterpret_cast<const FileHeader*>(bytes);
  if (const asma_edge_code code = check_header(h, error)) return code;
  const char* const cut = "edge: the file's sections must have the sizes that its header says, %s";
  Sections sections(bytes, size);
  contents->header = sections.take<FileHeader>(1);
  const FileBlock* const blocks = sections.take<FileBlock>(std::uint64_t{h.encoders} * h.blocks);
  contents->names = sections.take<char>(h.name_bytes);
  contents->bones = sections.take<std::uint32_t>(2 * std::uint64_t{h.bones});
  contents->parents = sections.take<std::uint32_t>(h.joints);
  if (!sections.whole()) return refuse(error, ASMA_EDGE_DAMAGED, cut, "it ends before them");
  if (const asma_edge_code code = check_names(*contents, error)) return code;
  if (const asma_edge_code code = check_joints("bones", contents->bones, 2ull * h.bones, h.joints, error)) return code;
  if (const asma_edge_code code = check_joints("parents", contents->parents, h.joints, h.joints, error)) return code;
  contents->features = 0;
  for (std::uint32_t e = 0; e < h.encoders; ++e)
    if (const asma_edge_code code = check_blocks(h, blocks + e * h.blocks, error)) return code;
  for (std::uint32_t e = 0; e < h.encoders; ++e) {
    const FileBlock* const sizes = blocks + e * h.blocks;
    if (const asma_edge_code code = take_encoder(h, sizes, &sections, contents->blocks + e * h.blocks,
                                                 contents->weights + e * h.blocks, &contents->encoders[e], error))
      return code;
    contents->features += static_cast<std::int64_t>(sizes[h.blocks - 1].out) * h.segments;
  }
  const std::uint64_t features = static_cast<std::uint64_t>(contents->features), hidden = h.hidden;
  contents->hidden_weight = hidden ? sections.take<float>(features * hidden) : nullptr;
  contents->hidden_bias = hidden ? sections.take<float>(hidden) : nullptr;
  contents->head_weight = sections.take<float>((hidden ? hidden : features) * h.classes);
  contents->head_bias = sections.take<float>(h.classes);
  if (!sections.whole()) return refuse(error, ASMA_EDGE_DAMAGED, cut, "it ends before them");
  if (!sections.at_end()) return refuse(error, ASMA_EDGE_DAMAGED, cut, "it goes on behind them");
  if (!sections.clean()) return refuse(error, ASMA_EDGE_DAMAGED, "edge: what lies between sections must be 0");
  return accept(error);
}

}  // namespace asma::edge
