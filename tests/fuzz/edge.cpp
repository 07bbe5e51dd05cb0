// libFuzzer's target: no file, whatever it says, and no skeleton, whatever its numbers, makes the engine touch a byte
// that is not its own. The input is a model file: one in eight is tried as it is, the others with the beginning, the
// size and the checksum that they should have. Its bytes are then the coordinates that are pushed.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../../csrc/edge/asma_edge.h"
#include "../../csrc/edge/checksum.h"
#include "../../csrc/edge/file.h"

namespace {

constexpr std::size_t kChecksum = 12, kSize = 16, kSizes = 24, kHeader = 128;
// Frames times joints times persons of a clip that is still run: more of them only take long. What is done with each is
// bounded by the length of the file, which has the weights.
constexpr std::uint64_t kLargest = 512;
constexpr std::uint64_t kLargestLive = 1 << 19;  // bytes of a live stream that is still run
constexpr std::size_t kLiveFrames = 40;          // some more than most seeds take for a full answer

void need(bool truth, const char* rule) {
  if (truth) return;
  std::fprintf(stderr, "%s\n", rule);
  std::abort();
}

struct Floats {
  explicit Floats(std::size_t count) : at(static_cast<float*>(std::malloc(count * sizeof(float) + 1))) {}
  ~Floats() { std::free(at); }
  float* at;
};

void check(int code, const asma_edge_error& error) {
  need((code == ASMA_EDGE_OK) == (error.sentence[0] == 0), "a code without a sentence, or a sentence without a code");
  need(std::memchr(error.sentence, 0, sizeof(error.sentence)) != nullptr, "a sentence without an end");
}

// A stream of a model, one that takes windows or a live one, with an input's bytes as their coordinates.
struct Run {
  const asma_edge_model* model;
  const std::uint8_t* data;
  std::size_t size;
  asma_edge_description is;
  std::size_t frame, prepared;
  // In memory no longer than promised, so that the address sanitizer sees every step over an end.
  Floats xyz, x, probabilities, logits;
  asma_edge_error error;

  Run(const asma_edge_model* model_, const std::uint8_t* data_, std::size_t size_, const asma_edge_description& is_)
      : model(model_),
        data(data_),
        size(size_),
        is(is_),
        frame(std::size_t{is.persons} * is.joints * 3),
        prepared(std::size_t{is.channels} * is.frames * is.joints * is.persons),
        xyz(frame),
        x(prepared),
        probabilities(is.classes),
        logits(is.classes) {}

  void fill(float* to, std::size_t count, std::size_t skip) {
    for (std::size_t i = 0; i < count; ++i) std::memcpy(to + i, data + (skip + 4 * i) % (size - 3), 4);
  }

  void answered(int code) {
    check(code, error);
    for (std::uint32_t i = 0; code == ASMA_EDGE_OK && i < is.classes; ++i)
      need(std::isfinite(logits.at[i]) && probabilities.at[i] >= 0 && probabilities.at[i] <= 1.00001f, "an answer");
  }

  void windows(std::uint32_t way) {
    asma_edge_stream* stream;
    const int started = asma_edge_start(model, 1 + size % 7, &stream, &error);
    check(started, error);
    if (started) return;
    for (std::size_t t = 0; t < 9; ++t) {
      fill(xyz.at, frame, t * 13);
      check(asma_edge_push(stream, xyz.at, data[t % size], &error), error);
    }
    if (way == 0) answered(asma_edge_predict(stream, probabilities.at, logits.at, &error));
    if (way == 1) answered(asma_edge_predict_clip(stream, xyz.at, nullptr, 1, probabilities.at, logits.at, &error));
    if (way == 2) {
      fill_prepared(prepared, 5);
      answered(asma_edge_predict_prepared(stream, x.at, probabilities.at, logits.at, &error));
    }
    asma_edge_stop(stream);
  }

  void live() {
    asma_edge_live_description of;
    const std::uint32_t window = 1 + size % 7;
    asma_edge_describe_live(model, window, &of);
    need(of.first <= of.full && of.stride > 0, "how a live stream stands in time");
    if (of.stream_bytes > kLargestLive) return;
    asma_edge_stream* stream;
    const int started = asma_edge_start_live(model, window, &stream, &error);
    check(started, error);
    if (started) return;
    const bool prepares = is.prepares != 0;
    std::size_t taken = 0;
    for (std::size_t t = 0; t < kLiveFrames; ++t) {
      fill(xyz.at, frame, t * 13);
      fill_prepared(prepared / is.frames, t * 7);
      // Some frames without anybody, many in a row, so that persons come and go.
      const std::uint32_t present = t % 24 < 12 ? data[t % size] : 0;
      const int code =
          prepares ? asma_edge_push(stream, xyz.at, present, &error) : asma_edge_push_prepared(stream, x.at, &error);
      check(code, error);
      taken += code == ASMA_EDGE_OK;
      const int said = asma_edge_predict(stream, probabilities.at, logits.at, &error);
      answered(said);
      need((said == ASMA_EDGE_NO_FRAME) == (taken < of.first), "an answer too early or too late");
      if (t == kLiveFrames / 2 && size % 2) {
        asma_edge_reset(stream);
        taken = 0;
      }
    }
    asma_edge_stop(stream);
  }

 private:
  void fill_prepared(std::size_t count, std::size_t skip) {
    fill(x.at, count, skip);
    for (std::size_t i = 0; i < count; ++i) x.at[i] = std::isfinite(x.at[i]) ? x.at[i] : 1.0f;
  }
};

// One of the four ways to an answer, by `choice`: the network behind them is the same.
void run(const asma_edge_model* model, const std::uint8_t* data, std::size_t size, std::uint32_t choice) {
  asma_edge_description is;
  asma_edge_describe(model, &is);
  for (std::uint32_t i = 0; i < is.classes; ++i) need(std::strlen(asma_edge_class(model, i)) < size, "a name");
  for (std::uint32_t i = 0; i < is.joints; ++i) need(std::strlen(asma_edge_joint(model, i)) < size, "a name");
  if (std::uint64_t{is.frames} * is.joints * is.persons > kLargest) return;
  Run streams(model, data, size, is);
  if (choice % 4 == 3) streams.live();
  else streams.windows(choice % 4);
}

void open(const std::uint8_t* bytes, std::size_t size, std::uint32_t choice) {
  asma_edge_model* model;
  asma_edge_error error;
  const int code = asma_edge_open_memory(bytes, size, &model, &error);
  check(code, error);
  need((model != nullptr) == (code == ASMA_EDGE_OK), "a model in spite of a code, or none without one");
  if (code == ASMA_EDGE_OK) run(model, bytes, size, choice);
  asma_edge_close(model);
}

// Writes what a file of this size must begin with; returns the checksum.
std::uint32_t seal(std::uint8_t* bytes, std::size_t size) {
  const std::uint32_t format = asma::edge::kFormat;
  const std::uint64_t whole = size;
  std::memcpy(bytes, asma::edge::kMagic, sizeof(asma::edge::kMagic));
  std::memcpy(bytes + sizeof(asma::edge::kMagic), &format, sizeof(format));
  std::memcpy(bytes + kSize, &whole, sizeof(whole));
  const std::uint32_t sum = asma::edge::crc32(bytes + kSize, size - kSize);
  std::memcpy(bytes + kChecksum, &sum, sizeof(sum));
  return sum;
}

}  // namespace

// Memory that was freed is kept back for less long: every execution allocates little and frees all of it.
extern "C" const char* __asan_default_options() { return "quarantine_size_mb=4"; }

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

// Half of the mutations change one word, mostly of the sizes, and leave the others where they were: a byte that is
// added or taken away anywhere moves all sections behind it, and such a file is refused before much was read.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                               unsigned int seed) {
  if (seed % 2 || size < kHeader) return LLVMFuzzerMutate(data, size, most);
  const std::size_t end = seed / 2 % 4 ? kHeader + 64 : size, words = ((end < size ? end : size) - kSizes) / 4;
  LLVMFuzzerMutate(data + kSizes + seed / 8 % words * 4, 4, 4);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  void* memory;
  // Exactly as long as the file: the sanitizer guards what lies behind it.
  if (posix_memalign(&memory, 64, size ? size : 1) != 0) return 0;
  std::uint8_t* const bytes = static_cast<std::uint8_t*>(memory);
  if (size) std::memcpy(bytes, data, size);
  const bool as_it_is = size < kHeader || size % 8 == 1;
  open(bytes, size, as_it_is ? 0 : seal(bytes, size));
  std::free(bytes);
  return 0;
}
