/* bits.c: see bits.h. */
#include "tensor/bits.h"

#include "base/memory.h"
#include "base/pool.h"

#define GRAIN (16 << 10) /* bytes that one task takes */

static uint8_t *bytes_of(const lc_bits *b) {
    return LC_DATA(uint8_t, b->bytes);
}

/* Undefined content. */
static lc_status bits_new(int ndim, const int64_t *shape, lc_bits **out) {
    lc_bits *b = lc_calloc(1, sizeof *b);
    if (!b) return LC_ENOMEM;
    b->refs = 1;
    b->ndim = ndim;
    memcpy(b->shape, shape, sizeof *shape * (size_t)ndim);
    int64_t bytes = lc_bits_bytes(lc_bits_numel(b));
    lc_status status = lc_tensor_new(LC_U8, 1, &bytes, LC_CPU, &b->bytes);
    if (status)
        lc_free(b);
    else
        *out = b;
    return status;
}

/* Hands b over with its last byte's loose bits cleared, or drops it when filling it failed. */
static lc_status bits_done(lc_status status, lc_bits *b, lc_bits **out) {
    if (status) {
        lc_bits_release(b);
        return status;
    }
    int64_t n = lc_bits_numel(b);
    if (n % 8) bytes_of(b)[n / 8] &= (uint8_t)((1 << n % 8) - 1);
    *out = b;
    return LC_OK;
}

/* -- packing ------------------------------------------------------------------------------------------------------- */

typedef struct pack_job {
    const uint8_t *bools; /* n */
    uint8_t *bytes;
    int64_t n;
} pack_job;

static void pack_bytes(void *context, int64_t begin, int64_t end) {
    const pack_job *j = context;
    for (int64_t b = begin; b < end; b++) {
        unsigned byte = 0;
        for (int64_t i = 8 * b; i < 8 * b + 8 && i < j->n; i++) byte |= (unsigned)(j->bools[i] != 0) << i % 8;
        j->bytes[b] = (uint8_t)byte;
    }
}

lc_status lc_bits_pack(const lc_tensor *x, lc_bits **out) {
    if (x->dtype != LC_BOOL)
        return lc_fail(LC_EDTYPE, "a mask is a bool tensor (a comparison makes one), not %s", lc_dtype_name(x->dtype));
    lc_bits *b = NULL;
    LC_TRY(bits_new(x->ndim, x->shape, &b));
    pack_job j = {LC_DATA(uint8_t, x), bytes_of(b), lc_numel(x)};
    return bits_done(lc_parallel_range(lc_bits_bytes(j.n), GRAIN, pack_bytes, &j), b, out);
}

typedef struct unpack_job {
    const uint8_t *bytes;
    uint8_t *bools;
} unpack_job;

static void unpack_range(void *context, int64_t begin, int64_t end) {
    const unpack_job *j = context;
    lc_bits_spread(j->bytes + begin / 8, end - begin, j->bools + begin);
}

lc_status lc_bits_unpack(const lc_bits *b, lc_tensor **out) {
    lc_tensor *x = NULL;
    LC_TRY(lc_tensor_new(LC_BOOL, b->ndim, b->shape, LC_CPU, &x));
    unpack_job j = {bytes_of(b), LC_DATA(uint8_t, x)};
    lc_status status = lc_parallel_range(lc_numel(x), GRAIN, unpack_range, &j);
    if (status)
        lc_tensor_release(x);
    else
        *out = x;
    return status;
}

lc_status lc_bits_ones(int ndim, const int64_t *shape, lc_bits **out) {
    lc_bits *b = NULL;
    LC_TRY(bits_new(ndim, shape, &b));
    memset(bytes_of(b), 0xff, (size_t)lc_numel(b->bytes));
    return bits_done(LC_OK, b, out);
}

/* -- holding ------------------------------------------------------------------------------------------------------- */

lc_bits *lc_bits_retain(lc_bits *b) {
    b->refs++;
    return b;
}

void lc_bits_release(lc_bits *b) {
    if (!b || --b->refs > 0) return;
    lc_tensor_release(b->bytes);
    lc_free(b);
}

/* -- reading ------------------------------------------------------------------------------------------------------- */

int64_t lc_bits_numel(const lc_bits *b) {
    return lc_shape_numel(b->ndim, b->shape);
}

int64_t lc_bits_count(const lc_bits *b) {
    int64_t n = lc_numel(b->bytes), i = 0, count = 0;
    for (uint64_t word; i + 8 <= n; i += 8) {
        memcpy(&word, bytes_of(b) + i, sizeof word);
        count += __builtin_popcountll(word);
    }
    for (; i < n; i++) count += __builtin_popcount(bytes_of(b)[i]);
    return count;
}

static bool same_shapes(int na, const int64_t *a, int nb, const int64_t *b) {
    return na == nb && memcmp(a, b, sizeof *a * (size_t)na) == 0;
}

bool lc_bits_same_shape(const lc_bits *b, const lc_tensor *t) {
    return same_shapes(b->ndim, b->shape, t->ndim, t->shape);
}

bool lc_bits_equal(const lc_bits *a, const lc_bits *b) {
    return same_shapes(a->ndim, a->shape, b->ndim, b->shape) &&
           memcmp(bytes_of(a), bytes_of(b), (size_t)lc_numel(a->bytes)) == 0;
}

/* -- algebra ------------------------------------------------------------------------------------------------------- */

lc_status lc_bits_and(const lc_bits *a, const lc_bits *b, lc_bits **out) {
    lc_bits *c = NULL;
    LC_TRY(bits_new(a->ndim, a->shape, &c));
    for (int64_t i = 0; i < lc_numel(c->bytes); i++) bytes_of(c)[i] = bytes_of(a)[i] & bytes_of(b)[i];
    return bits_done(LC_OK, c, out);
}

lc_status lc_bits_or(const lc_bits *a, const lc_bits *b, lc_bits **out) {
    lc_bits *c = NULL;
    LC_TRY(bits_new(a->ndim, a->shape, &c));
    for (int64_t i = 0; i < lc_numel(c->bytes); i++) bytes_of(c)[i] = bytes_of(a)[i] | bytes_of(b)[i];
    return bits_done(LC_OK, c, out);
}

lc_status lc_bits_not(const lc_bits *b, lc_bits **out) {
    lc_bits *c = NULL;
    LC_TRY(bits_new(b->ndim, b->shape, &c));
    for (int64_t i = 0; i < lc_numel(c->bytes); i++) bytes_of(c)[i] = (uint8_t)~bytes_of(b)[i];
    return bits_done(LC_OK, c, out);
}
