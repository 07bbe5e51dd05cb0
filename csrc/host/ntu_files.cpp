#include "ntu_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>

#include "../cpu/isa.h"
#include "ntu_skeleton.h"

namespace asma::host {
namespace {

// Three hours of one body. The files of NTU RGB+D have some hundred kilobytes.
constexpr std::size_t kMostBytes = std::size_t{1} << 30;

bool parse(NtuSkeleton* skeleton) {
#if defined(__x86_64__)
  if (isa() >= Isa::avx2) return avx2::parse_ntu_skeleton(skeleton);
#endif
  return generic::parse_ntu_skeleton(skeleton);
}

bool is_blank(char c) { return static_cast<unsigned char>(c) <= ' '; }

// In quotes, on one line, not too long.
std::string quoted(const char* begin, const char* end) {
  while (begin < end && is_blank(end[-1])) --end;
  constexpr std::ptrdiff_t most = 40;
  constexpr char digits[] = "0123456789abcdef";
  std::string text = "'";
  for (const char* at = begin; at < end && at - begin < most; ++at) {
    const auto byte = static_cast<unsigned char>(*at);
    if (byte >= ' ' && byte < 0x7F) text += *at;
    else text.append({'\\', 'x', digits[byte >> 4], digits[byte & 15]});
  }
  return text + (end - begin > most ? "...'" : "'");
}

std::string number_of_words(const char* begin, const char* end) {
  int words = 0;
  for (bool after_blank = true; begin < end; after_blank = is_blank(*begin++))
    words += after_blank && !is_blank(*begin);
  return std::to_string(words);
}

std::string in_range(const char* what, std::int64_t most) {
  return std::string(what) + " must be an integer in [0, " + std::to_string(most) + "]";
}

std::string sentence(const NtuSkeleton& skeleton) {
  std::string rule, found = quoted(skeleton.found, skeleton.found_end);
  switch (skeleton.broken) {
    case Rule::none: return "";
    case Rule::not_utf16:
      rule = "the text must be ASCII or UTF-8";
      found = "UTF-16";
      break;
    case Rule::number_of_frames: rule = in_range("the number of frames", kMostFrames); break;
    case Rule::number_of_bodies: rule = in_range("the number of bodies", kMostBodies); break;
    case Rule::number_of_joints: rule = "the number of joints must be 25"; break;
    case Rule::body:
    case Rule::joint:
      rule = skeleton.broken == Rule::body ? "a body must have 10 numbers" : "a joint must have 12 numbers";
      found = number_of_words(skeleton.found, skeleton.found_end);
      break;
    case Rule::id: rule = "the id of a body must be an integer in [0, 2^64)"; break;
    case Rule::x: rule = "x must be nan or a number that float32 can hold"; break;
    case Rule::y: rule = "y must be nan or a number that float32 can hold"; break;
    case Rule::z: rule = "z must be nan or a number that float32 can hold"; break;
    case Rule::end: rule = "nothing may follow the last frame"; break;
  }
  if (skeleton.found == skeleton.text + skeleton.size) found = "the end of the file";
  return "line " + std::to_string(skeleton.line) + ": " + rule + ", got " + found;
}

// Memory that one thread uses for all its files.
class Reader {
 public:
  void read(const std::string& path, NtuFile* out) {
    std::size_t size = 0;
    out->error = load(path, &size);
    if (!out->error.empty()) return;
    NtuSkeleton skeleton{};
    skeleton.text = text_.get();
    skeleton.size = size;
    skeleton.frame = frame_.get();
    skeleton.id = id_.get();
    skeleton.xyz = xyz_.get();
    if (!parse(&skeleton)) {
      out->error = sentence(skeleton);
      return;
    }
    const auto bodies = static_cast<std::size_t>(skeleton.bodies);
    out->frame.assign(skeleton.frame, skeleton.frame + bodies);
    out->id.assign(skeleton.id, skeleton.id + bodies);
    out->xyz.assign(skeleton.xyz, skeleton.xyz + bodies * kJoints * 3);
    out->frames = skeleton.frames;
  }

 private:
  // The text with its padding, and room for what it can hold.
  std::string load(const std::string& path, std::size_t* size) {
    // Not blocking: the other end of a pipe need not be there.
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return "it cannot be opened: " + std::generic_category().message(errno);
    std::string error = load(file, size);
    close(file);
    return error;
  }

  std::string load(int file, std::size_t* size) {
    struct stat about;
    if (fstat(file, &about) != 0) return "it cannot be read: " + std::generic_category().message(errno);
    if (!S_ISREG(about.st_mode)) return "it must be a regular file, got a folder, pipe or device";
    if (about.st_size > static_cast<off_t>(kMostBytes))
      return "it must have at most " + std::to_string(kMostBytes) + " bytes, got " + std::to_string(about.st_size);
    reserve(static_cast<std::size_t>(about.st_size));
    *size = 0;
    while (*size < static_cast<std::size_t>(about.st_size)) {
      const ssize_t got = ::read(file, text_.get() + *size, static_cast<std::size_t>(about.st_size) - *size);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return "it cannot be read: " + std::generic_category().message(errno);
      if (got == 0) break;
      *size += static_cast<std::size_t>(got);
    }
    std::memset(text_.get() + *size, '\n', kPadding);
    return "";
  }

  void reserve(std::size_t size) {
    if (size + kPadding <= room_) return;
    room_ = 0;
    const std::size_t room = size + size / 4 + kPadding, bodies = most_bodies(room);
    // new[] leaves them as they are, so the operating system gives no page that is not needed.
    text_.reset(new char[room]);
    frame_.reset(new std::int32_t[bodies]);
    id_.reset(new std::uint64_t[bodies]);
    xyz_.reset(new float[bodies * kJoints * 3]);
    room_ = room;
  }

  std::size_t room_ = 0;
  std::unique_ptr<char[]> text_;
  std::unique_ptr<std::int32_t[]> frame_;
  std::unique_ptr<std::uint64_t[]> id_;
  std::unique_ptr<float[]> xyz_;
};

}  // namespace

std::vector<NtuFile> read_ntu_files(const std::vector<std::string>& paths, int threads) {
  std::vector<NtuFile> files(paths.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    Reader reader;
    for (std::size_t i; (i = next++) < paths.size();) {
      try {
        reader.read(paths[i], &files[i]);
      } catch (const std::bad_alloc&) {
        files[i] = NtuFile();
        files[i].error = "it does not fit into memory";
      }
    }
  };
  std::vector<std::thread> others;
  const auto wanted = std::min(static_cast<std::size_t>(std::max(threads, 1)), paths.size());
  try {
    for (std::size_t i = 1; i < wanted; ++i) others.emplace_back(work);
  } catch (const std::system_error&) {
    // No more threads are to be had; those that are do all the work.
  }
  work();
  for (std::thread& other : others) other.join();
  return files;
}

}  // namespace asma::host
