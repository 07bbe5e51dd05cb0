// asma-edge: skeletons in, actions out.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "asma_edge.h"
#include "clip_text.h"

namespace {

constexpr int kUserError = 2;
constexpr char kUsage[] =
    "usage: asma-edge MODEL [CLIP.json ...] [--top N]\n"
    "       asma-edge MODEL [--live] [--window N] [--every N] [--top N]   one frame a line on stdin\n"
    "       asma-edge MODEL --describe\n"
    "\n"
    "Writes one line of JSON for each clip, or for each frame: the likeliest class and the probabilities of the first "
    "N.\n"
    "A clip is a list of frames; a frame is a list of joints [x, y, z], a list of persons, or null where nobody was\n"
    "seen. The line \"reset\" forgets the frames before it.\n"
    "\n"
    "  --top N      classes a line, default 5\n"
    "  --window N   frames, the newest, that a prediction is made of; default what the model was trained on\n"
    "  --every N    frames between two predictions, default 1\n"
    "  --live       keep the network's state from frame to frame: a prediction costs one frame instead of a window "
    "and\n"
    "               comes some frames late (--describe says how many); until the first one \"class\" is null\n"
    "  --describe   what the model is, and stop\n";

struct Options {
  const char* model = nullptr;
  char** clips = nullptr;  // in argv, one after the other
  int clip_count = 0;
  std::uint32_t top = 5, window = 0, every = 1;
  bool describe = false, live = false;
};

int complain(const char* what, const char* why) {
  std::fflush(stdout);
  std::fprintf(stderr, "asma-edge: %s%s%s\n", what, *what ? ": " : "", why);
  return kUserError;
}

// Sentences of the engine begin with "edge: "; here the command's name says so.
int complain(const char* what, const asma_edge_error& error) {
  const char* const sentence = error.sentence;
  return complain(what, std::strncmp(sentence, "edge: ", 6) == 0 ? sentence + 6 : sentence);
}

bool whole_number(const char* text, std::uint32_t* value) {
  char* end;
  errno = 0;
  const long long found = std::strtoll(text, &end, 10);
  if (errno || end == text || *end || found < 1 || found > INT32_MAX) return false;
  *value = static_cast<std::uint32_t>(found);
  return true;
}

// Clips are moved to the front of argv, options may stand anywhere. The exit status, or -1 to go on.
int read_options(int count, char** arguments, Options* options) {
  options->clips = arguments;
  for (int i = 1; i < count; ++i) {
    char* const word = arguments[i];
    std::uint32_t* number = nullptr;
    if (std::strcmp(word, "--help") == 0 || std::strcmp(word, "-h") == 0) {
      std::fputs(kUsage, stdout);
      return 0;
    }
    if (std::strcmp(word, "--describe") == 0) options->describe = true;
    else if (std::strcmp(word, "--live") == 0) options->live = true;
    else if (std::strcmp(word, "--top") == 0) number = &options->top;
    else if (std::strcmp(word, "--window") == 0) number = &options->window;
    else if (std::strcmp(word, "--every") == 0) number = &options->every;
    else if (word[0] == '-') return complain(word, "there is no such option; asma-edge --help lists them");
    else if (!options->model) options->model = word;
    else options->clips[options->clip_count++] = word;
    if (!number) continue;
    const char* const given = i + 1 < count ? arguments[++i] : "nothing";
    if (!whole_number(given, number)) {
      char why[120];
      std::snprintf(why, sizeof(why), "it must be a whole number from 1, got %.60s", given);
      return complain(word, why);
    }
  }
  if (!options->model) {
    std::fputs(kUsage, stderr);
    return kUserError;
  }
  if (options->live && options->clip_count) return complain("--live", "it takes frames on stdin, and no clips");
  return -1;
}

void print_text(const char* text) {
  std::putchar('"');
  for (; *text; ++text) {
    const unsigned char byte = static_cast<unsigned char>(*text);
    if (byte == '"' || byte == '\\') std::printf("\\%c", byte);
    else if (byte < 32) std::printf("\\u%04x", byte);
    else std::putchar(byte);
  }
  std::putchar('"');
}

// What follows {"clip": ... or {"frame": ...
void print_answer(const asma_edge_model* model, std::uint32_t classes, std::uint32_t top, const float* probabilities,
                  std::uint32_t* order) {
  if (top > classes) top = classes;
  for (std::uint32_t i = 0; i < classes; ++i) order[i] = i;
  for (std::uint32_t i = 0; i < top; ++i) {  // among equals the first class
    std::uint32_t best = i;
    for (std::uint32_t j = i + 1; j < classes; ++j)
      if (probabilities[order[j]] > probabilities[order[best]] ||
          (probabilities[order[j]] == probabilities[order[best]] && order[j] < order[best]))
        best = j;
    const std::uint32_t swapped = order[i];
    order[i] = order[best];
    order[best] = swapped;
  }
  std::fputs(", \"class\": ", stdout);
  print_text(asma_edge_class(model, order[0]));
  std::fputs(", \"probabilities\": {", stdout);
  for (std::uint32_t i = 0; i < top; ++i) {
    if (i > 0) std::fputs(", ", stdout);
    print_text(asma_edge_class(model, order[i]));
    std::printf(": %.6g", static_cast<double>(probabilities[order[i]]));
  }
  std::fputs("}}\n", stdout);
  std::fflush(stdout);
}

// Of a live stream, before its first one: whoever waits for a line after each frame gets it.
void print_no_answer() {
  std::fputs(", \"class\": null, \"probabilities\": {}}\n", stdout);
  std::fflush(stdout);
}

void print_description(const asma_edge_model* model, std::uint32_t window) {
  asma_edge_description d;
  asma_edge_live_description live;
  asma_edge_describe(model, &d);
  asma_edge_describe_live(model, window, &live);
  std::printf(
      "{\"format\": %u, \"channels\": %u, \"frames\": %u, \"joints\": %u, \"persons\": %u, \"encoders\": %u, "
      "\"blocks\": %u, \"prepares\": %s, \"file_bytes\": %llu, \"model_bytes\": %llu, \"stream_bytes\": %llu, "
      "\"instructions\": \"%s\", \"precision\": \"%s\", \"multiplies\": \"%s\", "
      "\"live\": {\"first\": %u, \"full\": %u, \"stride\": %u, \"stream_bytes\": %llu}, \"classes\": [",
      d.format, d.channels, d.frames, d.joints, d.persons, d.encoders, d.blocks, d.prepares ? "true" : "false",
      static_cast<unsigned long long>(d.file_bytes), static_cast<unsigned long long>(d.model_bytes),
      static_cast<unsigned long long>(d.stream_bytes), d.instructions, d.precision, d.multiplies, live.first, live.full,
      live.stride, static_cast<unsigned long long>(live.stream_bytes));
  for (std::uint32_t i = 0; i < d.classes; ++i) {
    if (i > 0) std::fputs(", ", stdout);
    print_text(asma_edge_class(model, i));
  }
  std::fputs("], \"joint_names\": [", stdout);
  for (std::uint32_t i = 0; i < d.joints; ++i) {
    if (i > 0) std::fputs(", ", stdout);
    print_text(asma_edge_joint(model, i));
  }
  std::fputs("]}\n", stdout);
}

// The file's text with 0 at its end, to be freed; null where it cannot be read.
char* read_file(const char* path) {
  FILE* const file = std::fopen(path, "rb");
  if (!file) return nullptr;
  char* text = nullptr;
  std::size_t size = 0, room = 1 << 16;
  for (;;) {
    char* const larger = static_cast<char*>(std::realloc(text, room + 1));
    if (!larger) break;
    text = larger;
    size += std::fread(text + size, 1, room - size, file);
    if (size < room) {
      const bool failed = std::ferror(file) != 0;
      std::fclose(file);
      if (failed) break;
      text[size] = 0;
      return text;
    }
    room *= 2;
  }
  const int reason = errno;
  std::free(text);
  errno = reason;
  return nullptr;
}

struct Session {
  const Options& options;
  const asma_edge_model* model;
  asma_edge_stream* stream;
  asma_edge_description description;
  float* probabilities;
  std::uint32_t* order;
  asma::edge::ClipText text;

  int run() { return options.clip_count ? clips() : frames(); }

 private:
  int clips() {
    asma_edge_error error;
    for (int i = 0; i < options.clip_count; ++i) {
      const char* const path = options.clips[i];
      char* const content = read_file(path);
      if (!content) return complain(path, std::strerror(errno));
      const bool read = text.read_clip(content);
      std::free(content);
      if (!read) return complain(path, text.problem());
      if (asma_edge_predict_clip(stream, text.xyz(), text.present(), text.frames(), probabilities, nullptr, &error))
        return complain(path, error);
      std::fputs("{\"clip\": ", stdout);
      print_text(path);
      print_answer(model, description.classes, options.top, probabilities, order);
    }
    return 0;
  }

  int frames() {
    asma_edge_error error;
    char* line = nullptr;
    std::size_t room = 0;
    unsigned long long number = 0, frame = 0;
    int status = 0;
    for (ssize_t size; status == 0 && (size = getline(&line, &room, stdin)) >= 0;) {
      ++number;
      if (line[std::strspn(line, " \t\r\n")] == 0) continue;
      char where[40];
      std::snprintf(where, sizeof(where), "line %llu", number);
      if (std::strncmp(line, "\"reset\"", 7) == 0) {
        asma_edge_reset(stream);
        frame = 0;
      } else if (std::strlen(line) != static_cast<std::size_t>(size)) {
        status = complain(where, "it has a zero byte");
      } else if (!text.read_frame(line)) {
        status = complain(where, text.problem());
      } else if (asma_edge_push(stream, text.xyz(), text.present()[0], &error)) {
        status = complain(where, error);
      } else if (++frame % options.every == 0) {
        const int code = asma_edge_predict(stream, probabilities, nullptr, &error);
        if (code == ASMA_EDGE_OK || code == ASMA_EDGE_NO_FRAME) std::printf("{\"frame\": %llu", frame - 1);
        if (code == ASMA_EDGE_OK) print_answer(model, description.classes, options.top, probabilities, order);
        else if (code == ASMA_EDGE_NO_FRAME) print_no_answer();
        else status = complain(where, error);
      }
    }
    std::free(line);
    return status;
  }
};

int run(const Options& options, const asma_edge_model* model) {
  if (options.describe) {
    print_description(model, options.window);
    return 0;
  }
  asma_edge_error error;
  asma_edge_stream* stream;
  const auto start = options.live ? asma_edge_start_live : asma_edge_start;
  if (start(model, options.window, &stream, &error)) return complain(options.model, error);
  asma_edge_description d;
  asma_edge_describe(model, &d);
  float* const probabilities = static_cast<float*>(std::calloc(d.classes, sizeof(float)));
  std::uint32_t* const order = static_cast<std::uint32_t*>(std::calloc(d.classes, sizeof(std::uint32_t)));
  int status = kUserError;
  if (probabilities && order) {
    Session session{options, model, stream, d, probabilities, order, {d.joints, d.persons}};
    status = session.run();
  } else {
    complain("", "the system has no memory");
  }
  std::free(probabilities);
  std::free(order);
  asma_edge_stop(stream);
  return status;
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  int status = read_options(count, arguments, &options);
  if (status >= 0) return status;
  asma_edge_model* model;
  asma_edge_error error;
  if (asma_edge_open(options.model, &model, &error)) return complain("", error);
  status = run(options, model);
  asma_edge_close(model);
  if (std::fflush(stdout) != 0) return complain("stdout", std::strerror(errno));
  return status;
}
