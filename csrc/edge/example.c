/* Names the action in frames of zeros and of a rising arm: what a program that has a camera does with its own frames.
 *
 *     cc example.c $(pkg-config --cflags --libs asma_edge) -o example && ./example student.edge
 */
#include <asma_edge.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const asma_edge_error* error) {
  fprintf(stderr, "example: %s\n", error->sentence);
  return 2;
}

int main(int count, char** arguments) {
  asma_edge_error error;
  asma_edge_model* model;
  asma_edge_stream* stream;
  asma_edge_description is;
  if (count != 2) {
    fprintf(stderr, "usage: example MODEL\n");
    return 2;
  }
  if (asma_edge_open(arguments[1], &model, &error)) return fail(&error);
  asma_edge_describe(model, &is);
  if (asma_edge_start(model, 0, &stream, &error)) return fail(&error);
  float* frame = calloc((size_t)is.persons * is.joints * 3, sizeof(float));
  float* probabilities = calloc(is.classes, sizeof(float));
  if (!frame || !probabilities) return 2;
  for (uint32_t t = 0; t < is.frames; ++t) {
    for (uint32_t v = 0; v < is.joints; ++v) {
      frame[v * 3 + 0] = 0.1f * (float)(v % 5);
      frame[v * 3 + 1] = 0.1f * (float)v + (v == 0 ? 0.01f * (float)t : 0);
      frame[v * 3 + 2] = 3;
    }
    /* Only the first person is there. */
    if (asma_edge_push(stream, frame, 1, &error)) return fail(&error);
  }
  if (asma_edge_predict(stream, probabilities, NULL, &error)) return fail(&error);
  for (uint32_t k = 0; k < is.classes; ++k) printf("%.4f %s\n", probabilities[k], asma_edge_class(model, k));
  free(probabilities);
  free(frame);
  asma_edge_stop(stream);
  asma_edge_close(model);
  return 0;
}
