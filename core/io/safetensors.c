/* safetensors.c: reading; see safetensors.h. Writing is in safetensors_write.c. */
#include "io/safetensors.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/pool.h"
#include "io/json.h"
#include "io/safetensors_types.h"
#include "ops/op.h"

#define MAX_HEADER 100000000          /* bytes; the format's own limit */
#define CHUNK_BYTES ((size_t)4 << 20) /* staged at a time when casting */
#define READ_BYTES ((size_t)64 << 20) /* between two looks at the cancel flag */

typedef struct shard {
    lc_reader *reader;
    json_t *header; /* owns the names that entries point to */
} shard;

struct lc_safetensors {
    int64_t refs;
    char *path;
    int32_t shard_count;
    shard *shards;
    int64_t count;
    lc_stored *entries;       /* by (file, begin, end) */
    const lc_stored **sorted; /* the same by name, for lookup */
};

/* "498,331,648" */
typedef struct number_text {
    char text[32];
} number_text;
static number_text with_commas(uint64_t n) {
    number_text out;
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, n), at = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) out.text[at++] = ',';
        out.text[at++] = digits[i];
    }
    out.text[at] = '\0';
    return out;
}
#define COMMAS(n) with_commas(n).text

/* -- the header -------------------------------------------------------------------------------- */

static lc_status read_header(lc_reader *reader, json_t **header, uint64_t *data_begin) {
    const char *path = lc_reader_path(reader);
    uint64_t size = lc_reader_size(reader), length;
    if (size < 8) return lc_fail(LC_EFORMAT, "%s: %s bytes are too few for a safetensors file", path, COMMAS(size));
    LC_TRY(lc_reader_read(reader, 0, &length, 8));
    length = le64toh(length);
    if (length > MAX_HEADER)
        return lc_fail(LC_EFORMAT, "%s: not a safetensors file: its header would have %s bytes", path, COMMAS(length));
    if (length > size - 8)
        return lc_fail(LC_EFORMAT,
                       "%s: the header ends at byte %s, past the end of the file (%s); the download looks cut off: "
                       "fetch it again",
                       path, COMMAS(length + 8), COMMAS(size));
    char *text = lc_alloc((size_t)length + 1);
    if (!text) return LC_ENOMEM;
    json_t *value = NULL;
    lc_status status = lc_reader_read(reader, 8, text, (size_t)length);
    if (!status) status = lc_json_parse(text, (size_t)length, path, &value);
    lc_free(text);
    if (!status && !json_is_object(value))
        status = lc_fail(LC_EFORMAT, "%s: the header is %s, expected an object", path, lc_json_kind(value));
    if (status) {
        json_decref(value);
        return status;
    }
    *header = value;
    *data_begin = length + 8;
    return LC_OK;
}

static lc_status check_metadata(const char *path, const json_t *metadata) {
    if (!json_is_object(metadata))
        return lc_fail(LC_EFORMAT, "%s: __metadata__ is %s, expected an object", path, lc_json_kind(metadata));
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value) {
        if (!json_is_string(value))
            return lc_fail(LC_EFORMAT, "%s: __metadata__ \"%s\" is %s, expected a string", path, key,
                           lc_json_kind(value));
    }
    return LC_OK;
}

/* Non-negative integer, at most `max`. */
static bool read_size(const json_t *value, int64_t max, int64_t *out) {
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > max) return false;
    *out = json_integer_value(value);
    return true;
}

/* Shape, and in `bytes` the room it needs. Sizes beyond the file are refused here, so that no product overflows. */
static lc_status read_shape(const char *path, const json_t *value, uint64_t file_size, size_t element, lc_stored *e,
                            uint64_t *bytes) {
    if (!json_is_array(value))
        return lc_fail(LC_EFORMAT, "%s: tensor %s: \"shape\" is %s, expected an array", path, e->name,
                       lc_json_kind(value));
    if (json_array_size(value) > LC_MAX_DIMS)
        return lc_fail(LC_EFORMAT, "%s: tensor %s has %zu dimensions; lacuna has at most %d", path, e->name,
                       json_array_size(value), LC_MAX_DIMS);
    e->ndim = (int)json_array_size(value);
    bool empty = false;
    for (int d = 0; d < e->ndim; d++) {
        if (!read_size(json_array_get(value, (size_t)d), INT64_MAX, &e->shape[d]))
            return lc_fail(LC_EFORMAT, "%s: tensor %s: dimension %d of its shape is not a size", path, e->name, d);
        empty |= e->shape[d] == 0;
    }
    *bytes = empty ? 0 : element;
    for (int d = 0; d < e->ndim && !empty; d++) {
        if ((uint64_t)e->shape[d] > file_size / *bytes)
            return lc_fail(LC_EFORMAT,
                           "%s: tensor %s of shape %s needs more bytes than the file has (%s); the download looks cut "
                           "off: fetch it again",
                           path, e->name, lc_shape_text(e->ndim, e->shape), COMMAS(file_size));
        *bytes *= (uint64_t)e->shape[d];
    }
    return LC_OK;
}

static lc_status read_entry(const char *path, uint64_t file_size, uint64_t data_begin, const json_t *value,
                            lc_stored *e) {
    if (!json_is_object(value))
        return lc_fail(LC_EFORMAT, "%s: tensor %s is %s, expected an object", path, e->name, lc_json_kind(value));
    const char *type_name = json_string_value(json_object_get(value, "dtype"));
    if (!type_name) return lc_fail(LC_EFORMAT, "%s: tensor %s: \"dtype\" is not a string", path, e->name);
    const lc_stored_type *type = lc_stored_type_named(type_name);
    if (!type) return lc_fail(LC_EFORMAT, "%s: tensor %s has the unknown dtype \"%.40s\"", path, e->name, type_name);
    e->type = type->name;
    e->dtype = type->dtype;

    uint64_t bytes = 0;
    LC_TRY(read_shape(path, json_object_get(value, "shape"), file_size, type->size, e, &bytes));
    const json_t *offsets = json_object_get(value, "data_offsets");
    int64_t begin, end, most = INT64_MAX / 2;
    if (json_array_size(offsets) != 2 || !read_size(json_array_get(offsets, 0), most, &begin) ||
        !read_size(json_array_get(offsets, 1), most, &end) || end < begin)
        return lc_fail(LC_EFORMAT, "%s: tensor %s: \"data_offsets\" is not a pair of byte positions", path, e->name);
    e->begin = (uint64_t)begin + data_begin;
    e->end = (uint64_t)end + data_begin;
    if (e->end > file_size)
        return lc_fail(
            LC_EFORMAT,
            "%s: tensor %s ends at byte %s, past the end of the file (%s); the download looks cut off: fetch "
            "it again",
            path, e->name, COMMAS(e->end), COMMAS(file_size));
    if (e->end - e->begin != bytes)
        return lc_fail(LC_EFORMAT, "%s: tensor %s of shape %s and dtype %s needs %s bytes, but has %s", path, e->name,
                       lc_shape_text(e->ndim, e->shape), e->type, COMMAS(bytes), COMMAS(e->end - e->begin));
    return LC_OK;
}

static int by_position(const void *a, const void *b) {
    const lc_stored *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Entries in order of position must cover the file's data exactly. */
static lc_status check_layout(const char *path, const lc_stored *entries, int64_t count, uint64_t data_begin,
                              uint64_t file_size) {
    uint64_t at = data_begin;
    for (int64_t i = 0; i < count; i++) {
        const lc_stored *e = &entries[i];
        if (e->begin < at)
            return lc_fail(LC_EFORMAT, "%s: tensors %s and %s overlap at byte %s", path, entries[i - 1].name, e->name,
                           COMMAS(e->begin));
        if (e->begin > at)
            return lc_fail(LC_EFORMAT, "%s: bytes %s to %s, before tensor %s, belong to no tensor", path, COMMAS(at),
                           COMMAS(e->begin), e->name);
        at = e->end;
    }
    if (at != file_size)
        return lc_fail(LC_EFORMAT, "%s: the last tensor ends at byte %s, but the file has %s", path, COMMAS(at),
                       COMMAS(file_size));
    return LC_OK;
}

/* Opens file number s->shard_count, and appends its entries. */
static lc_status add_shard(lc_safetensors *s, const char *path) {
    int32_t number = s->shard_count;
    shard *shards = lc_realloc(s->shards, sizeof *shards * ((size_t)number + 1));
    if (!shards) return LC_ENOMEM;
    s->shards = shards;
    shards[number] = (shard){0};
    s->shard_count++; /* from here on release closes it */
    LC_TRY(lc_reader_open(path, &shards[number].reader));
    uint64_t data_begin = 0, file_size = lc_reader_size(shards[number].reader);
    LC_TRY(read_header(shards[number].reader, &shards[number].header, &data_begin));

    json_t *header = shards[number].header, *value;
    size_t more = json_object_size(header);
    lc_stored *entries = lc_realloc(s->entries, sizeof *entries * ((size_t)s->count + more + 1));
    if (!entries) return LC_ENOMEM;
    s->entries = entries;
    entries += s->count;
    int64_t count = 0;
    const char *name;
    json_object_foreach(header, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            LC_TRY(check_metadata(path, value));
            continue;
        }
        entries[count] = (lc_stored){.name = name, .file = number};
        LC_TRY(read_entry(path, file_size, data_begin, value, &entries[count]));
        count++;
    }
    qsort(entries, (size_t)count, sizeof *entries, by_position);
    LC_TRY(check_layout(path, entries, count, data_begin, file_size));
    s->count += count;
    return LC_OK;
}

/* -- sets -------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp((*(const lc_stored *const *)a)->name, (*(const lc_stored *const *)b)->name);
}

static lc_status index_names(lc_safetensors *s) {
    s->sorted = lc_alloc(sizeof *s->sorted * ((size_t)s->count + 1));
    if (!s->sorted) return LC_ENOMEM;
    for (int64_t i = 0; i < s->count; i++) s->sorted[i] = &s->entries[i];
    qsort(s->sorted, (size_t)s->count, sizeof *s->sorted, by_name);
    for (int64_t i = 1; i < s->count; i++) {
        const lc_stored *a = s->sorted[i - 1], *b = s->sorted[i];
        if (strcmp(a->name, b->name) == 0)
            return lc_fail(LC_EFORMAT, "%s: tensor %s is in two files, %s and %s", s->path, a->name,
                           lc_reader_path(s->shards[a->file].reader), lc_reader_path(s->shards[b->file].reader));
    }
    return LC_OK;
}

/* The shards of weight_map, each once, in the order in which they first appear. */
static lc_status add_listed_shards(lc_safetensors *s, const char *index_path, const json_t *weight_map) {
    const char *slash = strrchr(index_path, '/'), *tensor;
    char *directory = slash ? lc_strndup(index_path, (size_t)(slash - index_path + 1)) : lc_strdup("./");
    json_t *value, *seen = json_object();
    lc_status status = directory && seen ? LC_OK : lc_fail(LC_ENOMEM, "%s: out of memory", index_path);
    json_object_foreach((json_t *)weight_map, tensor, value) {
        const char *file = json_string_value(value);
        if (status) break;
        if (!file || !*file || strchr(file, '/')) {
            status = lc_fail(LC_EFORMAT, "%s: tensor %s: not the name of a file beside the index", index_path, tensor);
        } else if (!json_object_get(seen, file)) {
            char *path = lc_path_join(directory, file);
            status = path ? add_shard(s, path) : LC_ENOMEM;
            lc_free(path);
            if (!status && json_object_set_new(seen, file, json_true())) status = lc_fail(LC_ENOMEM, "out of memory");
        }
    }
    json_decref(seen);
    lc_free(directory);
    return status;
}

static lc_status check_listed_tensors(const lc_safetensors *s, const json_t *weight_map) {
    const char *tensor;
    json_t *file;
    json_object_foreach((json_t *)weight_map, tensor, file) {
        const lc_stored *e = lc_safetensors_find(s, tensor);
        const char *path = e ? lc_reader_path(s->shards[e->file].reader) : "", *slash = strrchr(path, '/');
        if (!e || strcmp(slash ? slash + 1 : path, json_string_value(file)) != 0)
            return lc_fail(LC_EFORMAT, "%s: tensor %s is not in %s, where the index has it", s->path, tensor,
                           json_string_value(file));
    }
    return LC_OK;
}

static lc_status open_index(lc_safetensors *s, const char *path) {
    json_t *index, *weight_map = NULL;
    LC_TRY(lc_json_read(path, &index));
    lc_status status = lc_json_require(index, "weight_map", path);
    if (!status) status = lc_json_get_object(index, "weight_map", path, &weight_map);
    if (!status) status = add_listed_shards(s, path, weight_map);
    if (!status) status = index_names(s);
    if (!status) status = check_listed_tensors(s, weight_map);
    json_decref(index);
    return status;
}

/* A directory becomes the file inside it that should be opened. */
static lc_status file_to_open(const char *path, char **out) {
    if (!lc_is_dir(path)) return (*out = lc_strdup(path)) ? LC_OK : LC_ENOMEM;
    static const char *const candidates[] = {"model.safetensors", "model.safetensors.index.json"};
    for (int i = 0; i < 2; i++) {
        char *file = lc_path_join(path, candidates[i]);
        if (!file) return LC_ENOMEM;
        if (lc_file_exists(file)) {
            *out = file;
            return LC_OK;
        }
        lc_free(file);
    }
    return lc_fail(LC_ENOTFOUND, "%s: neither %s nor %s is in this directory", path, candidates[0], candidates[1]);
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

lc_status lc_safetensors_open(const char *path, lc_safetensors **out) {
    lc_safetensors *s = lc_calloc(1, sizeof *s);
    if (!s) return LC_ENOMEM;
    s->refs = 1;
    lc_status status = file_to_open(path, &s->path);
    if (!status && ends_with(s->path, ".json"))
        status = open_index(s, s->path);
    else if (!status && !(status = add_shard(s, s->path)))
        status = index_names(s);
    if (status) {
        lc_safetensors_release(s);
        return status;
    }
    *out = s;
    return LC_OK;
}

lc_safetensors *lc_safetensors_retain(lc_safetensors *s) {
    s->refs++;
    return s;
}

void lc_safetensors_release(lc_safetensors *s) {
    if (!s || --s->refs > 0) return;
    for (int32_t i = 0; i < s->shard_count; i++) {
        lc_reader_close(s->shards[i].reader);
        json_decref(s->shards[i].header);
    }
    lc_free(s->shards);
    lc_free(s->sorted);
    lc_free(s->entries);
    lc_free(s->path);
    lc_free(s);
}

int64_t lc_safetensors_count(const lc_safetensors *s) {
    return s->count;
}

const lc_stored *lc_safetensors_at(const lc_safetensors *s, int64_t index) {
    return &s->entries[index];
}

const lc_stored *lc_safetensors_find(const lc_safetensors *s, const char *name) {
    lc_stored key = {.name = name};
    const lc_stored *wanted = &key;
    const lc_stored **found = bsearch(&wanted, s->sorted, (size_t)s->count, sizeof *s->sorted, by_name);
    return found ? *found : NULL;
}

const char *lc_safetensors_metadata(const lc_safetensors *s, const char *key) {
    for (int32_t i = 0; i < s->shard_count; i++) {
        const json_t *metadata = json_object_get(s->shards[i].header, "__metadata__");
        const char *value = json_string_value(json_object_get(metadata, key));
        if (value) return value;
    }
    return NULL;
}

bool lc_safetensors_metadata_at(const lc_safetensors *s, int64_t index, const char **key, const char **value) {
    json_t *metadata = s->shard_count ? json_object_get(s->shards[0].header, "__metadata__") : NULL;
    void *at = metadata ? json_object_iter(metadata) : NULL;
    for (int64_t i = 0; at && i < index; i++) at = json_object_iter_next(metadata, at);
    if (!at) return false;
    *key = json_object_iter_key(at);
    *value = json_string_value(json_object_iter_value(at));
    return true;
}

/* -- data -------------------------------------------------------------------------------------- */

static lc_status fail_missing(const lc_safetensors *s, const char *name) {
    if (!s->count) return lc_fail(LC_ENOTFOUND, "%s: no tensor %s: the file has none", s->path, name);
    return lc_fail(LC_ENOTFOUND, "%s: no tensor %s among its %lld, %s to %s", s->path, name, (long long)s->count,
                   s->sorted[0]->name, s->sorted[s->count - 1]->name);
}

static lc_status find_readable(const lc_safetensors *s, const char *name, const lc_stored **out) {
    const lc_stored *e = lc_safetensors_find(s, name);
    if (!e) return fail_missing(s, name);
    if (e->dtype == LC_DTYPES)
        return lc_fail(LC_EDTYPE,
                       "%s: tensor %s has dtype %s, which lacuna does not read; it reads F64 F32 F16 BF16 I64 I32 U8 "
                       "BOOL",
                       s->path, name, e->type);
    *out = e;
    return LC_OK;
}

/* Elements first..first+count of `e`, as stored. A boolean that is neither 0 nor 1 would be undefined behaviour in C.
 */
static lc_status read_elements(lc_safetensors *s, const lc_stored *e, int64_t first, int64_t count, void *out) {
    size_t size = lc_dtype_size(e->dtype), length = (size_t)count * size;
    uint64_t at = e->begin + (uint64_t)first * size;
    for (size_t done = 0; done < length; done += READ_BYTES) {
        LC_TRY(lc_poll());
        size_t piece = length - done < READ_BYTES ? length - done : READ_BYTES;
        LC_TRY(lc_reader_read(s->shards[e->file].reader, at + done, (char *)out + done, piece));
    }
    const uint8_t *bytes = out;
    for (int64_t i = 0; e->dtype == LC_BOOL && i < count; i++)
        if (bytes[i] > 1)
            return lc_fail(LC_EFORMAT, "%s: tensor %s: element %lld is %d, not a boolean", s->path, e->name,
                           (long long)(first + i), bytes[i]);
    return LC_OK;
}

/* Through a buffer of stored elements into `flat`, one-dimensional and of any dtype. */
static lc_status read_casting(lc_safetensors *s, const lc_stored *e, lc_tensor *flat) {
    int64_t count = lc_numel(flat), chunk = lc_min(count, (int64_t)(CHUNK_BYTES / lc_dtype_size(e->dtype)));
    lc_tensor *stage = NULL;
    LC_TRY(lc_tensor_new(e->dtype, 1, &chunk, LC_CPU, &stage));
    lc_status status = LC_OK;
    for (int64_t first = 0; first < count && !status; first += chunk) {
        int64_t n = lc_min(chunk, count - first);
        lc_tensor *from = NULL, *to = NULL;
        status = read_elements(s, e, first, n, lc_data(stage));
        if (!status) status = lc_view_slice(stage, 0, 0, n, 1, &from);
        if (!status) status = lc_view_slice(flat, 0, first, n, 1, &to);
        if (!status) status = lc_copy_into(to, from);
        lc_tensor_release(from);
        lc_tensor_release(to);
    }
    lc_tensor_release(stage);
    return status;
}

/* `t` is contiguous and has e's shape. */
static lc_status read_contiguous(lc_safetensors *s, const lc_stored *e, lc_tensor *t) {
    int64_t count = lc_numel(t);
    if (count == 0) return LC_OK;
    if (t->dtype == e->dtype) return read_elements(s, e, 0, count, lc_data(t));
    lc_tensor *flat = NULL;
    LC_TRY(lc_view_reshape(t, 1, &count, &flat));
    lc_status status = read_casting(s, e, flat);
    lc_tensor_release(flat);
    return status;
}

lc_status lc_safetensors_read(lc_safetensors *s, const char *name, lc_dtype dtype, lc_tensor **out) {
    const lc_stored *e;
    LC_TRY(find_readable(s, name, &e));
    lc_tensor *t = NULL;
    LC_TRY(lc_tensor_new(dtype == LC_DTYPES ? e->dtype : dtype, e->ndim, e->shape, LC_CPU, &t));
    lc_status status = read_contiguous(s, e, t);
    if (status) {
        lc_tensor_release(t);
        return status;
    }
    *out = t;
    return LC_OK;
}

lc_status lc_safetensors_read_into(lc_safetensors *s, const char *name, lc_tensor *into) {
    const lc_stored *e;
    LC_TRY(find_readable(s, name, &e));
    if (e->ndim != into->ndim || memcmp(e->shape, into->shape, sizeof *e->shape * (size_t)e->ndim) != 0)
        return lc_fail(LC_ESHAPE, "%s: tensor %s has shape %s, expected %s", s->path, name,
                       lc_shape_text(e->ndim, e->shape), LC_SHAPE(into));
    lc_touch(into);
    if (lc_is_contiguous(into) && into->storage->device == LC_CPU) return read_contiguous(s, e, into);
    lc_tensor *stored = NULL;
    LC_TRY(lc_safetensors_read(s, name, LC_DTYPES, &stored));
    lc_status status = lc_copy_into(into, stored);
    lc_tensor_release(stored);
    return status;
}
