// .skeleton files, read and parsed on several threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace asma::host {

struct NtuFile {
  std::int64_t frames = 0;
  std::vector<std::int32_t> frame;  // (B), one entry for each body of each frame, rising
  std::vector<std::uint64_t> id;    // (B)
  std::vector<float> xyz;           // (B, 25, 3), finite or NaN
  std::string error;                // why the rest is empty: the line, the rule, what was found
};

// One for each path, in their order; an error of one file is no error of the others.
std::vector<NtuFile> read_ntu_files(const std::vector<std::string>& paths, int threads);

}  // namespace asma::host
