#include "clip_text.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace asma::edge {

ClipText::~ClipText() {
  std::free(xyz_);
  std::free(present_);
}

bool ClipText::read_clip(const char* text) {
  if (!start(text)) return false;
  if (!take('[')) return fail("a clip must be a list of frames");
  if (!take(']')) {
    do {
      if (!frame()) return false;
    } while (take(','));
    if (!take(']')) return fail("a comma or a closing bracket must follow frame %zu", frames_ - 1);
  }
  return end();
}

bool ClipText::read_frame(const char* text) { return start(text) && frame() && end(); }

bool ClipText::start(const char* text) {
  text_ = at_ = text;
  frames_ = 0;
  return true;
}

bool ClipText::frame() {
  if (!add_frame()) return false;
  if (take_null()) return true;
  if (!take('[')) return fail("a frame must be a list of joints, a list of persons, or null");
  // A list of joints begins with one bracket more, one of persons with two, or with null.
  const char* const inside = at_;
  const bool persons = take_null() || (take('[') && take('['));
  at_ = inside;
  if (!persons) {
    --at_;
    return person(0);
  }
  std::uint32_t m = 0;
  do {
    if (!take_null() && !person(m)) return false;
    ++m;
  } while (take(','));
  return take(']') || fail("a comma or a closing bracket must follow a person");
}

bool ClipText::person(std::uint32_t m) {
  float* to = m < persons_ ? xyz_ + ((frames_ - 1) * persons_ + m) * joints_ * 3 : nullptr;
  if (!take('[')) return fail("a person must be a list of joints, or null");
  std::uint32_t found = 0;
  if (!take(']')) {
    do {
      float point[3];
      if (!take('[')) return fail("a joint must be [x, y, z]");
      for (int axis = 0; axis < 3; ++axis) {
        if (axis > 0 && !take(',')) return fail("a joint must be [x, y, z], three numbers");
        if (!number(&point[axis])) return false;
      }
      if (!take(']')) return fail("a joint must be [x, y, z], three numbers");
      if (to && found < joints_) std::memcpy(to + found * 3, point, sizeof(point));
      ++found;
    } while (take(','));
    if (!take(']')) return fail("a comma or a closing bracket must follow a joint");
  }
  if (found != joints_) return fail("a person must have the model's %u joints, got %u", joints_, found);
  if (to) present_[frames_ - 1] |= 1u << m;
  return true;
}

// What Python's json writes: JSON's numbers, NaN, Infinity and -Infinity, which the engine then refuses by itself.
bool ClipText::number(float* value) {
  blanks();
  const std::size_t size = std::strspn(at_, "+-.0123456789eE");
  const char* const word = at_ + (*at_ == '-');
  char* stop;
  if (std::strncmp(word, "NaN", 3) != 0 && std::strncmp(word, "Infinity", 8) != 0) {
    if (size == 0 || size > 512) return fail("a coordinate must be a number");
    *value = static_cast<float>(std::strtod(at_, &stop));
    if (stop != at_ + size) return fail("a coordinate must be a number");
  } else {
    *value = static_cast<float>(std::strtod(at_, &stop));
  }
  at_ = stop;
  return true;
}

bool ClipText::end() {
  blanks();
  return *at_ == 0 || fail("nothing must follow it");
}

bool ClipText::add_frame() {
  const std::size_t size = std::size_t{persons_} * joints_ * 3;
  if (frames_ == room_) {
    const std::size_t room = room_ ? 2 * room_ : 64;
    float* const xyz = static_cast<float*>(std::realloc(xyz_, room * size * sizeof(float)));
    if (xyz) xyz_ = xyz;
    std::uint32_t* const present =
        xyz ? static_cast<std::uint32_t*>(std::realloc(present_, room * sizeof(std::uint32_t))) : nullptr;
    if (!present) return fail("the system has no memory for frame %zu", frames_);
    present_ = present;
    room_ = room;
  }
  std::memset(xyz_ + frames_ * size, 0, size * sizeof(float));
  present_[frames_++] = 0;
  return true;
}

bool ClipText::take(char wanted) {
  blanks();
  if (*at_ != wanted) return false;
  ++at_;
  return true;
}

bool ClipText::take_null() {
  blanks();
  if (std::strncmp(at_, "null", 4) != 0) return false;
  at_ += 4;
  return true;
}

void ClipText::blanks() { at_ += std::strspn(at_, " \t\r\n"); }

bool ClipText::fail(const char* format, ...) {
  char rule[120];
  va_list values;
  va_start(values, format);
  std::vsnprintf(rule, sizeof(rule), format, values);
  va_end(values);
  const std::size_t frame = frames_ > 0 ? frames_ - 1 : 0;
  std::snprintf(problem_, sizeof(problem_), "%s, at frame %zu, byte %zu", rule, frame,
                static_cast<std::size_t>(at_ - text_));
  return false;
}

}  // namespace asma::edge
