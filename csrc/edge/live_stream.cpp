#include "live_stream.h"

#include <cstring>

namespace asma::edge {
namespace {

constexpr std::uint64_t kForever = UINT32_MAX;

std::uint32_t capped(std::uint64_t frames) { return static_cast<std::uint32_t>(frames < kForever ? frames : kForever); }
std::uint32_t larger(std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }

bool is_motion(const FileHeader& h) { return h.prepares && static_cast<Stream>(h.stream) == Stream::motion; }

// T', frames of the last block that a window is made into.
std::int64_t frames_kept(const Encoder& encoder, std::uint32_t window) {
  std::int64_t frames = window;
  for (std::int64_t b = 0; b < encoder.count; ++b) frames = (frames - 1) / encoder.blocks[b].stride + 1;
  return frames;
}

LiveTiming timing_of(const Encoder& encoder, std::uint32_t window, bool motion) {
  std::uint64_t side = 0, stride = 1, settled = 0;  // side: frames that are seen before a frame, and as many after it
  for (std::int64_t b = 0; b < encoder.count; ++b) {
    const Block& block = encoder.blocks[b];
    const std::uint64_t taps = static_cast<std::uint64_t>(block.taps);
    side = capped(side + taps / 2 * stride);
    settled = capped(settled + taps * stride);
    stride = capped(stride * static_cast<std::uint64_t>(block.stride));
  }
  const std::uint64_t kept = static_cast<std::uint64_t>(frames_kept(encoder, window));
  const std::uint64_t newest = (side + stride - 1) / stride + kept - 1, before = side + motion;
  return {capped(before + 1), capped(newest * stride + before + 1), capped(stride), capped(settled + stride)};
}

LiveEncoder take_encoder(const Encoder& encoder, std::int64_t persons, std::uint32_t window, Memory* memory) {
  const std::int64_t rows = persons * encoder.joints, D = encoder.blocks[encoder.count - 1].out;
  LiveEncoder live{};
  live.encoder = &encoder;
  live.persons = persons;
  live.kept = frames_kept(encoder, window);
  live.blocks = memory->take<LiveBlock>(encoder.count);
  std::int64_t widest = 0;
  for (std::int64_t b = 0; b < encoder.count; ++b) {
    const Block& block = encoder.blocks[b];
    widest = block.in > widest ? block.in : widest;
    const std::int64_t waiting = block.residual == Residual::none ? 1 : block.taps / 2 + 1;
    const LiveBlock found{waiting, memory->take<float>(waiting * rows * block.in),
                          memory->take<float>(block.taps * rows * block.out), 0};
    if (live.blocks) live.blocks[b] = found;
  }
  live.aggregated = memory->take<float>(encoder.partitions * rows * widest);
  live.out = memory->take<float>(rows * D);
  live.sums = memory->take<float>(persons * D);
  live.frames = memory->take<float>(live.kept * D);
  return live;
}

}  // namespace

LiveTiming live_timing(const asma_edge_model& model, std::uint32_t window) {
  const Contents& contents = model.contents;
  const bool motion = is_motion(*contents.header);
  LiveTiming found = timing_of(contents.encoders[0], window, motion);
  for (std::uint32_t e = 1; e < contents.header->encoders; ++e) {
    const LiveTiming one = timing_of(contents.encoders[e], window, motion);
    found = {larger(found.first, one.first), larger(found.full, one.full),
             one.stride < found.stride ? one.stride : found.stride, larger(found.settled, one.settled)};
  }
  return found;
}

Live* Live::take(const asma_edge_model& model, std::uint32_t window, Memory* memory) {
  const Contents& contents = model.contents;
  const FileHeader& h = *contents.header;
  Live counted, *const made = memory->take<Live>(1);
  Live& live = made ? *made : counted;
  live.contents_ = &contents;
  live.timing_ = live_timing(model, window);
  const std::int64_t frame = std::int64_t{h.persons} * h.joints * h.channels;
  live.frame_ = memory->take<float>(frame);
  live.before_ = memory->take<float>(frame);
  live.scratch_ = memory->take<float>(prepare_room(h));
  for (std::uint32_t e = 0; e < h.encoders; ++e)
    live.encoders_[e] = take_encoder(contents.encoders[e], h.persons, window, memory);
  live.push_ = ASMA_PICK(edge_live_push);
  live.features_ = ASMA_PICK(edge_live_features);
  if (made) made->reset();
  return made;
}

void Live::reset() {
  waits_ = false;
  placement_ = Placement{};
  for (std::uint32_t& frames : away_) frames = 0;
  for (std::uint32_t e = 0; e < contents_->header->encoders; ++e) {
    LiveEncoder& live = encoders_[e];
    live.received = 0;
    for (std::int64_t b = 0; b < live.encoder->count; ++b) live.blocks[b].received = 0;
  }
}

void Live::push(const float* xyz, std::uint32_t present) {
  const FileHeader& h = *contents_->header;
  const std::size_t size = std::size_t{h.joints} * 3;
  for (std::uint32_t m = 0; m < h.persons; ++m) {
    float* const to = frame_ + m * size;
    if (present >> m & 1) std::memcpy(to, xyz + m * size, size * sizeof(float));
    else std::memset(to, 0, size * sizeof(float));
  }
  prepare_frame(*contents_, &placement_, frame_, scratch_);
  if (is_motion(h)) {
    float* const next = frame_;
    frame_ = before_;
    before_ = next;
    if (!waits_) {
      waits_ = true;
      return;
    }
    for (std::size_t i = 0; i < h.persons * size; ++i) frame_[i] = next[i] - frame_[i];
  }
  step();
}

void Live::push_prepared(const float* x) {
  const FileHeader& h = *contents_->header;
  const std::size_t C = h.channels, V = h.joints, M = h.persons;
  for (std::size_t m = 0; m < M; ++m)
    for (std::size_t v = 0; v < V; ++v)
      for (std::size_t c = 0; c < C; ++c) frame_[(m * V + v) * C + c] = x[(c * V + v) * M + m];
  step();
}

// Whoever was away for so long that all that is kept of them is the same needs no work.
void Live::step() {
  const FileHeader& h = *contents_->header;
  const std::size_t size = std::size_t{h.joints} * h.channels;
  std::int64_t first = h.persons, last = 0;
  for (std::uint32_t m = 0; m < h.persons; ++m) {
    bool there = false;
    for (std::size_t i = 0; i < size && !there; ++i) there = frame_[m * size + i] != 0;  // NaN too
    if (there) away_[m] = 0;
    else if (away_[m] <= timing_.settled) ++away_[m];
    if (away_[m] > timing_.settled) continue;
    first = m < first ? m : first;
    last = m + 1;
  }
  if (first > last) first = last;
  for (std::uint32_t e = 0; e < h.encoders; ++e) push_(encoders_[e], frame_, first, last);
}

bool Live::answers() const {
  for (std::uint32_t e = 0; e < contents_->header->encoders; ++e)
    if (encoders_[e].received == 0) return false;
  return true;
}

void Live::features(float* out) const {
  for (std::uint32_t e = 0; e < contents_->header->encoders; ++e) {
    const Encoder& encoder = *encoders_[e].encoder;
    features_(encoders_[e], out);
    out += encoder.segments * encoder.blocks[encoder.count - 1].out;
  }
}

}  // namespace asma::edge
