// Skeletons as JSON: a clip is a list of frames; a frame is a list of joints (one person), a list of persons, or null
// where nobody was seen; a person is a list of joints or null; a joint is [x, y, z].
#pragma once
#include <cstddef>
#include <cstdint>

namespace asma::edge {

// Frames as the engine takes them. Free of C++'s runtime, as all of the engine: so it starts without loading one.
class ClipText {
 public:
  ClipText(std::uint32_t joints, std::uint32_t persons) : joints_(joints), persons_(persons) {}
  ~ClipText();
  ClipText(const ClipText&) = delete;
  ClipText& operator=(const ClipText&) = delete;

  // Text that ends with 0. Persons beyond the model's are left out. False where it is something else: see problem().
  bool read_clip(const char* text);
  bool read_frame(const char* text);

  const float* xyz() const { return xyz_; }                  // (frames, M, V, 3), zeros for who is not there
  const std::uint32_t* present() const { return present_; }  // (frames)
  std::size_t frames() const { return frames_; }
  const char* problem() const { return problem_; }

 private:
  bool start(const char* text);
  bool frame();
  bool person(std::uint32_t m);
  bool number(float* value);
  bool end();
  bool add_frame();
  bool take(char wanted);
  bool take_null();
  void blanks();
  bool fail(const char* format, ...) __attribute__((format(printf, 2, 3)));

  std::uint32_t joints_, persons_;
  const char *text_ = nullptr, *at_ = nullptr;
  float* xyz_ = nullptr;
  std::uint32_t* present_ = nullptr;
  std::size_t frames_ = 0, room_ = 0;
  char problem_[200] = "";
};

}  // namespace asma::edge
