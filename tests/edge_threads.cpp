// Several threads open, share and use models at once; ThreadSanitizer looks on.
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "../csrc/edge/asma_edge.h"

namespace {

constexpr int kThreads = 4, kRounds = 3;

bool answer(const asma_edge_model* model, std::vector<float>* logits) {
  asma_edge_description is;
  asma_edge_describe(model, &is);
  std::vector<float> frame(is.persons * is.joints * 3);
  logits->resize(2 * is.classes);
  asma_edge_live_description of;
  asma_edge_describe_live(model, 0, &of);
  asma_edge_stream *stream, *live;
  if (asma_edge_start(model, 0, &stream, nullptr)) return false;
  if (asma_edge_start_live(model, 0, &live, nullptr)) return false;
  bool answered = true;
  for (std::uint32_t t = 0; t < of.first; ++t) {
    for (std::size_t i = 0; i < frame.size(); ++i)
      frame[i] = static_cast<float>((i * 7 + static_cast<std::size_t>(t) * 13) % 101) / 50;
    answered = answered && !asma_edge_push(stream, frame.data(), 1, nullptr);
    answered = answered && !asma_edge_push(live, frame.data(), 1, nullptr);
  }
  answered = answered && !asma_edge_predict(stream, nullptr, logits->data(), nullptr);
  answered = answered && !asma_edge_predict(live, nullptr, logits->data() + is.classes, nullptr);
  asma_edge_stop(stream);
  asma_edge_stop(live);
  return answered;
}

}  // namespace

int main(int, char** arguments) {
  asma_edge_model* shared = nullptr;
  std::vector<float> found[kThreads];
  bool right[kThreads] = {};
  std::vector<std::thread> threads;
  if (asma_edge_open(arguments[1], &shared, nullptr)) return 1;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      right[i] = true;
      for (int round = 0; round < kRounds; ++round) {
        asma_edge_model* own;
        right[i] = right[i] && !asma_edge_open(arguments[1], &own, nullptr) && answer(own, &found[i]);
        asma_edge_close(own);
        right[i] = right[i] && answer(shared, &found[i]);
      }
    });
  for (std::thread& thread : threads) thread.join();
  asma_edge_close(shared);
  for (int i = 0; i < kThreads; ++i)
    if (!right[i] || std::memcmp(found[i].data(), found[0].data(), found[0].size() * sizeof(float)) != 0) return 2;
  std::puts("same");
  return 0;
}
