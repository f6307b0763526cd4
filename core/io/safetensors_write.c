/* safetensors_write.c: writing; see safetensors.h. Tensors are sorted, the header is made from their sizes, then the
 * data is streamed. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/pool.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/safetensors_types.h"
#include "ops/op.h"

#define CHUNK_BYTES ((int64_t)4 << 20) /* gathered at a time from a strided or cast tensor */

static const lc_stored_type types[] = {
    {"BOOL", 1, LC_BOOL},  {"U8", 1, LC_U8},          {"I8", 1, LC_DTYPES},      {"F8_E4M3", 1, LC_DTYPES},
    {"F16", 2, LC_F16},    {"F8_E5M2", 1, LC_DTYPES}, {"F8_E8M0", 1, LC_DTYPES}, {"BF16", 2, LC_BF16},
    {"I16", 2, LC_DTYPES}, {"U16", 2, LC_DTYPES},     {"I32", 4, LC_I32},        {"U32", 4, LC_DTYPES},
    {"F32", 4, LC_F32},    {"F64", 8, LC_F64},        {"I64", 8, LC_I64},        {"U64", 8, LC_DTYPES},
    {"C64", 8, LC_DTYPES},
};
#define TYPES (sizeof types / sizeof *types)

const lc_stored_type *lc_stored_type_named(const char *name) {
    for (size_t i = 0; i < TYPES; i++)
        if (strcmp(types[i].name, name) == 0) return &types[i];
    return NULL;
}

const lc_stored_type *lc_stored_type_of(lc_dtype dtype) {
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].dtype == dtype) return &types[i];
    return NULL;
}

static lc_dtype written_dtype(const lc_named *n) {
    if (n->bits) return LC_BOOL;
    return n->dtype == LC_DTYPES ? n->tensor->dtype : n->dtype;
}

/* Larger elements first: each tensor then starts at a multiple of its element size, without padding. */
static int by_size_then_name(const void *a, const void *b) {
    const lc_named *x = a, *y = b;
    size_t xs = lc_dtype_size(written_dtype(x)), ys = lc_dtype_size(written_dtype(y));
    if (xs != ys) return xs > ys ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* -- the header -------------------------------------------------------------------------------- */

/* Sets key to value and takes over `value`; false when out of memory or not UTF-8. */
static bool set(json_t *object, const char *key, json_t *value) {
    return value && json_object_set_new(object, key, value) == 0;
}

static json_t *metadata_object(const lc_pair *metadata, int64_t pairs) {
    json_t *object = json_object();
    for (int64_t i = 0; object && i < pairs; i++) {
        if (!set(object, metadata[i].key, json_string(metadata[i].value))) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *tensor_object(const lc_named *n, uint64_t begin, uint64_t end) {
    json_t *shape = json_array();
    bool ok = shape;
    const int64_t *sizes = n->bits ? n->bits->shape : n->tensor->shape;
    for (int d = 0; ok && d < (n->bits ? n->bits->ndim : n->tensor->ndim); d++)
        ok = json_array_append_new(shape, json_integer(sizes[d])) == 0;
    json_t *object = ok ? json_pack("{s:s, s:O, s:[I, I]}", "dtype", lc_stored_type_of(written_dtype(n))->name, "shape",
                                    shape, "data_offsets", (json_int_t)begin, (json_int_t)end)
                        : NULL;
    json_decref(shape);
    return object;
}

static json_t *header_object(const lc_named *sorted, int64_t count, const lc_pair *metadata, int64_t pairs) {
    json_t *header = json_object();
    bool ok = header && (pairs == 0 || set(header, "__metadata__", metadata_object(metadata, pairs)));
    uint64_t at = 0;
    for (int64_t i = 0; ok && i < count; i++) {
        int64_t n = sorted[i].bits ? lc_bits_numel(sorted[i].bits) : lc_numel(sorted[i].tensor);
        uint64_t end = at + (uint64_t)n * lc_dtype_size(written_dtype(&sorted[i]));
        ok = set(header, sorted[i].name, tensor_object(&sorted[i], at, end));
        at = end;
    }
    if (ok) return header;
    json_decref(header);
    return NULL;
}

/* Length, JSON, and blanks up to a multiple of 8. */
static lc_status write_header(lc_writer *w, const lc_named *sorted, int64_t count, const lc_pair *metadata,
                              int64_t pairs) {
    json_t *header = header_object(sorted, count, metadata, pairs);
    if (!header) return lc_fail(LC_ENOMEM, "out of memory while making a safetensors header");
    char *text;
    size_t length;
    lc_status status = lc_json_text(header, false, &text, &length);
    json_decref(header);
    if (status) return status;
    size_t padding = (8 - length % 8) % 8;
    uint64_t prefix = htole64(length + padding);
    status = lc_writer_write(w, &prefix, 8);
    if (!status) status = lc_writer_write(w, text, length);
    if (!status) status = lc_writer_write(w, "        ", padding);
    lc_free(text);
    return status;
}

/* -- data -------------------------------------------------------------------------------------- */

static lc_status write_bytes(lc_writer *w, const char *data, size_t length) {
    for (size_t done = 0; done < length; done += (size_t)CHUNK_BYTES) {
        LC_TRY(lc_poll());
        size_t piece = length - done < (size_t)CHUNK_BYTES ? length - done : (size_t)CHUNK_BYTES;
        LC_TRY(lc_writer_write(w, data + done, piece));
    }
    return LC_OK;
}

/* A view small enough to be copied whole. */
static lc_status write_copy(lc_writer *w, lc_tensor *t, lc_dtype dtype) {
    lc_tensor *cast = NULL, *flat = NULL;
    lc_status status = lc_cast(t, dtype, &cast);
    if (!status) status = lc_contiguous(cast, &flat);
    if (!status) status = lc_writer_write(w, lc_data(flat), (size_t)lc_numel(flat) * lc_dtype_size(dtype));
    lc_tensor_release(cast);
    lc_tensor_release(flat);
    return status;
}

/* Row-major elements of any view, cut along its first dimensions until a piece fits into a chunk. */
static lc_status write_view(lc_writer *w, lc_tensor *t, lc_dtype dtype) {
    int64_t numel = lc_numel(t), chunk = CHUNK_BYTES / (int64_t)lc_dtype_size(dtype);
    if (numel == 0) return LC_OK;
    if (t->dtype == dtype && lc_is_contiguous(t))
        return write_bytes(w, lc_data(t), (size_t)numel * lc_dtype_size(dtype));
    LC_TRY(lc_poll());
    if (numel <= chunk) return write_copy(w, t, dtype);
    int64_t rows = lc_max(1, chunk / (numel / t->shape[0]));
    for (int64_t first = 0; first < t->shape[0]; first += rows) {
        lc_tensor *piece = NULL;
        if (rows > 1)
            LC_TRY(lc_view_slice(t, 0, first, lc_min(rows, t->shape[0] - first), 1, &piece));
        else
            LC_TRY(lc_view_select(t, 0, first, &piece));
        lc_status status = write_view(w, piece, dtype);
        lc_tensor_release(piece);
        if (status) return status;
    }
    return LC_OK;
}

static lc_status write_bits(lc_writer *w, const lc_bits *b) {
    uint8_t bools[16 << 10];
    int64_t n = lc_bits_numel(b), part = sizeof bools;
    for (int64_t i = 0; i < n; i += part) {
        if (i % CHUNK_BYTES == 0) LC_TRY(lc_poll());
        int64_t count = lc_min(part, n - i);
        lc_bits_spread(LC_DATA(uint8_t, b->bytes) + i / 8, count, bools);
        LC_TRY(lc_writer_write(w, bools, (size_t)count));
    }
    return LC_OK;
}

static bool is_utf8(const char *text) {
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    while (*at) {
        utf8proc_int32_t code;
        utf8proc_ssize_t length = utf8proc_iterate(at, -1, &code);
        if (length <= 0) return false;
        at += length;
    }
    return true;
}

static lc_status check_tensors(const char *path, const lc_named *tensors, int64_t count) {
    json_t *seen = json_object();
    lc_status status = seen ? LC_OK : lc_fail(LC_ENOMEM, "%s: out of memory", path);
    for (int64_t i = 0; i < count && !status; i++) {
        const char *name = tensors[i].name;
        const lc_tensor *data = tensors[i].bits ? tensors[i].bits->bytes : tensors[i].tensor;
        lc_device device = data->storage->device;
        if (!*name || strcmp(name, "__metadata__") == 0 || !is_utf8(name))
            status = lc_fail(LC_EINVAL, "%s: \"%s\" cannot be the name of a tensor", path, name);
        else if (json_object_get(seen, name))
            status = lc_fail(LC_EINVAL, "%s: two tensors are named %s", path, name);
        else if (device != LC_CPU)
            status = lc_fail(LC_EDEVICE, "%s: tensor %s is on %s; copy it to the cpu first", path, name,
                             lc_device_name(device));
        else if (!set(seen, name, json_true()))
            status = lc_fail(LC_ENOMEM, "%s: out of memory", path);
    }
    json_decref(seen);
    return status;
}

static lc_status write_file(const char *path, const lc_named *sorted, int64_t count, const lc_pair *metadata,
                            int64_t pairs) {
    lc_writer *w;
    LC_TRY(lc_writer_open(path, &w));
    lc_status status = write_header(w, sorted, count, metadata, pairs);
    for (int64_t i = 0; i < count && !status; i++) {
        const lc_named *n = &sorted[i];
        status = n->bits ? write_bits(w, n->bits) : write_view(w, n->tensor, written_dtype(n));
        if (status && status != LC_ECANCEL) status = lc_fail_within(status, "tensor %s", sorted[i].name);
    }
    if (status) {
        lc_writer_abandon(w);
        return status;
    }
    return lc_writer_commit(w);
}

lc_status lc_safetensors_write(const char *path, const lc_named *tensors, int64_t count, const lc_pair *metadata,
                               int64_t pairs) {
    LC_TRY(check_tensors(path, tensors, count));
    lc_named *sorted = lc_alloc(sizeof *sorted * ((size_t)count + 1));
    if (!sorted) return LC_ENOMEM;
    if (count) memcpy(sorted, tensors, sizeof *sorted * (size_t)count);
    qsort(sorted, (size_t)count, sizeof *sorted, by_size_then_name);
    lc_status status = write_file(path, sorted, count, metadata, pairs);
    lc_free(sorted);
    return status;
}
