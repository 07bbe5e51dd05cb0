/* The edge engine: a trained student (or teacher) of ASMa in a process without Python and PyTorch.
 *
 *     asma_edge_model* model;
 *     asma_edge_stream* stream;
 *     asma_edge_error error;
 *     if (asma_edge_open("student.edge", &model, &error)) ...            error.sentence says why
 *     if (asma_edge_start(model, 0, &stream, &error)) ...
 *     while (a frame of skeletons comes) {
 *       asma_edge_push(stream, xyz, ASMA_EDGE_EVERYBODY, &error);
 *       asma_edge_predict(stream, probabilities, NULL, &error);
 *     }
 *     asma_edge_stop(stream);
 *     asma_edge_close(model);
 *
 * Ownership: who opens closes, who starts stops; every other pointer stays the caller's, and is read or written only
 * during the call. A model must outlive its streams.
 * Threads: a model never changes after it was opened, so any number of threads may use it at once. A stream is one
 * thread's at a time; start one for each. The engine starts no thread.
 * Memory: asma_edge_open and asma_edge_start (or _start_live) allocate; nothing else does.
 * Errors: a call that can fail returns an asma_edge_code and, where `error` is not NULL, a sentence; then nothing was
 * changed but what the call says. No call throws, exits or prints.
 * Numbers: float32 goes in, between blocks and out; what is multiplied has the file's precision (docs/edge.md). The
 * same bits between runs, threads and streams on one kind of processor.
 */
#ifndef ASMA_EDGE_H
#define ASMA_EDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ASMA_EDGE_API __attribute__((visibility("default")))
#else
#define ASMA_EDGE_API
#endif

/* Changes where a program must be changed or compiled again; asma_edge_api_version() is the library's. */
#define ASMA_EDGE_API_VERSION 2

typedef enum asma_edge_code {
  ASMA_EDGE_OK = 0,
  ASMA_EDGE_BAD_ARGUMENT = 1,   /* NULL, a number out of its range, or a stream of the other kind */
  ASMA_EDGE_CANNOT_READ = 2,    /* the operating system does not give the file */
  ASMA_EDGE_NOT_A_MODEL = 3,    /* it is another kind of file */
  ASMA_EDGE_OTHER_FORMAT = 4,   /* of a version of the format that this engine does not read */
  ASMA_EDGE_DAMAGED = 5,        /* cut, changed, or contradicting itself */
  ASMA_EDGE_TOO_LARGE = 6,      /* needs more than ASMA_EDGE_MOST_MEMORY */
  ASMA_EDGE_NO_MEMORY = 7,      /* the operating system gives no more */
  ASMA_EDGE_NOT_FINITE = 8,     /* NaN or infinite coordinates, or an answer that overflowed */
  ASMA_EDGE_NO_FRAME = 9,       /* nothing was pushed, or too little for a live stream's first answer */
  ASMA_EDGE_PREPARED_ONLY = 10, /* clips of this model are prepared in a way that the engine does not know */
  ASMA_EDGE_FLOAT32_ONLY = 11   /* a live stream of a model in bfloat16 or int8 */
} asma_edge_code;

/* Bytes that one open model and, again, one stream may take beside the mapped file. */
#define ASMA_EDGE_MOST_MEMORY (1 << 30)
/* `present` where all persons of a frame are there. */
#define ASMA_EDGE_EVERYBODY UINT32_MAX

typedef struct asma_edge_error {
  char sentence[256]; /* ends with 0; what was wrong and what was found; empty after ASMA_EDGE_OK */
} asma_edge_error;

typedef struct asma_edge_model asma_edge_model;
typedef struct asma_edge_stream asma_edge_stream;

typedef struct asma_edge_description {
  uint32_t format;                    /* version of the file's format */
  uint32_t channels, frames, joints;  /* C, T that a clip is resampled to, V */
  uint32_t persons;                   /* M of a frame */
  uint32_t encoders, blocks, classes; /* blocks: of each encoder */
  uint32_t prepares;                  /* 1: raw coordinates (x, y, z) go in; 0: asma_edge_predict_prepared alone */
  uint64_t file_bytes;                /* of the model file */
  uint64_t model_bytes, stream_bytes; /* what asma_edge_open and asma_edge_start (window 0) allocate */
  const char* instructions;           /* what this processor runs: generic, avx2, avx512 or neon */
  const char* precision;              /* of the file's weights: float32, bfloat16 or int8 */
  const char* multiplies;             /* what this processor multiplies for it: float32, bfloat16 or int16 */
} asma_edge_description;

ASMA_EDGE_API uint32_t asma_edge_api_version(void);

/* Map a file and check all of it: its checksum, then every number that is an index or a size. The file must not be
 * changed in place while it is open; replace it by rename. */
ASMA_EDGE_API int asma_edge_open(const char* path, asma_edge_model** model, asma_edge_error* error);

/* The same of a file's bytes in memory, at an address that 64 divides; they must stay until asma_edge_close. */
ASMA_EDGE_API int asma_edge_open_memory(const void* bytes, size_t size, asma_edge_model** model,
                                        asma_edge_error* error);

/* NULL is no error. */
ASMA_EDGE_API void asma_edge_close(asma_edge_model* model);

ASMA_EDGE_API void asma_edge_describe(const asma_edge_model* model, asma_edge_description* description);

/* UTF-8, the model's; NULL where there is no such class or joint. */
ASMA_EDGE_API const char* asma_edge_class(const asma_edge_model* model, uint32_t index);
ASMA_EDGE_API const char* asma_edge_joint(const asma_edge_model* model, uint32_t index);

/* A stream of skeletons. window: of how many frames, the newest, a prediction is made; 0 for the model's T. */
ASMA_EDGE_API int asma_edge_start(const asma_edge_model* model, uint32_t window, asma_edge_stream** stream,
                                  asma_edge_error* error);
ASMA_EDGE_API void asma_edge_stop(asma_edge_stream* stream);

/* A live stream. It keeps each block's state and not the frames, so that a prediction costs one frame instead of a
 * window: for a program that predicts after each of them. Its answer is that of the network for the whole sequence
 * since the start, with zeros before it; of that the newest frames count, as many as a window has, that no frame yet to
 * come can change: it is about a moment `first` - 1 frames ago. Frames are taken at the rate that they come in, not
 * resampled. What prepares a clip by its first frame (place, turn) or by all of them (size) is found in the first frame
 * with the first person.
 *
 * asma_edge_push, _predict, _reset and _stop are the same. Before `first` frames predict says ASMA_EDGE_NO_FRAME.
 * asma_edge_predict_clip and _predict_prepared are not for it; asma_edge_push_prepared is. */
ASMA_EDGE_API int asma_edge_start_live(const asma_edge_model* model, uint32_t window, asma_edge_stream** stream,
                                       asma_edge_error* error);

typedef struct asma_edge_live_description { /* UINT32_MAX stands for more */
  uint32_t first;                           /* frames that must be pushed for the first answer */
  uint32_t full;                            /* for one that sees nothing of the zeros before the first frame */
  uint32_t stride;                          /* frames from one new answer to the next; between them it stays the same */
  uint64_t stream_bytes;                    /* what asma_edge_start_live allocates */
} asma_edge_live_description;

ASMA_EDGE_API void asma_edge_describe_live(const asma_edge_model* model, uint32_t window,
                                           asma_edge_live_description* description);

/* Forget all frames. */
ASMA_EDGE_API void asma_edge_reset(asma_edge_stream* stream);

/* Add a frame. xyz: (M, V, 3) in the axes and units of the training clips. Bit m of `present`: person m is in the
 * frame; what stands for a person who is not is not looked at. 0 for a frame that nobody was seen in, then xyz may be
 * NULL. */
ASMA_EDGE_API int asma_edge_push(asma_edge_stream* stream, const float* xyz, uint32_t present, asma_edge_error* error);

/* Add a frame to a live stream that was prepared elsewhere: x (C, V, M). */
ASMA_EDGE_API int asma_edge_push_prepared(asma_edge_stream* stream, const float* x, asma_edge_error* error);

/* Classes of the newest frames: probabilities and logits (classes), either may be NULL. */
ASMA_EDGE_API int asma_edge_predict(asma_edge_stream* stream, float* probabilities, float* logits,
                                    asma_edge_error* error);

/* Classes of a whole clip, (frames, M, V, 3) and present (frames) or NULL for everybody; frames that were pushed stay
 * and are not looked at. */
ASMA_EDGE_API int asma_edge_predict_clip(asma_edge_stream* stream, const float* xyz, const uint32_t* present,
                                         size_t frames, float* probabilities, float* logits, asma_edge_error* error);

/* Classes of a clip that was prepared elsewhere: x (C, T, V, M), as asma.prepare gives it. */
ASMA_EDGE_API int asma_edge_predict_prepared(asma_edge_stream* stream, const float* x, float* probabilities,
                                             float* logits, asma_edge_error* error);

#ifdef __cplusplus
}
#endif

#endif /* ASMA_EDGE_H */
