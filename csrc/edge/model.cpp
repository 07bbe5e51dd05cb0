#include "model.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "memory.h"
#include "weights.h"

using namespace asma::edge;

namespace {

constexpr const char *kPrecisions[] = {"float32", "bfloat16", "int8"},
                     *kMultiplied[] = {"float32", "bfloat16", "int16", "int16"};

std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

Room larger(const Room& a, const Room& b) {
  return {larger(a.features, b.features),     larger(a.shortcut, b.shortcut), larger(a.padded, b.padded),
          larger(a.aggregated, b.aggregated), larger(a.target, b.target),     larger(a.tiles, b.tiles),
          larger(a.products, b.products),     larger(a.sums, b.sums)};
}

// Counts, or takes and fills, what a model has beside its file.
struct ModelArrays {
  asma_edge_model* model;
  const char** names;
  Block blocks[kMostEncoders * kMostBlocks];

  std::uint64_t take(const Contents& contents, void* memory, float* room) {
    Memory from(memory);
    const FileHeader& h = *contents.header;
    const Precision precision = static_cast<Precision>(h.precision);
    model = from.take<asma_edge_model>(1);
    names = from.take<const char*>(std::int64_t{h.classes} + h.joints);
    for (std::uint32_t b = 0; b < h.encoders * h.blocks; ++b) {
      blocks[b] = contents.blocks[b];
      make_weights(&from, contents.weights[b], precision, operands_for(precision), h.partitions, h.joints, room,
                   &blocks[b]);
    }
    return from.used();
  }
};

asma_edge_code make_arrays(const Contents& contents, ModelArrays* arrays, std::uint64_t* needed,
                           asma_edge_error* error) {
  std::int64_t room = 0;
  for (std::uint32_t b = 0; b < contents.header->encoders * contents.header->blocks; ++b)
    room = larger(room, room_for_weights(contents.blocks[b]));
  void *memory, *while_made = nullptr;
  *needed = arrays->take(contents, nullptr, nullptr);
  if (const asma_edge_code code = allocate("a model", *needed, &memory, error)) return code;
  const asma_edge_code code = allocate("opening a model", room * sizeof(float), &while_made, error);
  if (code) std::free(memory);
  else arrays->take(contents, memory, static_cast<float*>(while_made));
  std::free(while_made);
  return code;
}

// What `bytes` describe; they stay as they are.
asma_edge_code make_model(const void* bytes, std::size_t size, asma_edge_model** made, asma_edge_error* error) {
  Contents contents;
  if (const asma_edge_code code = read_contents(static_cast<const std::uint8_t*>(bytes), size, &contents, error))
    return code;
  const FileHeader& h = *contents.header;
  ModelArrays arrays;
  std::uint64_t needed;
  if (const asma_edge_code code = make_arrays(contents, &arrays, &needed, error)) return code;
  asma_edge_model& model = *arrays.model;
  model = {};
  model.contents = contents;
  model.file_bytes = size;
  model.own_bytes = needed;
  model.names = arrays.names;
  const char* name = contents.names;
  for (std::uint32_t i = 0; i < h.classes + h.joints; ++i, name += std::strlen(name) + 1) model.names[i] = name;
  std::memcpy(model.contents.blocks, arrays.blocks, sizeof(arrays.blocks));
  for (std::uint32_t e = 0; e < h.encoders; ++e) {
    model.contents.encoders[e].blocks = model.contents.blocks + e * h.blocks;
    model.contents.encoders[e].operands = operands_for(static_cast<Precision>(h.precision));
    const Room room = room_of(model.contents.encoders[e]);
    model.room = e == 0 ? room : larger(model.room, room);
  }
  const std::uint64_t stream = stream_arrays(model, h.frames, nullptr, nullptr);
  if (stream > ASMA_EDGE_MOST_MEMORY) {
    std::free(&model);
    return refuse(error, ASMA_EDGE_TOO_LARGE, "edge: a stream may take %d bytes, one of this model needs %llu",
                  ASMA_EDGE_MOST_MEMORY, static_cast<unsigned long long>(stream));
  }
  *made = &model;
  return accept(error);
}

asma_edge_code cannot_read(const char* path, const char* why, asma_edge_error* error) {
  return refuse(error, ASMA_EDGE_CANNOT_READ, "edge: %.160s cannot be read: %s", path, why);
}

}  // namespace

extern "C" {

uint32_t asma_edge_api_version(void) { return ASMA_EDGE_API_VERSION; }

int asma_edge_open(const char* path, asma_edge_model** model, asma_edge_error* error) {
  if (!path || !model) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: path and model must not be NULL");
  *model = nullptr;
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return cannot_read(path, std::strerror(errno), error);
  struct stat status;
  const bool known = fstat(file, &status) == 0;
  if (!known || !S_ISREG(status.st_mode) || status.st_size == 0 || status.st_size > ASMA_EDGE_MOST_MEMORY) {
    const char* const why = !known                     ? std::strerror(errno)
                            : !S_ISREG(status.st_mode) ? "it is not a file"
                            : status.st_size == 0      ? "it is empty"
                                                       : "it is larger than any model";
    cannot_read(path, why, error);
    close(file);
    return ASMA_EDGE_CANNOT_READ;
  }
  const std::size_t size = static_cast<std::size_t>(status.st_size);
  void* const bytes = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  const int reason = errno;
  close(file);
  if (bytes == MAP_FAILED) return cannot_read(path, std::strerror(reason), error);
  const asma_edge_code code = make_model(bytes, size, model, error);
  if (code) munmap(bytes, size);
  else (*model)->mapped = bytes;
  return code;
}

int asma_edge_open_memory(const void* bytes, size_t size, asma_edge_model** model, asma_edge_error* error) {
  if (!bytes || !model) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: bytes and model must not be NULL");
  *model = nullptr;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(bytes);
  if (address % kAlignment)
    return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: bytes must lie at an address that %zu divides, the rest is %zu",
                  kAlignment, static_cast<std::size_t>(address % kAlignment));
  return make_model(bytes, size, model, error);
}

void asma_edge_close(asma_edge_model* model) {
  if (!model) return;
  if (model->mapped) munmap(model->mapped, static_cast<std::size_t>(model->file_bytes));
  std::free(model);  // it lies at the start of its memory
}

void asma_edge_describe(const asma_edge_model* model, asma_edge_description* description) {
  const FileHeader& h = *model->contents.header;
  *description = {h.format,
                  h.channels,
                  h.frames,
                  h.joints,
                  h.persons,
                  h.encoders,
                  h.blocks,
                  h.classes,
                  h.prepares,
                  model->file_bytes,
                  model->own_bytes,
                  stream_arrays(*model, h.frames, nullptr, nullptr),
                  asma::isa_name(),
                  kPrecisions[h.precision],
                  kMultiplied[static_cast<std::uint32_t>(model->contents.encoders[0].operands)]};
}

const char* asma_edge_class(const asma_edge_model* model, uint32_t index) {
  return index < model->contents.header->classes ? model->names[index] : nullptr;
}

const char* asma_edge_joint(const asma_edge_model* model, uint32_t index) {
  const FileHeader& h = *model->contents.header;
  return index < h.joints ? model->names[h.classes + index] : nullptr;
}

}  // extern "C"
