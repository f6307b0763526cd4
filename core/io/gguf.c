/* gguf.c: reading the header; see gguf.h. All numbers are little-endian. */
#include "io/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/memory.h"

#define DEFAULT_ALIGNMENT 32
#define WINDOW_BYTES ((size_t)64 << 10)
#define KV_MIN_BYTES 13     /* of one entry of the metadata: length of the key, type, one byte */
#define TENSOR_MIN_BYTES 32 /* of one tensor: length of the name, dimensions, one size, type, offset */

struct lc_gguf {
    lc_reader *reader;
    lc_arena arena; /* keys, names, values */
    int64_t n_values, n_tensors;
    lc_gguf_value *values;
    lc_gguf_tensor *tensors;
};

/* -- the bytes ---------------------------------------------------------------------------------- */

/* Reads the file forward through a window. */
typedef struct cursor {
    lc_reader *reader;
    uint64_t at, size;
    uint64_t window_begin;
    size_t window_length;
    uint8_t *window;
} cursor;

static lc_status fail_short(const cursor *c, const char *what) {
    return lc_fail(LC_EFORMAT,
                   "%s: %s at byte %" PRIu64 " runs past the end of the file (%" PRIu64 "); the download "
                   "looks cut off: fetch it again",
                   lc_reader_path(c->reader), what, c->at, c->size);
}

static lc_status take(cursor *c, void *out, size_t length, const char *what) {
    if (length > c->size - c->at) return fail_short(c, what);
    if (length > WINDOW_BYTES) {
        LC_TRY(lc_reader_read(c->reader, c->at, out, length));
        c->at += length;
        return LC_OK;
    }
    if (c->at < c->window_begin || c->at + length > c->window_begin + c->window_length) {
        size_t n = c->size - c->at < WINDOW_BYTES ? (size_t)(c->size - c->at) : WINDOW_BYTES;
        c->window_length = 0;
        LC_TRY(lc_reader_read(c->reader, c->at, c->window, n));
        c->window_begin = c->at;
        c->window_length = n;
    }
    memcpy(out, c->window + (c->at - c->window_begin), length);
    c->at += length;
    return LC_OK;
}

static lc_status take_u32(cursor *c, uint32_t *out, const char *what) {
    uint8_t b[4];
    LC_TRY(take(c, b, 4, what));
    *out = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    return LC_OK;
}

static lc_status take_u64(cursor *c, uint64_t *out, const char *what) {
    uint32_t low, high;
    LC_TRY(take_u32(c, &low, what));
    LC_TRY(take_u32(c, &high, what));
    *out = (uint64_t)high << 32 | low;
    return LC_OK;
}

/* How many things of at least `least` bytes follow. */
static lc_status take_count(cursor *c, int64_t *out, uint64_t least, const char *what) {
    uint64_t count;
    LC_TRY(take_u64(c, &count, what));
    if (count > (c->size - c->at) / least)
        return lc_fail(LC_EFORMAT,
                       "%s: %s: %" PRIu64 " of them do not fit into the file (%" PRIu64 " bytes); it is "
                       "damaged, or was cut off: fetch it again",
                       lc_reader_path(c->reader), what, count, c->size);
    *out = (int64_t)count;
    return LC_OK;
}

static lc_status take_string(cursor *c, lc_arena *arena, lc_gguf_string *out, const char *what) {
    uint64_t length;
    LC_TRY(take_u64(c, &length, what));
    if (length > c->size - c->at) return fail_short(c, what);
    char *text = lc_arena_alloc(arena, (size_t)length + 1);
    if (!text) return LC_ENOMEM;
    LC_TRY(take(c, text, (size_t)length, what));
    text[length] = '\0';
    *out = (lc_gguf_string){text, (size_t)length};
    return LC_OK;
}

/* A key or a name: a string without NUL. */
static lc_status take_name(cursor *c, lc_arena *arena, const char **out, const char *what) {
    lc_gguf_string s;
    uint64_t at = c->at;
    LC_TRY(take_string(c, arena, &s, what));
    if (s.length == 0 || strlen(s.text) != s.length)
        return lc_fail(LC_EFORMAT, "%s: %s at byte %" PRIu64 " is empty or has a zero byte", lc_reader_path(c->reader),
                       what, at);
    *out = s.text;
    return LC_OK;
}

/* -- metadata ----------------------------------------------------------------------------------- */

static const struct {
    const char *one, *many; /* what it is called, and an array of it */
    size_t bytes;           /* in the file, at least */
} kinds[LC_GGUF_KINDS] = {
    [LC_GGUF_U8] = {"an integer", "an array of integers", 1},
    [LC_GGUF_I8] = {"an integer", "an array of integers", 1},
    [LC_GGUF_U16] = {"an integer", "an array of integers", 2},
    [LC_GGUF_I16] = {"an integer", "an array of integers", 2},
    [LC_GGUF_U32] = {"an integer", "an array of integers", 4},
    [LC_GGUF_I32] = {"an integer", "an array of integers", 4},
    [LC_GGUF_F32] = {"a float", "an array of floats", 4},
    [LC_GGUF_BOOL] = {"a boolean", "an array of booleans", 1},
    [LC_GGUF_STRING] = {"a string", "an array of strings", 8},
    [LC_GGUF_ARRAY] = {"an array", "an array of arrays", 12},
    [LC_GGUF_U64] = {"an integer", "an array of integers", 8},
    [LC_GGUF_I64] = {"an integer", "an array of integers", 8},
    [LC_GGUF_F64] = {"a double", "an array of doubles", 8},
};

static lc_status take_kind(cursor *c, const char *key, lc_gguf_kind *out) {
    uint32_t kind;
    LC_TRY(take_u32(c, &kind, "the type of a value"));
    if (kind >= LC_GGUF_KINDS)
        return lc_fail(LC_EFORMAT, "%s: metadata %s has type %" PRIu32 ", which GGUF does not define",
                       lc_reader_path(c->reader), key, kind);
    *out = (lc_gguf_kind)kind;
    return LC_OK;
}

/* count numbers of `bytes` each, from little-endian to the machine's order. */
static lc_status take_numbers(cursor *c, void *out, int64_t count, size_t bytes, const char *key) {
    LC_TRY(take(c, out, (size_t)count * bytes, key));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (int64_t i = 0; i < count; i++) {
        uint8_t *b = (uint8_t *)out + (size_t)i * bytes;
        for (size_t k = 0; k < bytes / 2; k++) {
            uint8_t swap = b[k];
            b[k] = b[bytes - 1 - k];
            b[bytes - 1 - k] = swap;
        }
    }
#endif
    return LC_OK;
}

static lc_status take_elements(lc_gguf *g, cursor *c, lc_gguf_value *v) {
    bool strings = v->kind == LC_GGUF_STRING;
    size_t bytes = strings ? sizeof(lc_gguf_string) : kinds[v->kind].bytes;
    void *data = lc_arena_alloc(&g->arena, (size_t)v->count * bytes + 1);
    if (!data) return LC_ENOMEM;
    v->data = data;
    if (!strings) LC_TRY(take_numbers(c, data, v->count, bytes, v->key));
    for (int64_t i = 0; strings && i < v->count; i++)
        LC_TRY(take_string(c, &g->arena, &((lc_gguf_string *)data)[i], v->key));
    for (int64_t i = 0; v->kind == LC_GGUF_BOOL && i < v->count; i++)
        if (((uint8_t *)data)[i] > 1)
            return lc_fail(LC_EFORMAT, "%s: metadata %s holds %d, not a boolean", lc_reader_path(c->reader), v->key,
                           ((uint8_t *)data)[i]);
    return LC_OK;
}

static lc_status take_value(lc_gguf *g, cursor *c, lc_gguf_value *v) {
    LC_TRY(take_name(c, &g->arena, &v->key, "a key of the metadata"));
    LC_TRY(take_kind(c, v->key, &v->kind));
    v->count = 1;
    v->is_array = v->kind == LC_GGUF_ARRAY;
    if (v->is_array) {
        LC_TRY(take_kind(c, v->key, &v->kind));
        if (v->kind == LC_GGUF_ARRAY)
            return lc_fail(LC_EFORMAT, "%s: metadata %s is an array of arrays, which lacuna does not read",
                           lc_reader_path(c->reader), v->key);
        LC_TRY(take_count(c, &v->count, kinds[v->kind].bytes, v->key));
    }
    return take_elements(g, c, v);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const lc_gguf_value *)a)->key, ((const lc_gguf_value *)b)->key);
}

static lc_status read_values(lc_gguf *g, cursor *c, int64_t count) {
    g->values = lc_alloc(sizeof *g->values * (size_t)(count + 1));
    if (!g->values) return LC_ENOMEM;
    for (; g->n_values < count; g->n_values++) LC_TRY(take_value(g, c, &g->values[g->n_values]));
    qsort(g->values, (size_t)count, sizeof *g->values, by_key);
    for (int64_t i = 1; i < count; i++)
        if (!strcmp(g->values[i - 1].key, g->values[i].key))
            return lc_fail(LC_EFORMAT, "%s: metadata %s is there twice", lc_gguf_path(g), g->values[i].key);
    return LC_OK;
}

/* -- tensors ------------------------------------------------------------------------------------ */

/* Sizes, and in *bytes the room the data takes. Sizes beyond the file are refused here, so that no product overflows. */
static lc_status take_shape(cursor *c, lc_gguf_tensor *t, int64_t *bytes) {
    uint32_t dims;
    int64_t sizes[LC_GGUF_DIMS], elements = 1;
    LC_TRY(take_u32(c, &dims, t->name));
    if (dims > LC_GGUF_DIMS)
        return lc_fail(LC_EFORMAT, "%s: tensor %s has %" PRIu32 " dimensions; GGUF has at most %d",
                       lc_reader_path(c->reader), t->name, dims, LC_GGUF_DIMS);
    bool empty = false;
    for (uint32_t d = 0; d < dims; d++) {
        uint64_t size;
        LC_TRY(take_u64(c, &size, t->name));
        if (size > INT64_MAX)
            return lc_fail(LC_EFORMAT, "%s: tensor %s: dimension %" PRIu32 " is not a size", lc_reader_path(c->reader),
                           t->name, d);
        sizes[d] = (int64_t)size;
        empty |= size == 0;
    }
    t->ndim = (int)dims;
    for (int d = 0; d < t->ndim; d++) t->shape[d] = sizes[t->ndim - 1 - d];
    LC_TRY(take_u32(c, &t->type, t->name));
    t->block = lc_gguf_block_of(t->type);
    if (!t->block)
        return lc_fail(LC_EFORMAT,
                       "%s: tensor %s has type %" PRIu32 ", which lacuna does not know; it reads " LC_GGUF_READABLE,
                       lc_reader_path(c->reader), t->name, t->type);
    int64_t row = t->ndim ? sizes[0] : 1;
    if (row % t->block->elements)
        return lc_fail(LC_EFORMAT, "%s: tensor %s: rows of %" PRId64 " are not whole blocks of %d, as %s has them",
                       lc_reader_path(c->reader), t->name, row, t->block->elements, t->block->name);
    /* An element takes at least a twentieth of a byte. */
    for (int d = 0; d < t->ndim && !empty; d++) {
        if ((uint64_t)t->shape[d] > 20 * c->size / (uint64_t)elements)
            return lc_fail(LC_EFORMAT,
                           "%s: tensor %s needs more bytes than the file has (%" PRIu64 "); it is damaged, "
                           "or was cut off: fetch it again",
                           lc_reader_path(c->reader), t->name, c->size);
        elements *= t->shape[d];
    }
    *bytes = empty ? 0 : elements / t->block->elements * t->block->bytes;
    return LC_OK;
}

static lc_status take_tensor(lc_gguf *g, cursor *c, lc_gguf_tensor *t, int64_t alignment) {
    LC_TRY(take_name(c, &g->arena, &t->name, "the name of a tensor"));
    int64_t bytes = 0;
    LC_TRY(take_shape(c, t, &bytes));
    LC_TRY(take_u64(c, &t->begin, t->name));
    if (t->begin % (uint64_t)alignment)
        return lc_fail(LC_EFORMAT,
                       "%s: tensor %s begins at byte %" PRIu64 " of the data, not a multiple of the "
                       "alignment %" PRId64,
                       lc_gguf_path(g), t->name, t->begin, alignment);
    t->end = (uint64_t)bytes; /* until the data's beginning is known */
    return LC_OK;
}

static int by_begin(const void *a, const void *b) {
    const lc_gguf_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* From places in the data to places in the file. */
static lc_status place_tensors(lc_gguf *g, uint64_t data_begin, uint64_t file_size) {
    for (int64_t i = 0; i < g->n_tensors; i++) {
        lc_gguf_tensor *t = &g->tensors[i];
        uint64_t bytes = t->end;
        if (data_begin > file_size || t->begin > file_size - data_begin || bytes > file_size - data_begin - t->begin)
            return lc_fail(LC_EFORMAT,
                           "%s: tensor %s of %" PRIu64 " bytes, at byte %" PRIu64 " of the data, ends past "
                           "the end of the file (%" PRIu64 "); the download looks cut off: fetch it again",
                           lc_gguf_path(g), t->name, bytes, t->begin, file_size);
        t->begin += data_begin;
        t->end = t->begin + bytes;
    }
    qsort(g->tensors, (size_t)g->n_tensors, sizeof *g->tensors, by_begin);
    for (int64_t i = 1; i < g->n_tensors; i++)
        if (g->tensors[i].begin < g->tensors[i - 1].end)
            return lc_fail(LC_EFORMAT, "%s: tensors %s and %s overlap at byte %" PRIu64, lc_gguf_path(g),
                           g->tensors[i - 1].name, g->tensors[i].name, g->tensors[i].begin);
    return LC_OK;
}

static lc_status read_alignment(const lc_gguf *g, int64_t *alignment) {
    *alignment = DEFAULT_ALIGNMENT;
    LC_TRY(lc_gguf_get_int(g, "general.alignment", alignment));
    if (*alignment < 1 || *alignment > 1 << 20 || (*alignment & (*alignment - 1)))
        return lc_fail(LC_EFORMAT, "%s: general.alignment is %" PRId64 ", not a power of two up to 1048576",
                       lc_gguf_path(g), *alignment);
    return LC_OK;
}

/* -- the file ----------------------------------------------------------------------------------- */

static lc_status check_version(cursor *c) {
    const char *path = lc_reader_path(c->reader);
    char magic[4];
    uint32_t version;
    LC_TRY(take(c, magic, 4, "the magic number"));
    if (memcmp(magic, "GGUF", 4)) return lc_fail(LC_EFORMAT, "%s: not a GGUF file: it does not begin with GGUF", path);
    LC_TRY(take_u32(c, &version, "the version"));
    if (version & 0xffff0000 && !(version & 0xffff))
        return lc_fail(LC_EFORMAT, "%s: a big-endian GGUF file; lacuna reads little-endian ones", path);
    if (version < 2 || version > 3)
        return lc_fail(LC_EFORMAT, "%s: GGUF version %" PRIu32 "; lacuna reads versions 2 and 3", path, version);
    return LC_OK;
}

static lc_status read_header(lc_gguf *g, cursor *c) {
    int64_t tensors, values, alignment;
    LC_TRY(check_version(c));
    LC_TRY(take_count(c, &tensors, TENSOR_MIN_BYTES, "tensors"));
    LC_TRY(take_count(c, &values, KV_MIN_BYTES, "metadata"));
    LC_TRY(read_values(g, c, values));
    LC_TRY(read_alignment(g, &alignment));
    g->tensors = lc_alloc(sizeof *g->tensors * (size_t)(tensors + 1));
    if (!g->tensors) return LC_ENOMEM;
    for (; g->n_tensors < tensors; g->n_tensors++) LC_TRY(take_tensor(g, c, &g->tensors[g->n_tensors], alignment));
    uint64_t data_begin = (c->at + (uint64_t)alignment - 1) / (uint64_t)alignment * (uint64_t)alignment;
    return place_tensors(g, data_begin, c->size);
}

lc_status lc_gguf_open(const char *path, lc_gguf **out) {
    lc_gguf *g = lc_calloc(1, sizeof *g);
    if (!g) return LC_ENOMEM;
    cursor c = {0};
    lc_status status = lc_reader_open(path, &g->reader);
    if (!status) {
        c = (cursor){.reader = g->reader, .size = lc_reader_size(g->reader), .window = lc_alloc(WINDOW_BYTES)};
        status = c.window ? read_header(g, &c) : LC_ENOMEM;
        lc_free(c.window);
    }
    if (status) {
        lc_gguf_close(g);
        return status;
    }
    *out = g;
    return LC_OK;
}

void lc_gguf_close(lc_gguf *g) {
    if (!g) return;
    lc_reader_close(g->reader);
    lc_free(g->values);
    lc_free(g->tensors);
    lc_arena_free(&g->arena);
    lc_free(g);
}

const char *lc_gguf_path(const lc_gguf *g) {
    return lc_reader_path(g->reader);
}

lc_reader *lc_gguf_reader(lc_gguf *g) {
    return g->reader;
}

int64_t lc_gguf_tensor_count(const lc_gguf *g) {
    return g->n_tensors;
}

const lc_gguf_tensor *lc_gguf_tensor_at(const lc_gguf *g, int64_t index) {
    return &g->tensors[index];
}

/* -- asking ------------------------------------------------------------------------------------- */

int64_t lc_gguf_value_count(const lc_gguf *g) {
    return g->n_values;
}

const lc_gguf_value *lc_gguf_value_at(const lc_gguf *g, int64_t index) {
    return &g->values[index];
}

const lc_gguf_value *lc_gguf_find(const lc_gguf *g, const char *key) {
    lc_gguf_value wanted = {.key = key};
    return bsearch(&wanted, g->values, (size_t)g->n_values, sizeof *g->values, by_key);
}

const char *lc_gguf_describe(const lc_gguf_value *v) {
    return v->is_array ? kinds[v->kind].many : kinds[v->kind].one;
}

static lc_status fail_kind(const lc_gguf *g, const lc_gguf_value *v, const char *expected) {
    return lc_fail(LC_EFORMAT, "%s: metadata %s is %s, expected %s", lc_gguf_path(g), v->key, lc_gguf_describe(v),
                   expected);
}

static bool as_int(const lc_gguf_value *v, int64_t *out) {
    if (v->is_array) return false;
    switch (v->kind) {
    case LC_GGUF_U8:
        return *out = *(const uint8_t *)v->data, true;
    case LC_GGUF_I8:
        return *out = *(const int8_t *)v->data, true;
    case LC_GGUF_U16:
        return *out = *(const uint16_t *)v->data, true;
    case LC_GGUF_I16:
        return *out = *(const int16_t *)v->data, true;
    case LC_GGUF_U32:
        return *out = *(const uint32_t *)v->data, true;
    case LC_GGUF_I32:
        return *out = *(const int32_t *)v->data, true;
    case LC_GGUF_I64:
        return *out = *(const int64_t *)v->data, true;
    case LC_GGUF_U64:
        return *out = *(const int64_t *)v->data, *out >= 0;
    default:
        return false;
    }
}

lc_status lc_gguf_get_int(const lc_gguf *g, const char *key, int64_t *out) {
    const lc_gguf_value *v = lc_gguf_find(g, key);
    int64_t value;
    if (!v) return LC_OK;
    if (!as_int(v, &value)) return fail_kind(g, v, "an integer below 2^63");
    *out = value;
    return LC_OK;
}

lc_status lc_gguf_get_double(const lc_gguf *g, const char *key, double *out) {
    const lc_gguf_value *v = lc_gguf_find(g, key);
    int64_t value;
    if (!v) return LC_OK;
    if (as_int(v, &value))
        *out = (double)value;
    else if (v->kind == LC_GGUF_F32 && !v->is_array)
        *out = *(const float *)v->data;
    else if (v->kind == LC_GGUF_F64 && !v->is_array)
        *out = *(const double *)v->data;
    else
        return fail_kind(g, v, "a number");
    return LC_OK;
}

lc_status lc_gguf_get_bool(const lc_gguf *g, const char *key, bool *out) {
    const lc_gguf_value *v = lc_gguf_find(g, key);
    if (!v) return LC_OK;
    if (v->kind != LC_GGUF_BOOL || v->is_array) return fail_kind(g, v, "a boolean");
    *out = *(const uint8_t *)v->data;
    return LC_OK;
}

lc_status lc_gguf_get_string(const lc_gguf *g, const char *key, const char **out) {
    const lc_gguf_value *v = lc_gguf_find(g, key);
    if (!v) return LC_OK;
    if (v->kind != LC_GGUF_STRING || v->is_array) return fail_kind(g, v, "a string");
    const lc_gguf_string *s = v->data;
    if (strlen(s->text) != s->length)
        return lc_fail(LC_EFORMAT, "%s: metadata %s has a zero byte", lc_gguf_path(g), key);
    *out = s->text;
    return LC_OK;
}

lc_status lc_gguf_get_array(const lc_gguf *g, const char *key, lc_gguf_kind kind, const lc_gguf_value **out) {
    const lc_gguf_value *v = lc_gguf_find(g, key);
    if (!v) return LC_OK;
    if (!v->is_array || v->kind != kind) return fail_kind(g, v, kinds[kind].many);
    *out = v;
    return LC_OK;
}

lc_status lc_gguf_require(const lc_gguf *g, const char *key) {
    return lc_gguf_find(g, key) ? LC_OK : lc_fail(LC_EFORMAT, "%s: metadata %s is missing", lc_gguf_path(g), key);
}
