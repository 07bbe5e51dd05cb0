/* Counts what the engine allocates: nothing, once a stream is started. Linked with --wrap for each of the names. */
#include <asma_edge.h>
#include <stdio.h>
#include <stdlib.h>

static int count;
void* __real_malloc(size_t);
void* __real_calloc(size_t, size_t);
void* __real_realloc(void*, size_t);
int __real_posix_memalign(void**, size_t, size_t);
void* __wrap_malloc(size_t size) { return ++count, __real_malloc(size); }
void* __wrap_calloc(size_t n, size_t size) { return ++count, __real_calloc(n, size); }
void* __wrap_realloc(void* at, size_t size) { return ++count, __real_realloc(at, size); }
int __wrap_posix_memalign(void** at, size_t alignment, size_t size) {
  return ++count, __real_posix_memalign(at, alignment, size);
}

int main(int arguments, char** argument) {
  static float xyz[4096], probabilities[64], logits[64];
  asma_edge_model* model;
  asma_edge_stream *stream, *live;
  asma_edge_description is;
  if (arguments != 2 || asma_edge_open(argument[1], &model, NULL) || asma_edge_start(model, 9, &stream, NULL)) return 1;
  const int started = asma_edge_start_live(model, 9, &live, NULL);
  if (started && started != ASMA_EDGE_FLOAT32_ONLY) return 1;
  asma_edge_describe(model, &is);
  const int before = count;
  if (is.persons * is.joints * 3 > 4096 || is.classes > 64 || before < 3) return 2;
  for (int t = 0; t < 20; ++t) {
    for (int i = 0; i < 4096; ++i) xyz[i] = (float)((i * 7 + t * 13) % 101) / 50;
    if (asma_edge_push(stream, xyz, t % 4, NULL) || asma_edge_predict(stream, probabilities, logits, NULL)) return 3;
  }
  if (asma_edge_predict_clip(stream, xyz, NULL, 1, probabilities, logits, NULL)) return 4;
  xyz[0] = 1e39f;
  if (asma_edge_push(stream, xyz, 1, NULL) != ASMA_EDGE_NOT_FINITE) return 5;
  asma_edge_reset(stream);
  if (asma_edge_predict(stream, probabilities, logits, NULL) != ASMA_EDGE_NO_FRAME) return 6;
  for (int t = 0; live && t < 40; ++t) {
    for (int i = 0; i < 4096; ++i) xyz[i] = (float)((i * 7 + t * 13) % 101) / 50;
    const int code = t % 2 ? asma_edge_push(live, xyz, t % 4, NULL) : asma_edge_push_prepared(live, xyz, NULL);
    if (code) return 7;
    if (asma_edge_predict(live, probabilities, logits, NULL) != (t < 16 ? ASMA_EDGE_NO_FRAME : ASMA_EDGE_OK)) return 8;
  }
  if (live) asma_edge_reset(live);
  printf("%d\n", count - before);
  asma_edge_stop(stream);
  asma_edge_stop(live);
  asma_edge_close(model);
  return 0;
}
