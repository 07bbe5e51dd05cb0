// libFuzzer's target: every instruction set's parser must say of any text what a plain reader says, line by line, and
// touch no byte beyond what it was given. tests/fuzz/run.py builds and runs it.
#include "../../csrc/host/ntu_skeleton.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

using namespace asma::host;

namespace {

struct Result {
  bool read = false;
  std::int64_t line = 0;  // of the fault
  std::int64_t frames = 0;
  std::vector<std::int32_t> frame;
  std::vector<std::uint64_t> id;
  std::vector<float> xyz;
};

// By the rules of ntu_skeleton.h, without any of its speed.
class PlainReader {
 public:
  explicit PlainReader(const std::string& text) : rest_(text) {}

  Result read() {
    result_.read = file();
    result_.line = result_.read ? 0 : result_.line;
    return result_;
  }

 private:
  bool file() {
    result_.line = 1;
    if (rest_.rfind("\xFF\xFE", 0) == 0 || rest_.rfind("\xFE\xFF", 0) == 0) return false;
    if (rest_.rfind("\xEF\xBB\xBF", 0) == 0) rest_.erase(0, 3);
    result_.line = 0;
    if (!count(0, kMostFrames, &result_.frames)) return false;
    for (std::int64_t frame = 0; frame < result_.frames; ++frame) {
      std::int64_t bodies;
      if (!count(0, kMostBodies, &bodies)) return false;
      for (; bodies > 0; --bodies)
        if (!body(frame)) return false;
    }
    while (next_line())
      if (!words_.empty()) return false;
    return true;
  }

  bool body(std::int64_t frame) {
    std::uint64_t id, joints;
    if (!next_line() || words_.size() != 10 || !whole(words_[0], &id)) return false;
    if (!next_line() || words_.size() != 1 || !whole(words_[0], &joints) || joints != 25) return false;
    std::vector<float> xyz;
    for (int joint = 0; joint < 25; ++joint) {
      if (!next_line() || words_.size() != 12) return false;
      for (int axis = 0; axis < 3; ++axis) {
        xyz.push_back(0);
        if (!decimal(words_[axis], &xyz.back())) return false;
      }
    }
    result_.frame.push_back(static_cast<std::int32_t>(frame));
    result_.id.push_back(id);
    result_.xyz.insert(result_.xyz.end(), xyz.begin(), xyz.end());
    return true;
  }

  bool next_line() {
    ++result_.line;
    words_.clear();
    if (at_ >= rest_.size()) return false;
    bool inside = false;
    for (; at_ < rest_.size() && rest_[at_] != '\n'; ++at_) {
      const bool blank = static_cast<unsigned char>(rest_[at_]) <= ' ';
      if (!blank && !inside) words_.emplace_back();
      if (!blank) words_.back() += rest_[at_];
      inside = !blank;
    }
    ++at_;
    return true;
  }

  bool count(std::int64_t least, std::int64_t most, std::int64_t* value) {
    if (!next_line() || words_.size() != 1) return false;
    const bool negative = words_[0][0] == '-';
    const std::string digits = words_[0].substr(negative);
    std::uint64_t found;
    if (digits.empty() || !whole(digits, &found) || found > static_cast<std::uint64_t>(most)) return false;
    *value = negative ? -static_cast<std::int64_t>(found) : static_cast<std::int64_t>(found);
    return *value >= least;
  }

  static bool whole(const std::string& word, std::uint64_t* value) {
    if (word.find_first_not_of("0123456789") != std::string::npos) return false;
    errno = 0;
    *value = std::strtoull(word.c_str(), nullptr, 10);
    return errno == 0;
  }

  static bool decimal(const std::string& word, float* value) {
    const std::string bare = word.substr(word[0] == '+' || word[0] == '-');
    const bool nan = bare.size() == 3 && (bare[0] | 32) == 'n' && (bare[1] | 32) == 'a' && (bare[2] | 32) == 'n';
    if (!nan && bare.find_first_not_of("0123456789.eE+-") != std::string::npos) return false;
    char* end = nullptr;
    *value = nan ? std::nanf("") : static_cast<float>(std::strtod(word.c_str(), &end));
    return nan || (*end == 0 && !std::isinf(*value));
  }

  std::string rest_;
  std::size_t at_ = 0;
  std::vector<std::string> words_;
  Result result_;
};

Result parse(bool (*parser)(NtuSkeleton*), const std::uint8_t* data, std::size_t size) {
  // Each in memory of its own and no longer than promised, so that the address sanitizer sees every step over an end.
  const std::unique_ptr<char[]> text(new char[size + kPadding]);
  if (size) std::memcpy(text.get(), data, size);
  std::memset(text.get() + size, '\n', kPadding);
  const std::size_t bodies = most_bodies(size);
  const std::unique_ptr<std::int32_t[]> frame(new std::int32_t[bodies]);
  const std::unique_ptr<std::uint64_t[]> id(new std::uint64_t[bodies]);
  const std::unique_ptr<float[]> xyz(new float[bodies * kJoints * 3]);
  NtuSkeleton skeleton{};
  skeleton.text = text.get();
  skeleton.size = size;
  skeleton.frame = frame.get();
  skeleton.id = id.get();
  skeleton.xyz = xyz.get();
  Result result;
  result.read = parser(&skeleton);
  result.line = result.read ? 0 : skeleton.line;
  result.frames = skeleton.frames;
  result.frame.assign(frame.get(), frame.get() + skeleton.bodies);
  result.id.assign(id.get(), id.get() + skeleton.bodies);
  result.xyz.assign(xyz.get(), xyz.get() + skeleton.bodies * kJoints * 3);
  return result;
}

bool same(const std::vector<float>& one, const std::vector<float>& other) {
  if (one.size() != other.size()) return false;
  for (std::size_t i = 0; i < one.size(); ++i)
    if (!(std::isnan(one[i]) && std::isnan(other[i])) && std::memcmp(&one[i], &other[i], sizeof(float)) != 0)
      return false;
  return true;
}

void compare(const char* name, const Result& found, const Result& expected) {
  if (found.read == expected.read && found.line == expected.line && found.frame == expected.frame &&
      found.id == expected.id && same(found.xyz, expected.xyz) && (!found.read || found.frames == expected.frames))
    return;
  std::fprintf(stderr, "%s: read %d line %lld bodies %zu; the plain reader: read %d line %lld bodies %zu\n", name,
               found.read, static_cast<long long>(found.line), found.id.size(), expected.read,
               static_cast<long long>(expected.line), expected.id.size());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Result expected = PlainReader(std::string(reinterpret_cast<const char*>(data), size)).read();
  compare("generic", parse(asma::generic::parse_ntu_skeleton, data, size), expected);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) compare("avx2", parse(asma::avx2::parse_ntu_skeleton, data, size), expected);
#endif
  return 0;
}
