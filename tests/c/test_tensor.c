/* test_tensor.c: dtypes, views, the strided walk and packed bits, against brute force. */
#include "check.h"

#include "base/memory.h"
#include "base/random.h"
#include "tensor/bits.h"

static void test_halves(void) {
    bool round_trip = true, nearest = true;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = lc_f16_to_f32((uint16_t)h), b = lc_bf16_to_f32((uint16_t)h);
        if (f == f) round_trip = round_trip && lc_f32_to_f16(f) == h;
        if (b == b) round_trip = round_trip && lc_f32_to_bf16(b) == h;
    }
    CHECK(round_trip);
    lc_stream s = lc_stream_make(1, "halves");
    for (int i = 0; i < 200000; i++) {
        float f = (float)ldexp(lc_stream_normal(&s), (int)lc_stream_below(&s, 36) - 24);
        uint16_t h = lc_f32_to_f16(f);
        if (fabsf(f) > 65000) continue;
        float got = lc_f16_to_f32(h), below = lc_f16_to_f32(h - 1), above = lc_f16_to_f32(h + 1);
        nearest =
            nearest && fabsf(got - f) <= fabsf(above - f) && (h % 0x8000 == 0 || fabsf(got - f) <= fabsf(below - f));
    }
    CHECK(nearest);
    CHECK(lc_f32_to_f16(1e6f) == 0x7C00 && lc_f32_to_f16(-1e6f) == 0xFC00 && lc_f32_to_f16(65519) == 0x7BFF);
    CHECK(isnan(lc_f16_to_f32(lc_f32_to_f16(NAN))) && isnan(lc_bf16_to_f32(lc_f32_to_bf16(NAN))));
    CHECK(lc_dtype_promote(LC_F16, LC_BF16) == LC_F32 && lc_dtype_promote(LC_I64, LC_F32) == LC_F32);
    lc_dtype d;
    CHECK_OK(lc_dtype_parse("int64", &d));
    CHECK(d == LC_I64);
    CHECK_MESSAGE(lc_dtype_parse("f31", &d), LC_EDTYPE, "no dtype is called 'f31'; there are bool, u8");
}

static lc_tensor *iota(int ndim, const int64_t *shape) {
    lc_tensor *t = NULL;
    CHECK_OK(lc_tensor_new(LC_I64, ndim, shape, LC_CPU, &t));
    for (int64_t i = 0; i < lc_numel(t); i++) LC_DATA(int64_t, t)[i] = i;
    return t;
}

static bool same_content(const lc_tensor *a, const lc_tensor *b) {
    if (lc_numel(a) != lc_numel(b)) return false;
    for (int64_t i = 0; i < lc_numel(a); i++)
        if (lc_get_i64(a, lc_position(a, i)) != lc_get_i64(b, lc_position(b, i))) return false;
    return true;
}

/* A reshape that gives a view shows the elements in the same order; one that refuses has no strides that would. */
static bool some_strides_fit(const lc_tensor *x, int ndim, const int64_t *shape) {
    int64_t strides[LC_MAX_DIMS];
    for (int d = ndim - 1, step = 1; d >= 0; d--) {
        strides[d] = shape[d] > 1 ? lc_position(x, step) - lc_position(x, 0) : 0;
        step *= (int)shape[d];
    }
    for (int64_t i = 0; i < lc_numel(x); i++) {
        int64_t at = x->offset, rest = i;
        for (int d = ndim - 1; d >= 0; d--) at += rest % shape[d] * strides[d], rest /= shape[d];
        if (at != lc_position(x, i)) return false;
    }
    return true;
}

static void test_reshape(void) {
    static const int64_t shapes[][4] = {{2, 3, 4, 6}, {6, 1, 24, 1}, {4, 6, 6, 1},  {12, 12, 1, 1},
                                        {2, 2, 6, 6}, {3, 2, 4, 6},  {144, 1, 1, 1}};
    static const int orders[][4] = {{0, 1, 2, 3}, {1, 0, 2, 3}, {0, 2, 1, 3}, {3, 2, 1, 0}, {0, 1, 3, 2}, {2, 3, 0, 1}};
    int views = 0, refused = 0;
    bool right = true;
    for (int a = 0; a < 7; a++) {
        lc_tensor *x = iota(4, shapes[a]);
        for (int o = 0; o < 6; o++) {
            lc_tensor *p = NULL;
            CHECK_OK(lc_view_permute(x, orders[o], &p));
            for (int b = 0; b < 7; b++) {
                lc_tensor *v = NULL;
                if (lc_view_reshape(p, 4, shapes[b], &v) == LC_OK) {
                    right = right && same_content(p, v);
                    views++;
                    lc_tensor_release(v);
                } else {
                    right = right && !some_strides_fit(p, 4, shapes[b]);
                    refused++;
                }
            }
            lc_tensor_release(p);
        }
        lc_tensor_release(x);
    }
    CHECK(right);
    CHECK(views > 50);
    CHECK(refused > 20);
}

static void test_views(void) {
    lc_tensor *x = iota(3, (int64_t[]){4, 5, 6}), *v = NULL, *w = NULL;
    CHECK_OK(lc_view_slice(x, 1, 1, 2, 2, &v));
    CHECK(v->shape[1] == 2 && lc_get_i64(v, lc_position(v, 6)) == 18);
    CHECK(!lc_is_contiguous(v));
    CHECK_OK(lc_view_select(v, 0, 3, &w));
    CHECK(w->ndim == 2 && lc_get_i64(w, lc_position(w, 0)) == 96);
    lc_tensor_release(v);
    lc_tensor_release(w);
    CHECK_MESSAGE(lc_view_slice(x, 1, 4, 2, 1, &v), LC_ESHAPE,
                  "slice: positions 5 to 6 are outside dimension 2 of (4, 5, 6)");
    CHECK_MESSAGE(lc_view_slice(x, 1, 4, INT64_MAX, 2, &v), LC_ESHAPE, "outside dimension 2 of (4, 5, 6)");
    CHECK_MESSAGE(lc_view_slice(x, 1, 1, INT64_MAX, 1, &v), LC_ESHAPE, "outside dimension 2 of (4, 5, 6)");
    CHECK_MESSAGE(lc_view_slice(x, 1, INT64_MAX, 2, 1, &v), LC_ESHAPE, "outside dimension 2 of (4, 5, 6)");
    CHECK_OK(lc_view_slice(x, 1, 4, 1, INT64_MAX, &v));
    CHECK(lc_get_i64(v, lc_position(v, 0)) == 24);
    lc_tensor_release(v);
    CHECK_MESSAGE(lc_view_reshape(x, 2, (int64_t[]){7, -1}, &v), LC_ESHAPE,
                  "(4, 5, 6) has 120 elements and cannot become (7, -1)");
    CHECK_MESSAGE(lc_view_expand(x, 3, (int64_t[]){4, 10, 6}, &v), LC_ESHAPE, "cannot be broadcast to (4, 10, 6)");
    CHECK_MESSAGE(lc_view_permute(x, (int[]){0, 0, 1}, &v), LC_ESHAPE, "must name each of the 3 dimensions once");
    CHECK_OK(lc_view_reshape(x, 2, (int64_t[]){-1, 30}, &v));
    CHECK(v->shape[0] == 4);
    lc_tensor_release(v);
    int n;
    int64_t shape[LC_MAX_DIMS];
    CHECK_OK(lc_broadcast_shape(2, (int64_t[]){5, 1}, 3, (int64_t[]){2, 1, 7}, &n, shape));
    CHECK(n == 3 && shape[0] == 2 && shape[1] == 5 && shape[2] == 7);
    CHECK_MESSAGE(lc_broadcast_shape(1, (int64_t[]){5}, 1, (int64_t[]){4}, &n, shape), LC_ESHAPE,
                  "shapes (5) and (4) do not broadcast");
    CHECK_MESSAGE(lc_tensor_new(LC_F32, 1, (int64_t[]){-1}, LC_CPU, &v), LC_ESHAPE, "cannot be negative");
    CHECK_MESSAGE(lc_tensor_new(LC_F32, 2, (int64_t[]){1LL << 40, 1LL << 40}, LC_CPU, &v), LC_ENOMEM,
                  "do not fit in memory");
    CHECK_MESSAGE(lc_tensor_new(LC_F32, 1, (int64_t[]){4}, LC_CUDA, &v), LC_EDEVICE, "no memory on device 'cuda'");
    lc_tensor_release(x);
}

/* The walk visits every element of every operand exactly in row-major order of the shape, whatever the strides. */
static void test_iter(void) {
    lc_tensor *x = iota(4, (int64_t[]){3, 1, 4, 5}), *p = NULL, *e = NULL, *row = iota(1, (int64_t[]){3});
    CHECK_OK(lc_view_permute(x, (int[]){3, 2, 1, 0}, &p));
    CHECK_OK(lc_view_expand(row, 4, p->shape, &e));
    lc_tensor *pair[2] = {p, e};
    lc_iter it;
    lc_iter_init(&it, 2, pair);
    int64_t seen = 0;
    bool right = it.rows * it.inner == 60;
    for (int64_t r = 0; r < it.rows; r++) {
        int64_t at[LC_MAX_OPERANDS];
        lc_iter_row(&it, r, at);
        for (int64_t i = 0; i < it.inner; i++, seen++) {
            right = right && LC_DATA(int64_t, p)[at[0] + i * it.inner_stride[0]] == lc_get_i64(p, lc_position(p, seen));
            right = right && LC_DATA(int64_t, e)[at[1] + i * it.inner_stride[1]] == lc_get_i64(e, lc_position(e, seen));
        }
    }
    CHECK(right && seen == 60);
    lc_tensor *same[2] = {x, x};
    lc_iter_init(&it, 2, same);
    CHECK(it.rows == 1 && it.inner == 60); /* contiguous operands are one row */
    lc_tensor_release(x);
    lc_tensor_release(p);
    lc_tensor_release(e);
    lc_tensor_release(row);
}

/* -- packed bits ------------------------------------------------------------------------------- */

static lc_tensor *random_bools(int64_t n, const char *name) {
    lc_stream s = lc_stream_make(3, name);
    lc_tensor *t = NULL;
    CHECK_OK(lc_tensor_new(LC_BOOL, 2, (int64_t[]){1, n}, LC_CPU, &t));
    for (int64_t i = 0; i < n; i++) LC_DATA(uint8_t, t)[i] = (uint8_t)lc_stream_below(&s, 2);
    return t;
}

/* Bit i of `got` is op(x[i], y[i]) for all i, and the count is that of the ones; loose bits would be counted too. */
static bool bits_are(const lc_bits *got, char op, const lc_tensor *x, const lc_tensor *y) {
    int64_t n = lc_numel(x), count = 0;
    bool right = lc_bits_numel(got) == n && lc_bits_has_shape(got, x->ndim, x->shape);
    for (int64_t i = 0; i < n; i++) {
        int a = LC_DATA(uint8_t, x)[i], b = LC_DATA(uint8_t, y)[i];
        int want = op == '=' ? a : op == '&' ? a & b : op == '|' ? a | b : op == '~' ? !a : op == '-' ? a & !b : 1;
        right = right && lc_bit(LC_DATA(uint8_t, got->bytes), i) == want;
        count += want;
    }
    return right && lc_bits_count(got) == count;
}

static void check_bits(int64_t n) {
    lc_tensor *x = random_bools(n, "x"), *y = random_bools(n, "y"), *back = NULL;
    lc_bits *a = NULL, *b = NULL, *again = NULL, *made[5] = {NULL};
    CHECK_OK(lc_bits_pack(x, &a));
    CHECK_OK(lc_bits_pack(y, &b));
    CHECK_OK(lc_bits_unpack(a, &back));
    CHECK_OK(lc_bits_pack(back, &again));
    CHECK(memcmp(lc_data(back), lc_data(x), (size_t)n) == 0 && lc_bits_equal(a, again));
    CHECK_OK(lc_bits_and(a, b, &made[0]));
    CHECK_OK(lc_bits_or(a, b, &made[1]));
    CHECK_OK(lc_bits_not(a, &made[2]));
    CHECK_OK(lc_bits_ones(2, x->shape, &made[3]));
    CHECK_OK(lc_bits_without(a, b, &made[4]));
    CHECK(bits_are(a, '=', x, y) && bits_are(made[0], '&', x, y) && bits_are(made[1], '|', x, y));
    CHECK(bits_are(made[2], '~', x, y) && bits_are(made[3], '1', x, y) && bits_are(made[4], '-', x, y));
    CHECK(n == 0 || !lc_bits_equal(a, made[2]));
    for (int k = 0; k < 5; k++) lc_bits_release(made[k]);
    lc_bits_release(a);
    lc_bits_release(b);
    lc_bits_release(again);
    lc_tensor_release(x);
    lc_tensor_release(y);
    lc_tensor_release(back);
}

static void test_bits(void) {
    static const int64_t sizes[] = {0, 1, 7, 8, 9, 63, 64, 65, 1000, 300001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_bits(sizes[i]);
    lc_tensor *numbers = NULL;
    lc_bits *none = NULL;
    CHECK_OK(lc_tensor_zeros(LC_U8, 1, (int64_t[]){3}, LC_CPU, &numbers));
    CHECK_MESSAGE(lc_bits_pack(numbers, &none), LC_EDTYPE, "a mask is a bool tensor (a comparison makes one), not u8");
    CHECK(none == NULL);
    lc_tensor_release(numbers);

    lc_tensor *x = NULL, *turned = NULL; /* of other strides */
    CHECK_OK(lc_tensor_zeros(LC_BOOL, 2, (int64_t[]){2, 5}, LC_CPU, &x));
    LC_DATA(uint8_t, x)[1] = LC_DATA(uint8_t, x)[5] = 1; /* (0, 1) and (1, 0) */
    CHECK_OK(lc_view_permute(x, (int[]){1, 0}, &turned));
    CHECK_OK(lc_bits_pack(turned, &none));
    CHECK(lc_bits_count(none) == 2 && lc_bit(LC_DATA(uint8_t, none->bytes), 2) &&
          lc_bit(LC_DATA(uint8_t, none->bytes), 1));
    lc_bits_release(none);
    lc_tensor_release(turned);
    lc_tensor_release(x);
}

int main(void) {
    size_t before = lc_memory_get().live;
    test_halves();
    test_reshape();
    test_views();
    test_iter();
    test_bits();
    CHECK(lc_memory_get().live == before);
    return check_done();
}
