#include <cmath>
#include <cstring>

#include "live_stream.h"
#include "memory.h"
#include "model.h"
#include "prepare.h"

using namespace asma::edge;

struct asma_edge_stream {
  const asma_edge_model* model;
  StreamArrays arrays;
  std::uint32_t window;
  std::uint64_t pushed;
  bool knows_absent;  // arrays.absent is set
  Live* live;         // null where the stream takes windows
  void (*encode)(const Encoder&, const Work&, const float*, float*);
  void (*dense)(const float*, const float*, const float*, std::int64_t, std::int64_t, bool, float*);
};

namespace {

const FileHeader& header_of(const asma_edge_stream* stream) { return *stream->model->contents.header; }

// Where the first number that is not finite stands, or `size`.
std::uint64_t first_broken(const float* numbers, std::uint64_t size) {
  for (std::uint64_t i = 0; i < size; ++i)
    if (!std::isfinite(numbers[i])) return i;
  return size;
}

// Persons who are in a frame have finite coordinates.
asma_edge_code check_frame(const asma_edge_stream* stream, const float* xyz, std::uint32_t present, std::uint64_t frame,
                           asma_edge_error* error) {
  const FileHeader& h = header_of(stream);
  const std::uint64_t size = std::uint64_t{h.joints} * 3;
  for (std::uint32_t m = 0; m < h.persons; ++m) {
    if (!(present >> m & 1)) continue;
    const std::uint64_t broken = first_broken(xyz + m * size, size);
    if (broken < size)
      return refuse(error, ASMA_EDGE_NOT_FINITE,
                    "edge: coordinates must be finite, got %g at frame %llu, person %u, joint %llu (%.64s)",
                    static_cast<double>(xyz[m * size + broken]), static_cast<unsigned long long>(frame), m,
                    static_cast<unsigned long long>(broken / 3),
                    asma_edge_joint(stream->model, static_cast<std::uint32_t>(broken / 3)));
  }
  return ASMA_EDGE_OK;
}

// x (C, frames, V, M) is finite.
asma_edge_code check_prepared(const asma_edge_stream* stream, const float* x, std::size_t frames,
                              asma_edge_error* error) {
  const FileHeader& h = header_of(stream);
  const std::size_t C = h.channels, V = h.joints, M = h.persons, size = C * frames * V * M;
  const std::uint64_t broken = first_broken(x, size);
  if (broken == size) return ASMA_EDGE_OK;
  return refuse(error, ASMA_EDGE_NOT_FINITE, "edge: x must be finite, got %g at place %llu of (%zu, %zu, %zu, %zu)",
                static_cast<double>(x[broken]), static_cast<unsigned long long>(broken), C, frames, V, M);
}

asma_edge_code check_prepares(const asma_edge_stream* stream, asma_edge_error* error) {
  if (header_of(stream).prepares) return ASMA_EDGE_OK;
  return refuse(error, ASMA_EDGE_PREPARED_ONLY,
                "edge: clips of this model are prepared in a way that the engine does not know: prepare them by "
                "asma.prepare and call asma_edge_predict_prepared, or asma_edge_push_prepared of a live stream");
}

void encode(asma_edge_stream* stream, const float* x, float* features) {
  const Contents& contents = stream->model->contents;
  for (std::uint32_t e = 0; e < contents.header->encoders; ++e) {
    const Encoder& encoder = contents.encoders[e];
    stream->encode(encoder, stream->arrays.work, x, features);
    features += encoder.segments * encoder.features;
  }
}

// The mean over persons. One who is not there is all zeros, and what those give is computed once.
void encode_persons(asma_edge_stream* stream) {
  const FileHeader& h = header_of(stream);
  const StreamArrays& arrays = stream->arrays;
  const std::int64_t F = stream->model->contents.features, size = std::int64_t{h.frames} * h.joints * h.channels;
  for (std::uint32_t m = 0; m < h.persons; ++m) {
    const float* const x = arrays.x + m * size;
    bool there = false;
    for (std::int64_t i = 0; i < size && !there; ++i) there = x[i] != 0;  // NaN too
    const float* found = arrays.absent;
    if (there) {
      encode(stream, x, arrays.features);
      found = arrays.features;
    } else if (!stream->knows_absent) {
      encode(stream, x, arrays.absent);
      stream->knows_absent = true;
    }
    for (std::int64_t i = 0; i < F; ++i) arrays.total[i] = m == 0 ? found[i] : arrays.total[i] + found[i];
  }
  const float persons = static_cast<float>(h.persons);
  for (std::int64_t i = 0; i < F; ++i) arrays.total[i] /= persons;
}

asma_edge_code answer(asma_edge_stream* stream, float* probabilities, float* logits, asma_edge_error* error) {
  const Contents& contents = stream->model->contents;
  const StreamArrays& arrays = stream->arrays;
  if (stream->live) stream->live->features(arrays.total);
  else encode_persons(stream);
  const float* representation = arrays.total;
  std::int64_t size = contents.features;
  const std::int64_t hidden = contents.header->hidden, classes = contents.header->classes;
  if (hidden) {
    stream->dense(representation, contents.hidden_weight, contents.hidden_bias, size, hidden, true, arrays.hidden);
    representation = arrays.hidden;
    size = hidden;
  }
  stream->dense(representation, contents.head_weight, contents.head_bias, size, classes, false, arrays.logits);
  if (first_broken(arrays.logits, static_cast<std::uint64_t>(classes)) < static_cast<std::uint64_t>(classes))
    return refuse(error, ASMA_EDGE_NOT_FINITE,
                  "edge: the answer is not finite: coordinates must be smaller, or the model's weights are broken");
  if (logits) std::memcpy(logits, arrays.logits, static_cast<std::size_t>(classes) * sizeof(float));
  if (probabilities) {
    float most = arrays.logits[0], sum = 0;
    for (std::int64_t i = 1; i < classes; ++i) most = arrays.logits[i] > most ? arrays.logits[i] : most;
    for (std::int64_t i = 0; i < classes; ++i) sum += probabilities[i] = std::exp(arrays.logits[i] - most);
    for (std::int64_t i = 0; i < classes; ++i) probabilities[i] /= sum;
  }
  return accept(error);
}

}  // namespace

std::uint64_t asma::edge::stream_arrays(const asma_edge_model& model, std::uint32_t window, void* memory,
                                        StreamArrays* arrays) {
  const FileHeader& h = *model.contents.header;
  const Room& room = model.room;
  Memory from(memory);
  from.take<asma_edge_stream>(1);
  const std::int64_t frame = h.prepares ? std::int64_t{h.persons} * h.joints * 3 : 0;
  const StreamArrays found = {
      from.take<float>(window * frame),
      from.take<std::uint32_t>(window),
      from.take<float>(std::int64_t{h.persons} * h.frames * h.joints * h.channels),
      from.take<float>(prepare_room(h)),
      {{from.take<float>(room.features), from.take<float>(room.features)},
       from.take<float>(room.shortcut),
       from.take<float>(room.padded),
       from.take<float>(room.aggregated),
       from.take<float>(room.target),
       from.take<float>(room.tiles),
       from.take<float>(room.products),
       from.take<float>(room.sums)},
      from.take<float>(model.contents.features),
      from.take<float>(model.contents.features),
      from.take<float>(model.contents.features),
      from.take<float>(h.hidden),
      from.take<float>(h.classes),
  };
  if (arrays) *arrays = found;
  return from.used();
}

namespace {

// The same of a live stream, whose arrays are few.
std::uint64_t live_arrays(const asma_edge_model& model, std::uint32_t window, void* memory, StreamArrays* arrays,
                          Live** live) {
  const FileHeader& h = *model.contents.header;
  Memory from(memory);
  from.take<asma_edge_stream>(1);
  arrays->total = from.take<float>(model.contents.features);
  arrays->hidden = from.take<float>(h.hidden);
  arrays->logits = from.take<float>(h.classes);
  *live = Live::take(model, window, &from);
  return from.used();
}

std::uint32_t window_of(const asma_edge_model& model, std::uint32_t window) {
  return window ? window : model.contents.header->frames;
}

asma_edge_stream* new_stream(const asma_edge_model* model, std::uint32_t window, void* memory) {
  asma_edge_stream* const stream = static_cast<asma_edge_stream*>(memory);  // its place is the first
  *stream = {};
  stream->model = model;
  stream->window = window;
  stream->encode = ASMA_PICK(edge_encode);
  stream->dense = ASMA_PICK(edge_dense);
  return stream;
}

asma_edge_code check_kind(const asma_edge_stream* stream, bool live, const char* call, asma_edge_error* error) {
  if ((stream->live != nullptr) == live) return ASMA_EDGE_OK;
  return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: %s is for a stream of asma_edge_start%s, not for %s", call,
                live ? "_live" : "", live ? "one that takes windows" : "a live one");
}

}  // namespace

extern "C" {

int asma_edge_start(const asma_edge_model* model, uint32_t window, asma_edge_stream** stream, asma_edge_error* error) {
  if (!model || !stream) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: model and stream must not be NULL");
  *stream = nullptr;
  window = window_of(*model, window);
  void* memory;
  const std::uint64_t needed = stream_arrays(*model, window, nullptr, nullptr);
  if (const asma_edge_code code = allocate("a stream", needed, &memory, error)) return code;
  *stream = new_stream(model, window, memory);
  stream_arrays(*model, window, memory, &(*stream)->arrays);
  return accept(error);
}

int asma_edge_start_live(const asma_edge_model* model, uint32_t window, asma_edge_stream** stream,
                         asma_edge_error* error) {
  if (!model || !stream) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: model and stream must not be NULL");
  *stream = nullptr;
  if (static_cast<Precision>(model->contents.header->precision) != Precision::float32)
    return refuse(error, ASMA_EDGE_FLOAT32_ONLY,
                  "edge: a live stream multiplies float32, this model's weights are rounded: export it with "
                  "--precision float32");
  window = window_of(*model, window);
  if (live_timing(*model, window).settled == UINT32_MAX)
    return refuse(error, ASMA_EDGE_TOO_LARGE,
                  "edge: a live stream of this model would wait for %u frames or more: its strides are too long",
                  UINT32_MAX);
  StreamArrays arrays{};
  Live* live;
  void* memory;
  const std::uint64_t needed = live_arrays(*model, window, nullptr, &arrays, &live);
  if (const asma_edge_code code = allocate("a live stream", needed, &memory, error)) return code;
  *stream = new_stream(model, window, memory);
  live_arrays(*model, window, memory, &(*stream)->arrays, &(*stream)->live);
  return accept(error);
}

void asma_edge_describe_live(const asma_edge_model* model, uint32_t window, asma_edge_live_description* description) {
  window = window_of(*model, window);
  const LiveTiming timing = live_timing(*model, window);
  StreamArrays arrays{};
  Live* live;
  *description = {timing.first, timing.full, timing.stride, live_arrays(*model, window, nullptr, &arrays, &live)};
}

void asma_edge_stop(asma_edge_stream* stream) { std::free(stream); }

void asma_edge_reset(asma_edge_stream* stream) {
  stream->pushed = 0;
  if (stream->live) stream->live->reset();
}

int asma_edge_push(asma_edge_stream* stream, const float* xyz, uint32_t present, asma_edge_error* error) {
  if (!stream) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: stream must not be NULL");
  const FileHeader& h = header_of(stream);
  if (const asma_edge_code code = check_prepares(stream, error)) return code;
  present &= (1u << h.persons) - 1;
  if (present && !xyz)
    return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: xyz must not be NULL where persons are present, got bits %x",
                  present);
  if (const asma_edge_code code = check_frame(stream, xyz, present, stream->pushed, error)) return code;
  ++stream->pushed;
  if (stream->live) {
    stream->live->push(xyz, present);
    return accept(error);
  }
  const std::uint64_t place = (stream->pushed - 1) % stream->window, size = std::uint64_t{h.persons} * h.joints * 3;
  if (present) std::memcpy(stream->arrays.ring + place * size, xyz, static_cast<std::size_t>(size) * sizeof(float));
  stream->arrays.present[place] = present;
  return accept(error);
}

int asma_edge_push_prepared(asma_edge_stream* stream, const float* x, asma_edge_error* error) {
  if (!stream || !x) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: stream and x must not be NULL");
  if (const asma_edge_code code = check_kind(stream, true, "asma_edge_push_prepared", error)) return code;
  if (const asma_edge_code code = check_prepared(stream, x, 1, error)) return code;
  ++stream->pushed;
  stream->live->push_prepared(x);
  return accept(error);
}

int asma_edge_predict(asma_edge_stream* stream, float* probabilities, float* logits, asma_edge_error* error) {
  if (!stream) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: stream must not be NULL");
  if (stream->live) {
    if (stream->live->answers()) return answer(stream, probabilities, logits, error);
    return refuse(error, ASMA_EDGE_NO_FRAME, "edge: a live stream of this model answers after %u frames, it has %llu",
                  stream->live->timing().first, static_cast<unsigned long long>(stream->pushed));
  }
  if (const asma_edge_code code = check_prepares(stream, error)) return code;
  if (stream->pushed == 0)
    return refuse(error, ASMA_EDGE_NO_FRAME, "edge: at least one frame must be pushed before a prediction");
  const std::uint64_t window = stream->window, count = stream->pushed < window ? stream->pushed : window;
  const Frames frames{stream->arrays.ring, stream->arrays.present, (stream->pushed - count) % window, count, window};
  prepare(stream->model->contents, frames, stream->arrays.x, stream->arrays.scratch);
  return answer(stream, probabilities, logits, error);
}

int asma_edge_predict_clip(asma_edge_stream* stream, const float* xyz, const uint32_t* present, size_t frames,
                           float* probabilities, float* logits, asma_edge_error* error) {
  if (!stream) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: stream must not be NULL");
  if (const asma_edge_code code = check_kind(stream, false, "asma_edge_predict_clip", error)) return code;
  if (const asma_edge_code code = check_prepares(stream, error)) return code;
  if (frames == 0 || frames > UINT32_MAX)
    return refuse(error, frames ? ASMA_EDGE_TOO_LARGE : ASMA_EDGE_NO_FRAME,
                  "edge: a clip must have from 1 to %u frames, got %zu", UINT32_MAX, frames);
  if (!xyz) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: xyz must not be NULL");
  const FileHeader& h = header_of(stream);
  const std::size_t size = std::size_t{h.persons} * h.joints * 3;
  for (std::size_t t = 0; t < frames; ++t) {
    const std::uint32_t there = present ? present[t] : ASMA_EDGE_EVERYBODY;
    if (const asma_edge_code code = check_frame(stream, xyz + t * size, there, t, error)) return code;
  }
  prepare(stream->model->contents, {xyz, present, 0, frames, frames}, stream->arrays.x, stream->arrays.scratch);
  return answer(stream, probabilities, logits, error);
}

int asma_edge_predict_prepared(asma_edge_stream* stream, const float* x, float* probabilities, float* logits,
                               asma_edge_error* error) {
  if (!stream || !x) return refuse(error, ASMA_EDGE_BAD_ARGUMENT, "edge: stream and x must not be NULL");
  if (const asma_edge_code code = check_kind(stream, false, "asma_edge_predict_prepared", error)) return code;
  const FileHeader& h = header_of(stream);
  const std::size_t C = h.channels, T = h.frames, V = h.joints, M = h.persons;
  if (const asma_edge_code code = check_prepared(stream, x, T, error)) return code;
  for (std::size_t m = 0; m < M; ++m)
    for (std::size_t t = 0; t < T; ++t)
      for (std::size_t v = 0; v < V; ++v)
        for (std::size_t c = 0; c < C; ++c)
          stream->arrays.x[((m * T + t) * V + v) * C + c] = x[((c * T + t) * V + v) * M + m];
  return answer(stream, probabilities, logits, error);
}

}  // extern "C"
