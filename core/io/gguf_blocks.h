/* gguf_blocks.h: how GGUF stores numbers: plain types, and ggml's quantised blocks, each decoded to f32. */
#ifndef LC_GGUF_BLOCKS_H
#define LC_GGUF_BLOCKS_H

#include "tensor/dtype.h"

#define LC_GGUF_DIMS 4
#define LC_GGUF_BLOCK_MAX 256 /* elements of the longest block */

typedef struct lc_gguf_block {
    const char *name; /* "Q4_0" */
    int elements;     /* of one block; rows are whole blocks */
    int bytes;        /* of one block */
    lc_dtype dtype;   /* what the elements are once read; LC_DTYPES: listed, but not readable */
    void (*decode)(const uint8_t *block, float *out); /* one block; NULL for plain types and what is not read */
} lc_gguf_block;

/* By the type's number in files; NULL when ggml has no such type (or has it no longer). */
const lc_gguf_block *lc_gguf_block_of(uint32_t type);
/* "F32 F16 ...": what can be read, for messages. */
const char *lc_gguf_readable(void);

#endif
