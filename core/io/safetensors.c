/* safetensors.c: the format safetensors of weights.h: 8 bytes of header length, a JSON header, then the data. Lengths,
 * dtypes, shapes against byte ranges, gaps, overlaps, duplicates and the file's end are all checked. Writing is in
 * safetensors_write.c. */

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json.h"
#include "io/safetensors_types.h"
#include "io/weights_format.h"

#define MAX_HEADER 100000000 /* bytes; the format's own limit */

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

/* Reads every entry of the header; *count has how many there are. */
static lc_status read_entries(const char *path, json_t *header, uint64_t file_size, uint64_t data_begin,
                              lc_stored *entries, int64_t *count) {
    const char *name;
    json_t *value;
    *count = 0;
    json_object_foreach(header, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            LC_TRY(check_metadata(path, value));
            continue;
        }
        entries[*count] = (lc_stored){.name = name};
        LC_TRY(read_entry(path, file_size, data_begin, value, &entries[*count]));
        (*count)++;
    }
    qsort(entries, (size_t)*count, sizeof *entries, by_position);
    return check_layout(path, entries, *count, data_begin, file_size);
}

static lc_status add_metadata(lc_weights *w, const json_t *header) {
    const char *key;
    json_t *text;
    json_object_foreach(json_object_get(header, "__metadata__"), key, text) {
        lc_metadata entry = {key, LC_METADATA_TEXT, {json_string_value(text)}, json_string_length(text)};
        LC_TRY(lc_weights_add_metadata(w, &entry));
    }
    return LC_OK;
}

/* The state is the header, which owns the names. */
static lc_status open_safetensors(lc_weights *w, lc_weights_file *file, const char *path) {
    uint64_t data_begin = 0;
    json_t *header = NULL;
    LC_TRY(lc_reader_open(path, &file->reader));
    LC_TRY(read_header(file->reader, &header, &data_begin));
    file->state = header;
    lc_stored *entries = lc_alloc(sizeof *entries * (json_object_size(header) + 1));
    if (!entries) return LC_ENOMEM;
    int64_t count;
    lc_status status = read_entries(path, header, lc_reader_size(file->reader), data_begin, entries, &count);
    for (int64_t i = 0; i < count && !status; i++) status = lc_weights_add(w, &entries[i]);
    lc_free(entries);
    return status ? status : add_metadata(w, header);
}

static void close_safetensors(lc_weights_file *file) {
    json_decref(file->state);
}

const lc_weights_format lc_format_safetensors = {
    .readable = "F64 F32 F16 BF16 I64 I32 U8 BOOL",
    .open = open_safetensors,
    .close = close_safetensors,
};
