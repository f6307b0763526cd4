/* tensor.c: tensors, their storage, and single elements. View functions are in view.c. */
#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"

const char *lc_device_name(lc_device d) {
    return d == LC_CUDA ? "cuda" : "cpu";
}

int64_t lc_shape_numel(int ndim, const int64_t *shape) {
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    return n;
}

int64_t lc_numel(const lc_tensor *t) {
    return lc_shape_numel(t->ndim, t->shape);
}

bool lc_is_contiguous(const lc_tensor *t) {
    int64_t expected = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] == 0) return true;
        if (t->shape[i] != 1 && t->strides[i] != expected) return false;
        expected *= t->shape[i];
    }
    return true;
}

bool lc_same_shape(const lc_tensor *a, const lc_tensor *b) {
    return a->ndim == b->ndim && memcmp(a->shape, b->shape, sizeof a->shape[0] * (size_t)a->ndim) == 0;
}

#define RING 8
#define SHAPE_TEXT 192

const char *lc_shape_text(int ndim, const int64_t *shape) {
    static _Thread_local char ring[RING][SHAPE_TEXT];
    static _Thread_local int turn;
    char *text = ring[turn++ % RING];
    int n = snprintf(text, SHAPE_TEXT, "(");
    for (int i = 0; i < ndim; i++)
        n += snprintf(text + n, (size_t)(SHAPE_TEXT - n), "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + n, (size_t)(SHAPE_TEXT - n), ")");
    return text;
}

/* Bytes of a fresh tensor, refusing negative sizes and products that overflow. */
lc_status lc_shape_bytes(lc_dtype dtype, int ndim, const int64_t *shape, size_t *bytes) {
    if (ndim < 0 || ndim > LC_MAX_DIMS)
        return lc_fail(LC_ESHAPE, "a tensor has at most %d dimensions, not %d", LC_MAX_DIMS, ndim);
    size_t total = lc_dtype_size(dtype);
    bool empty = false;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0) return lc_fail(LC_ESHAPE, "shape %s: a size cannot be negative", lc_shape_text(ndim, shape));
        if (shape[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(total, (size_t)shape[i], &total) || total > (size_t)1 << 48)
            return lc_fail(LC_ENOMEM, "shape %s: that many elements do not fit in memory", lc_shape_text(ndim, shape));
    }
    *bytes = empty ? 0 : total;
    return LC_OK;
}

static void storage_release(lc_storage *s) {
    if (--s->refs > 0) return;
    lc_buffer_free(s->data, s->bytes);
    lc_buffer_free(s, sizeof *s);
}

/* Tensor and storage structs come from the buffer cache as well: it is the faster allocator. */
lc_status lc_tensor_new(lc_dtype dtype, int ndim, const int64_t *shape, lc_device device, lc_tensor **out) {
    size_t bytes = 0;
    LC_TRY(lc_shape_bytes(dtype, ndim, shape, &bytes));
    if (device != LC_CPU) return lc_fail(LC_EDEVICE, "this build has no memory on device '%s'", lc_device_name(device));
    lc_tensor *t = lc_buffer_new(sizeof *t);
    lc_storage *s = t ? lc_buffer_new(sizeof *s) : NULL;
    void *data = s ? lc_buffer_new(bytes) : NULL;
    if (!data) {
        lc_buffer_free(s, sizeof *s);
        lc_buffer_free(t, sizeof *t);
        return LC_ENOMEM;
    }
    *s = (lc_storage){.refs = 1, .bytes = bytes, .data = data, .device = device};
    memset(t, 0, sizeof *t);
    t->refs = 1;
    t->dtype = dtype;
    t->ndim = ndim;
    t->storage = s;
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        t->shape[i] = shape[i];
        t->strides[i] = stride;
        stride *= shape[i];
    }
    *out = t;
    return LC_OK;
}

#define ZERO_GRAIN (1 << 20) /* bytes */

static void zero_bytes(void *context, int64_t begin, int64_t end) {
    memset((char *)context + begin, 0, (size_t)(end - begin));
}

lc_status lc_tensor_zeros(lc_dtype dtype, int ndim, const int64_t *shape, lc_device device, lc_tensor **out) {
    lc_tensor *t = NULL;
    LC_TRY(lc_tensor_new(dtype, ndim, shape, device, &t));
    lc_status status = lc_parallel_range((int64_t)t->storage->bytes, ZERO_GRAIN, zero_bytes, t->storage->data);
    if (status)
        lc_tensor_release(t);
    else
        *out = t;
    return status;
}

lc_status lc_tensor_scalar(lc_dtype dtype, double value, lc_tensor **out) {
    lc_tensor *t = NULL;
    LC_TRY(lc_tensor_new(dtype, 0, NULL, LC_CPU, &t));
    lc_set_f64(t, 0, value);
    *out = t;
    return LC_OK;
}

lc_tensor *lc_tensor_retain(lc_tensor *t) {
    t->refs++;
    return t;
}

void lc_tensor_release(lc_tensor *t) {
    if (!t || --t->refs > 0) return;
    lc_node *node = t->node;
    lc_tensor_release(t->grad);
    lc_tensor_release(t->leaf);
    lc_free(t->name);
    storage_release(t->storage);
    lc_buffer_free(t, sizeof *t);
    if (node) ((struct lc_node_head *)node)->release(node);
}

lc_status lc_tensor_set_name(lc_tensor *t, const char *name) {
    char *copy = lc_strdup(name);
    if (!copy) return LC_ENOMEM;
    lc_free(t->name);
    t->name = copy;
    return LC_OK;
}

int64_t lc_position(const lc_tensor *t, int64_t index) {
    int64_t position = t->offset;
    for (int i = t->ndim - 1; i >= 0; i--) {
        position += index % t->shape[i] * t->strides[i];
        index /= t->shape[i];
    }
    return position;
}

double lc_get_f64(const lc_tensor *t, int64_t p) {
    const void *data = t->storage->data;
    switch (t->dtype) {
    case LC_BOOL:
    case LC_U8:
        return ((const uint8_t *)data)[p];
    case LC_I32:
        return ((const int32_t *)data)[p];
    case LC_I64:
        return (double)((const int64_t *)data)[p];
    case LC_F16:
        return lc_f16_to_f32(((const uint16_t *)data)[p]);
    case LC_BF16:
        return lc_bf16_to_f32(((const uint16_t *)data)[p]);
    case LC_F32:
        return ((const float *)data)[p];
    default:
        return ((const double *)data)[p];
    }
}

/* Towards zero, saturating, NaN as 0. */
static int64_t to_i64(double v) {
    if (v != v) return 0;
    if (v >= 0x1p63) return INT64_MAX;
    if (v < -0x1p63) return INT64_MIN;
    return (int64_t)v;
}

int64_t lc_get_i64(const lc_tensor *t, int64_t p) {
    const void *data = t->storage->data;
    switch (t->dtype) {
    case LC_BOOL:
    case LC_U8:
        return ((const uint8_t *)data)[p];
    case LC_I32:
        return ((const int32_t *)data)[p];
    case LC_I64:
        return ((const int64_t *)data)[p];
    default:
        return to_i64(lc_get_f64(t, p));
    }
}

void lc_set_i64(lc_tensor *t, int64_t p, int64_t v) {
    void *data = t->storage->data;
    switch (t->dtype) {
    case LC_BOOL:
        ((uint8_t *)data)[p] = v != 0;
        break;
    case LC_U8:
        ((uint8_t *)data)[p] = (uint8_t)lc_min(255, lc_max(0, v));
        break;
    case LC_I32:
        ((int32_t *)data)[p] = (int32_t)lc_min(INT32_MAX, lc_max(INT32_MIN, v));
        break;
    case LC_I64:
        ((int64_t *)data)[p] = v;
        break;
    default:
        lc_set_f64(t, p, (double)v);
    }
}

void lc_set_f64(lc_tensor *t, int64_t p, double v) {
    void *data = t->storage->data;
    switch (t->dtype) {
    case LC_BOOL:
        ((uint8_t *)data)[p] = v != 0;
        break;
    case LC_F16:
        ((uint16_t *)data)[p] = lc_f32_to_f16((float)v);
        break;
    case LC_BF16:
        ((uint16_t *)data)[p] = lc_f32_to_bf16((float)v);
        break;
    case LC_F32:
        ((float *)data)[p] = (float)v;
        break;
    case LC_F64:
        ((double *)data)[p] = v;
        break;
    default:
        lc_set_i64(t, p, to_i64(v));
    }
}
