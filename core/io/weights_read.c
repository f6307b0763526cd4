/* weights_read.c: the data of stored tensors; see weights.h. */
#include "io/weights_set.h"

#include <string.h>

#include "base/pool.h"
#include "ops/op.h"

#define CHUNK_BYTES ((size_t)4 << 20) /* staged at a time when casting */
#define READ_BYTES ((size_t)64 << 20) /* between two looks at the cancel flag */

static lc_status fail_missing(const lc_weights *w, const char *name) {
    if (!w->count) return lc_fail(LC_ENOTFOUND, "%s: no tensor %s: the file has none", w->path, name);
    return lc_fail(LC_ENOTFOUND, "%s: no tensor %s among its %lld, %s to %s", w->path, name, (long long)w->count,
                   w->sorted[0]->name, w->sorted[w->count - 1]->name);
}

static lc_status find_readable(lc_weights *w, const char *name, const lc_stored **out) {
    const lc_stored *e = lc_weights_find(w, name);
    if (!e) return fail_missing(w, name);
    if (e->dtype == LC_DTYPES)
        return lc_fail(LC_EDTYPE, "%s: tensor %s has dtype %s, which lacuna does not read; it reads %s", w->path, name,
                       e->type, w->files[e->file].format->readable);
    *out = e;
    return LC_OK;
}

static lc_status read_piece(lc_weights_file *file, const lc_stored *e, int64_t first, int64_t count, void *out) {
    if (file->format->read) return file->format->read(file, e, first, count, out);
    size_t size = lc_dtype_size(e->dtype);
    return lc_reader_read(file->reader, e->begin + (uint64_t)first * size, out, (size_t)count * size);
}

/* Elements first..first+count of `e`, as stored. A boolean that is neither 0 nor 1 would be undefined behaviour in C.
 */
static lc_status read_elements(lc_weights *w, const lc_stored *e, int64_t first, int64_t count, void *out) {
    size_t size = lc_dtype_size(e->dtype);
    int64_t piece = (int64_t)(READ_BYTES / size);
    for (int64_t done = 0; done < count; done += piece) {
        LC_TRY(lc_poll());
        LC_TRY(read_piece(&w->files[e->file], e, first + done, lc_min(piece, count - done),
                          (char *)out + (size_t)done * size));
    }
    const uint8_t *bytes = out;
    for (int64_t i = 0; e->dtype == LC_BOOL && i < count; i++)
        if (bytes[i] > 1)
            return lc_fail(LC_EFORMAT, "%s: tensor %s: element %lld is %d, not a boolean", w->path, e->name,
                           (long long)(first + i), bytes[i]);
    return LC_OK;
}

/* All that lies between a strided tensor's first and last element, and the tensor as a view of that. */
static lc_status read_strided(lc_weights *w, const lc_stored *e, lc_tensor *into) {
    int64_t span = (int64_t)((e->end - e->begin) / lc_dtype_size(e->dtype));
    lc_tensor *stored = NULL, *view = NULL;
    LC_TRY(lc_tensor_new(e->dtype, 1, &span, LC_CPU, &stored));
    lc_status status = read_elements(w, e, 0, span, lc_data(stored));
    if (!status) status = lc_view_strided(stored, e->ndim, e->shape, e->strides, 0, &view);
    if (!status) status = lc_copy_into(into, view);
    lc_tensor_release(view);
    lc_tensor_release(stored);
    return status;
}

/* Through a buffer of stored elements into `flat`, one-dimensional and of any dtype. */
static lc_status read_casting(lc_weights *w, const lc_stored *e, lc_tensor *flat) {
    int64_t count = lc_numel(flat), chunk = lc_min(count, (int64_t)(CHUNK_BYTES / lc_dtype_size(e->dtype)));
    lc_tensor *stage = NULL;
    LC_TRY(lc_tensor_new(e->dtype, 1, &chunk, LC_CPU, &stage));
    lc_status status = LC_OK;
    for (int64_t first = 0; first < count && !status; first += chunk) {
        int64_t n = lc_min(chunk, count - first);
        lc_tensor *from = NULL, *to = NULL;
        status = read_elements(w, e, first, n, lc_data(stage));
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
static lc_status read_contiguous(lc_weights *w, const lc_stored *e, lc_tensor *t) {
    int64_t count = lc_numel(t);
    if (count == 0) return LC_OK;
    if (e->strided) return read_strided(w, e, t);
    if (t->dtype == e->dtype) return read_elements(w, e, 0, count, lc_data(t));
    lc_tensor *flat = NULL;
    LC_TRY(lc_view_reshape(t, 1, &count, &flat));
    lc_status status = read_casting(w, e, flat);
    lc_tensor_release(flat);
    return status;
}

lc_status lc_weights_read(lc_weights *w, const char *name, lc_dtype dtype, lc_tensor **out) {
    const lc_stored *e;
    LC_TRY(find_readable(w, name, &e));
    lc_tensor *t = NULL;
    LC_TRY(lc_tensor_new(dtype == LC_DTYPES ? e->dtype : dtype, e->ndim, e->shape, LC_CPU, &t));
    lc_status status = read_contiguous(w, e, t);
    if (status) {
        lc_tensor_release(t);
        return status;
    }
    *out = t;
    return LC_OK;
}

static bool has_shape_of(const lc_stored *e, const lc_tensor *t) {
    return e->ndim == t->ndim && !memcmp(e->shape, t->shape, sizeof *e->shape * (size_t)e->ndim);
}

lc_status lc_weights_matches(lc_weights *w, const char *name, const lc_tensor *t, bool *out) {
    const lc_stored *e;
    LC_TRY(find_readable(w, name, &e));
    *out = has_shape_of(e, t);
    if (!*out) return LC_OK;
    lc_tensor *stored = NULL;
    LC_TRY(lc_weights_read(w, name, t->dtype, &stored));
    *out = !memcmp(lc_data(stored), lc_data(t), (size_t)lc_numel(t) * lc_dtype_size(t->dtype));
    lc_tensor_release(stored);
    return LC_OK;
}

lc_status lc_weights_read_into(lc_weights *w, const char *name, lc_tensor *into) {
    const lc_stored *e;
    LC_TRY(find_readable(w, name, &e));
    if (!has_shape_of(e, into))
        return lc_fail(LC_ESHAPE, "%s: tensor %s has shape %s, expected %s", w->path, name,
                       lc_shape_text(e->ndim, e->shape), LC_SHAPE(into));
    lc_touch(into);
    if (lc_is_contiguous(into) && into->storage->device == LC_CPU) return read_contiguous(w, e, into);
    lc_tensor *stored = NULL;
    LC_TRY(lc_weights_read(w, name, LC_DTYPES, &stored));
    lc_status status = lc_copy_into(into, stored);
    lc_tensor_release(stored);
    return status;
}
