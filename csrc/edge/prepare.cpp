#include "prepare.h"

#include <cmath>
#include <cstring>

namespace asma::edge {
namespace {

constexpr double kDegenerate = 1e-6;  // as asma.data.preprocess

// A clip while it is prepared, (M, T, V, 3).
struct Clip {
  float* x;
  std::int64_t M, T, V;

  float* person(std::int64_t m, std::int64_t t) const { return x + (m * T + t) * V * 3; }
  float* joint(std::int64_t t, std::int64_t v) const { return person(0, t) + v * 3; }  // of the first person

  // A person whose joints are all exactly zero in a frame is not there.
  bool there(std::int64_t m, std::int64_t t) const {
    const float* const from = person(m, t);
    for (std::int64_t i = 0; i < V * 3; ++i)
      if (from[i] != 0) return true;
    return false;
  }
  // The first frame with the first person, 0 where there is none.
  std::int64_t first() const {
    for (std::int64_t t = 0; t < T; ++t)
      if (there(0, t)) return t;
    return 0;
  }
};

const float* frame_of(const Frames& frames, const Clip& clip, std::int64_t m, std::uint64_t i, bool* there) {
  const std::uint64_t place = (frames.first + i) % frames.capacity;
  *there = !frames.present || (frames.present[place] >> m & 1);
  return frames.xyz + (place * static_cast<std::uint64_t>(clip.M) + static_cast<std::uint64_t>(m)) *
                          static_cast<std::uint64_t>(clip.V) * 3;
}

// Linear between the two frames around each place. Places are integers and a rest, so that one that is a frame is
// exactly that frame. Between a frame with a person and one without the nearer decides.
void resample(const Frames& frames, const Clip& clip) {
  const std::uint64_t last = frames.count - 1, steps = clip.T > 1 ? static_cast<std::uint64_t>(clip.T) - 1 : 1;
  for (std::int64_t m = 0; m < clip.M; ++m)
    for (std::int64_t t = 0; t < clip.T; ++t) {
      const std::uint64_t place = static_cast<std::uint64_t>(t) * last, low = place / steps;
      const float share = static_cast<float>(static_cast<double>(place % steps) / static_cast<double>(steps));
      bool here, there;
      const float* const before = frame_of(frames, clip, m, low, &here);
      const float* const after = frame_of(frames, clip, m, low < last ? low + 1 : last, &there);
      float* const to = clip.person(m, t);
      const std::int64_t size = clip.V * 3;
      const bool nearer_before = share <= 0.5f;
      if (!here && !there) std::memset(to, 0, static_cast<std::size_t>(size) * sizeof(float));
      else if (here && there)
        for (std::int64_t i = 0; i < size; ++i) to[i] = (after[i] - before[i]) * share + before[i];
      else if (here == nearer_before)
        std::memcpy(to, here ? before : after, static_cast<std::size_t>(size) * sizeof(float));
      else std::memset(to, 0, static_cast<std::size_t>(size) * sizeof(float));
    }
}

void shift(const Clip& clip, std::int64_t t, const float* centre) {
  for (std::int64_t m = 0; m < clip.M; ++m) {
    if (!clip.there(m, t)) continue;
    float* const to = clip.person(m, t);
    for (std::int64_t v = 0; v < clip.V; ++v)
      for (int axis = 0; axis < 3; ++axis) to[v * 3 + axis] -= centre[axis];
  }
}

void centre(const Clip& clip, Centre how, std::int64_t joint) {
  float at[3];
  const std::int64_t first = how == Centre::clip ? clip.first() : 0;
  std::memcpy(at, clip.joint(first, joint), sizeof(at));
  for (std::int64_t t = 0; t < clip.T; ++t) {
    if (how == Centre::frame) std::memcpy(at, clip.joint(t, joint), sizeof(at));
    shift(clip, t, at);
  }
}

// How a body is turned that stands as in a frame.
void find_turn(const Clip& clip, std::int64_t t, std::int64_t left, std::int64_t right, float* cosine, float* sine) {
  const float *const from = clip.joint(t, left), *const to = clip.joint(t, right);
  const double across = to[0] - from[0], along = to[2] - from[2];
  const double length = std::hypot(across, along);
  const bool usable = length > kDegenerate;
  *cosine = static_cast<float>(usable ? across / length : 1.0);
  *sine = static_cast<float>(usable ? along / length : 0.0);
}

void turn(const Clip& clip, float cosine, float sine) {
  for (std::int64_t i = 0; i < clip.M * clip.T * clip.V; ++i) {
    float* const point = clip.x + i * 3;
    const float x = point[0], z = point[2];
    point[0] = cosine * x + sine * z;
    point[2] = cosine * z - sine * x;
  }
}

float body_size(const Clip& clip, const std::uint32_t* bones, std::int64_t count) {
  double sum = 0;
  std::int64_t frames = 0;
  for (std::int64_t t = 0; t < clip.T; ++t) {
    if (!clip.there(0, t)) continue;
    double lengths = 0;
    for (std::int64_t b = 0; b < count; ++b) {
      const float *const one = clip.joint(t, bones[2 * b]), *const other = clip.joint(t, bones[2 * b + 1]);
      const float x = one[0] - other[0], y = one[1] - other[1], z = one[2] - other[2];
      lengths += std::sqrt(x * x + y * y + z * z);
    }
    sum += lengths / static_cast<double>(count);
    ++frames;
  }
  const double mean = sum / static_cast<double>(frames > 0 ? frames : 1);
  return mean > kDegenerate ? static_cast<float>(mean) : 1.0f;
}

void divide(const Clip& clip, float scale) {
  for (std::int64_t i = 0; i < clip.M * clip.T * clip.V * 3; ++i) clip.x[i] /= scale;
}

void to_bones(const Clip& clip, const std::uint32_t* parents, float* work) {
  const std::size_t bytes = static_cast<std::size_t>(clip.V) * 3 * sizeof(float);
  for (std::int64_t m = 0; m < clip.M; ++m)
    for (std::int64_t t = 0; t < clip.T; ++t) {
      float* const to = clip.person(m, t);
      std::memcpy(work, to, bytes);
      for (std::int64_t v = 0; v < clip.V; ++v)
        for (int axis = 0; axis < 3; ++axis) to[v * 3 + axis] -= work[parents[v] * 3 + axis];
    }
}

void to_motion(const Clip& clip) {
  const std::int64_t size = clip.V * 3;
  for (std::int64_t m = 0; m < clip.M; ++m)
    for (std::int64_t t = 0; t < clip.T; ++t) {
      float* const to = clip.person(m, t);
      const float* const next = t + 1 < clip.T ? clip.person(m, t + 1) : to;
      for (std::int64_t i = 0; i < size; ++i) to[i] = next[i] - to[i];
    }
}

}  // namespace

std::int64_t prepare_room(const FileHeader& header) { return std::int64_t{header.joints} * 3; }

void prepare(const Contents& contents, const Frames& frames, float* x, float* work) {
  const FileHeader& h = *contents.header;
  const Clip clip{x, h.persons, h.frames, h.joints};
  resample(frames, clip);
  if (static_cast<Centre>(h.centre) != Centre::none) centre(clip, static_cast<Centre>(h.centre), h.centre_joint);
  if (h.face) {
    float cosine, sine;
    find_turn(clip, clip.first(), h.left, h.right, &cosine, &sine);
    turn(clip, cosine, sine);
  }
  if (h.scale) divide(clip, body_size(clip, contents.bones, h.bones));
  if (static_cast<Stream>(h.stream) == Stream::bone) to_bones(clip, contents.parents, work);
  if (static_cast<Stream>(h.stream) == Stream::motion) to_motion(clip);
}

void prepare_frame(const Contents& contents, Placement* placement, float* x, float* work) {
  const FileHeader& h = *contents.header;
  const Clip clip{x, h.persons, 1, h.joints};
  const bool finds = !placement->found && clip.there(0, 0);
  if (finds && static_cast<Centre>(h.centre) == Centre::clip)
    std::memcpy(placement->centre, clip.joint(0, h.centre_joint), sizeof(placement->centre));
  if (static_cast<Centre>(h.centre) == Centre::frame) centre(clip, Centre::frame, h.centre_joint);
  else shift(clip, 0, placement->centre);
  if (finds && h.face) find_turn(clip, 0, h.left, h.right, &placement->cosine, &placement->sine);
  if (h.face) turn(clip, placement->cosine, placement->sine);
  if (finds && h.scale) placement->scale = body_size(clip, contents.bones, h.bones);
  if (h.scale) divide(clip, placement->scale);
  if (static_cast<Stream>(h.stream) == Stream::bone) to_bones(clip, contents.parents, work);
  placement->found |= finds;
}

}  // namespace asma::edge
