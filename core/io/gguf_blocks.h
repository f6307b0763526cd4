/* gguf_blocks.h: how GGUF stores numbers: plain types, and ggml's quantised blocks, each decoded to f32. */
#ifndef LC_GGUF_BLOCKS_H
#define LC_GGUF_BLOCKS_H

#include "tensor/dtype.h"

/* What can be read, for messages. */
#define LC_GGUF_READABLE "F64 F32 F16 BF16 I64 I32 Q8_0 Q6_K Q5_K Q5_1 Q5_0 Q4_K Q4_1 Q4_0 Q3_K Q2_K"
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
#endif
