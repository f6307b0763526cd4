/* tensors.h: small tensors for C checks: made from literals, compared with literals, and released together by
 * drop_all(). */
#ifndef LC_TESTS_TENSORS_H
#define LC_TESTS_TENSORS_H

#include "check.h"
#include "ops/op.h"

#define SHAPE(...)                                                           \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { \
        __VA_ARGS__                                                          \
    }
#define SCALAR 0, NULL
#define VALUES(...) ((double[]){__VA_ARGS__})

static lc_tensor *tensors_made[512];
static int tensors_count;

/* Hands a tensor over to drop_all(). */
static inline lc_tensor *keep_for_drop(lc_tensor *t) {
    if (t) tensors_made[tensors_count++] = t;
    return t;
}

static inline void drop_all(void) {
    while (tensors_count > 0) lc_tensor_release(tensors_made[--tensors_count]);
}

/* A contiguous tensor of these values. */
static inline lc_tensor *tensor(lc_dtype dtype, int ndim, const int64_t *shape, const double *values) {
    lc_tensor *t = NULL;
    CHECK_OK(lc_tensor_zeros(dtype, ndim, shape, LC_CPU, &t));
    for (int64_t i = 0, n = lc_numel(t); values && i < n; i++) lc_set_f64(t, i, values[i]);
    return keep_for_drop(t);
}

/* Numbers in -1..1 that look random and are always the same. */
static inline lc_tensor *noise(lc_dtype dtype, int ndim, const int64_t *shape, unsigned seed) {
    lc_tensor *t = tensor(dtype, ndim, shape, NULL);
    for (int64_t i = 0, n = lc_numel(t); i < n; i++)
        lc_set_f64(t, i, sin(12.9898 * (double)(i + 1) + 78.233 * (double)(seed + 1)));
    return t;
}

static inline double element(const lc_tensor *t, int64_t i) {
    return lc_get_f64(t, lc_position(t, i));
}

/* The outputs of the last run(). */
static lc_tensor *outputs[LC_MAX_OUT];

/* The op's first output; NULL, and a failed check, when it fails. */
#define RUN(op, attr, ...) \
    run((op), (attr), (lc_tensor *[]){__VA_ARGS__}, (int)(sizeof((lc_tensor *[]){__VA_ARGS__}) / sizeof(lc_tensor *)))
static inline lc_tensor *run(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in) {
    for (int i = 0; i < LC_MAX_OUT; i++) outputs[i] = NULL;
    CHECK_OK(lc_run(op, attr, in, n_in, outputs));
    for (int i = 0; i < LC_MAX_OUT; i++) keep_for_drop(outputs[i]);
    return outputs[0];
}

/* The op fails with this code and text. */
#define CHECK_REFUSED(op, attr, code, text, ...)                                                 \
    do {                                                                                         \
        lc_tensor *refused[LC_MAX_OUT] = {NULL}, *refused_in[] = {__VA_ARGS__};                  \
        int refused_count = (int)(sizeof refused_in / sizeof *refused_in);                       \
        CHECK_MESSAGE(lc_run((op), (attr), refused_in, refused_count, refused), (code), (text)); \
    } while (0)

/* The tensor has this dtype, shape and content. */
#define CHECK_TENSOR(t, dtype, ...) check_tensor((t), (dtype), __FILE__, __LINE__, #t, __VA_ARGS__)
static inline void check_tensor(const lc_tensor *t, lc_dtype dtype, const char *file, int line, const char *what,
                                int ndim, const int64_t *shape, const double *values, double tolerance) {
    bool ok = t && t->dtype == dtype && t->ndim == ndim;
    for (int d = 0; ok && d < ndim; d++) ok = t->shape[d] == shape[d];
    check_count(ok, file, line, what);
    if (!ok && t) fprintf(stderr, "    got %s %s\n", lc_dtype_name(t->dtype), LC_SHAPE(t));
    for (int64_t i = 0, n = ok ? lc_numel(t) : 0; i < n; i++)
        check_near(element(t, i), values[i], tolerance, file, line, what);
}

/* Both hold the same numbers, within a tolerance. */
#define CHECK_SAME(a, b, tolerance) check_same((a), (b), (tolerance), __FILE__, __LINE__, #a " and " #b)
static inline void check_same(const lc_tensor *a, const lc_tensor *b, double tolerance, const char *file, int line,
                              const char *what) {
    bool ok = a && b && lc_same_shape(a, b);
    for (int64_t i = 0, n = ok ? lc_numel(a) : 0; i < n; i++) {
        double x = element(a, i), y = element(b, i);
        ok = ok && (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= tolerance);
    }
    check_count(ok, file, line, what);
}

#endif
