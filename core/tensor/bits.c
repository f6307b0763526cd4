/* bits.c: see bits.h. */
#include "tensor/bits.h"

#include "base/memory.h"
#include "base/pool.h"

#define GRAIN (2 << 10) /* bytes, eight elements each, that one task takes */

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
    const lc_tensor *x;
    const uint8_t *bools; /* of x where it is contiguous, else NULL */
    uint8_t *bytes;
    int64_t n;
} pack_job;

static bool is_true(const pack_job *j, int64_t i) {
    return j->bools ? j->bools[i] : lc_get_i64(j->x, lc_position(j->x, i));
}

static void pack_bytes(void *context, int64_t begin, int64_t end) {
    const pack_job *j = context;
    for (int64_t b = begin; b < end; b++) {
        unsigned byte = 0;
        for (int64_t i = 8 * b; i < 8 * b + 8 && i < j->n; i++) byte |= (unsigned)is_true(j, i) << i % 8;
        j->bytes[b] = (uint8_t)byte;
    }
}

lc_status lc_bits_pack(const lc_tensor *x, lc_bits **out) {
    if (x->dtype != LC_BOOL)
        return lc_fail(LC_EDTYPE, "a mask is a bool tensor (a comparison makes one), not %s", lc_dtype_name(x->dtype));
    lc_bits *b = NULL;
    LC_TRY(bits_new(x->ndim, x->shape, &b));
    pack_job j = {x, lc_is_contiguous(x) ? LC_DATA(uint8_t, x) : NULL, bytes_of(b), lc_numel(x)};
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
    lc_status status = lc_parallel_range(lc_numel(x), 8 * GRAIN, unpack_range, &j);
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

bool lc_bits_has_shape(const lc_bits *b, int ndim, const int64_t *shape) {
    return b->ndim == ndim && memcmp(b->shape, shape, sizeof *shape * (size_t)ndim) == 0;
}

bool lc_bits_equal(const lc_bits *a, const lc_bits *b) {
    return lc_bits_has_shape(a, b->ndim, b->shape) && memcmp(bytes_of(a), bytes_of(b), (size_t)lc_numel(a->bytes)) == 0;
}

/* -- algebra ------------------------------------------------------------------------------------------------------- */

#define COMBINE(name, expression)                                                                \
    lc_status name(const lc_bits *a, const lc_bits *b, lc_bits **out) {                          \
        lc_bits *c = NULL;                                                                       \
        LC_TRY(bits_new(a->ndim, a->shape, &c));                                                 \
        const uint8_t *x = bytes_of(a), *y = bytes_of(b);                                        \
        for (int64_t i = 0; i < lc_numel(c->bytes); i++) bytes_of(c)[i] = (uint8_t)(expression); \
        return bits_done(LC_OK, c, out);                                                         \
    }
COMBINE(lc_bits_and, x[i] & y[i])
COMBINE(lc_bits_or, x[i] | y[i])
COMBINE(lc_bits_without, x[i] & ~y[i])

lc_status lc_bits_not(const lc_bits *b, lc_bits **out) {
    lc_bits *all = NULL;
    LC_TRY(lc_bits_ones(b->ndim, b->shape, &all));
    lc_status status = lc_bits_without(all, b, out);
    lc_bits_release(all);
    return status;
}
