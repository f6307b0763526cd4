/* gguf_weights.c: the format GGUF of weights.h: quantised blocks are decoded to f32 as they are read. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "io/gguf.h"
#include "io/weights_format.h"

#define STAGE_BYTES ((size_t)1 << 20) /* of blocks, at a time */

static bool is_gguf(const uint8_t *head, size_t length) {
    return length >= 4 && !memcmp(head, "GGUF", 4);
}

static lc_status add_value(lc_weights *w, const lc_gguf *g, const lc_gguf_value *v) {
    lc_metadata entry = {.key = v->key};
    if (v->is_array) return LC_OK;
    if (v->kind == LC_GGUF_STRING) {
        entry.text = ((const lc_gguf_string *)v->data)->text;
        entry.length = ((const lc_gguf_string *)v->data)->length;
    } else if (v->kind == LC_GGUF_BOOL) {
        entry.kind = LC_METADATA_BOOL;
        LC_TRY(lc_gguf_get_bool(g, v->key, &entry.yes));
    } else if (v->kind == LC_GGUF_F32 || v->kind == LC_GGUF_F64) {
        entry.kind = LC_METADATA_NUMBER;
        LC_TRY(lc_gguf_get_double(g, v->key, &entry.number));
    } else if (v->kind == LC_GGUF_U64 && *(const uint64_t *)v->data > INT64_MAX) {
        entry.kind = LC_METADATA_NUMBER;
        entry.number = (double)*(const uint64_t *)v->data;
    } else {
        entry.kind = LC_METADATA_INTEGER;
        LC_TRY(lc_gguf_get_int(g, v->key, &entry.integer));
    }
    return lc_weights_add_metadata(w, &entry);
}

static lc_status open_gguf(lc_weights *w, lc_weights_file *file, const char *path) {
    lc_gguf *g = NULL;
    LC_TRY(lc_gguf_open(path, &g));
    file->state = g;
    for (int64_t i = 0; i < lc_gguf_tensor_count(g); i++) {
        const lc_gguf_tensor *t = lc_gguf_tensor_at(g, i);
        lc_stored e = {.name = t->name,
                       .type = t->block->name,
                       .dtype = t->block->dtype,
                       .ndim = t->ndim,
                       .begin = t->begin,
                       .end = t->end,
                       .part = i};
        memcpy(e.shape, t->shape, sizeof *e.shape * (size_t)t->ndim);
        LC_TRY(lc_weights_add(w, &e));
    }
    for (int64_t i = 0; i < lc_gguf_value_count(g); i++) LC_TRY(add_value(w, g, lc_gguf_value_at(g, i)));
    return LC_OK;
}

static lc_status read_blocks(lc_reader *reader, const lc_gguf_block *block, uint64_t at, int64_t blocks, float *out) {
    int64_t step = (int64_t)STAGE_BYTES / block->bytes;
    uint8_t *stage = lc_alloc((size_t)(lc_min(step, blocks) * block->bytes));
    if (!stage) return LC_ENOMEM;
    lc_status status = LC_OK;
    for (int64_t first = 0; first < blocks && !status; first += step) {
        int64_t n = lc_min(step, blocks - first);
        status = lc_reader_read(reader, at + (uint64_t)(first * block->bytes), stage, (size_t)(n * block->bytes));
        for (int64_t i = 0; i < n && !status; i++)
            block->decode(stage + i * block->bytes, out + (first + i) * block->elements);
    }
    lc_free(stage);
    return status;
}

static lc_status read_gguf(lc_weights_file *file, const lc_stored *e, int64_t first, int64_t count, void *out) {
    lc_reader *reader = lc_gguf_reader(file->state);
    const lc_gguf_block *block = lc_gguf_tensor_at(file->state, e->part)->block;
    uint64_t at = e->begin + (uint64_t)(first / block->elements * block->bytes);
    if (block->decode) return read_blocks(reader, block, at, count / block->elements, out);
    return lc_reader_read(reader, at, out, (size_t)count * (size_t)block->bytes);
}

static void close_gguf(lc_weights_file *file) {
    lc_gguf_close(file->state);
}

const lc_weights_format lc_format_gguf = {
    .readable = LC_GGUF_READABLE,
    .is_ours = is_gguf,
    .open = open_gguf,
    .read = read_gguf,
    .close = close_gguf,
};
