/* solve.c: Cholesky factors and triangular systems, by LAPACK and BLAS. */
#include "ops/blas.h"
#include "ops/cpu/cpu.h"

#include <limits.h>
#include <math.h>

enum { COLUMNS = 128 }; /* of the right-hand side, solved by one call */

/* -- Cholesky ---------------------------------------------------------------------------------- */

/* Rows of the factor from rows of L in place: what is above the diagonal becomes 0, or L's transpose and the rest 0. */
#define SHAPE_FACTOR(T)                                         \
    static void shape_factor_##T(T *a, int64_t n, bool upper) { \
        for (int64_t i = 0; i < n; i++)                         \
            for (int64_t j = 0; j < i; j++) {                   \
                a[j * n + i] = upper ? a[i * n + j] : 0;        \
                if (upper) a[i * n + j] = 0;                    \
            }                                                   \
    }
SHAPE_FACTOR(float)
SHAPE_FACTOR(double)

/* A row-major lower triangle is LAPACK's upper one. The library lets NaN pass: the diagonal is checked. */
static int64_t factor(const lc_blas *blas, lc_tensor *t, int64_t at, int64_t n, bool upper) {
    int size = (int)n, failed = 0;
    bool f32 = t->dtype == LC_F32;
    if (f32)
        blas->spotrf("U", &size, LC_DATA(float, t) + at, &size, &failed);
    else
        blas->dpotrf("U", &size, LC_DATA(double, t) + at, &size, &failed);
    if (failed) return failed;
    for (int64_t i = 0; i < n; i++) {
        double d = f32 ? LC_DATA(float, t)[at + i * n + i] : LC_DATA(double, t)[at + i * n + i];
        if (!(d > 0 && isfinite(d))) return i + 1;
    }
    if (f32)
        shape_factor_float(LC_DATA(float, t) + at, n, upper);
    else
        shape_factor_double(LC_DATA(double, t) + at, n, upper);
    return 0;
}

lc_status cpu_cholesky(const lc_call *call) {
    lc_tensor *a = call->in[0], *out = call->out[0];
    int64_t n = a->shape[a->ndim - 1], matrices = lc_shape_numel(a->ndim - 2, a->shape);
    if (n > INT_MAX || n == 0) return cpu_on_ref(call);
    const lc_blas *blas;
    LC_TRY(lc_blas_open(&blas));
    LC_TRY(lc_copy_into(out, a));
    for (int64_t m = 0; m < matrices; m++) {
        LC_TRY(lc_poll());
        int64_t row = factor(blas, out, m * n * n, n, call->attr->upper);
        if (row > 0)
            return lc_fail(
                LC_ENUMERIC,
                "cholesky: the %lld x %lld matrix is not positive definite (row %lld); add a little to its diagonal",
                (long long)n, (long long)n, (long long)row);
    }
    return LC_OK;
}

/* -- triangular systems ------------------------------------------------------------------------ */

typedef struct solve_job {
    const lc_blas *blas;
    const lc_attr *attr;
    const lc_tensor *a;
    lc_tensor *out;
    bool finite; /* a is */
} solve_job;

static bool is_zero_row(const solve_job *j, int64_t row, int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++)
        if (lc_get_f64(j->out, j->out->offset + row * j->out->shape[1] + c) != 0) return false;
    return true;
}

/* Where a right-hand side begins with zeros, in the order of substitution, so does its solution: half of the work when it
 * is the identity. Not where zeros would meet NaN. */
static void solve_columns(void *context, int64_t begin, int64_t end) {
    const solve_job *j = context;
    int uplo = j->attr->upper ? LC_BLAS_UPPER : LC_BLAS_LOWER, diag = j->attr->unit ? LC_BLAS_UNIT : LC_BLAS_NON_UNIT;
    int trans = j->attr->transpose ? LC_BLAS_TRANS : LC_BLAS_NO_TRANS;
    int64_t n = j->a->shape[0], m = j->out->shape[1], zeros = 0;
    bool downwards = j->attr->upper == j->attr->transpose;
    while (j->finite && zeros < n && is_zero_row(j, downwards ? zeros : n - 1 - zeros, begin, end)) zeros++;
    if (zeros == n) return;
    int64_t at = downwards ? zeros : 0;
    if (j->out->dtype == LC_F32)
        j->blas->strsm(LC_BLAS_ROW_MAJOR, LC_BLAS_LEFT, uplo, trans, diag, (int)(n - zeros), (int)(end - begin), 1,
                       LC_DATA(float, j->a) + at * (n + 1), (int)n, LC_DATA(float, j->out) + at * m + begin, (int)m);
    else
        j->blas->dtrsm(LC_BLAS_ROW_MAJOR, LC_BLAS_LEFT, uplo, trans, diag, (int)(n - zeros), (int)(end - begin), 1,
                       LC_DATA(double, j->a) + at * (n + 1), (int)n, LC_DATA(double, j->out) + at * m + begin, (int)m);
}

#define ALL_FINITE(T)                 \
    for (int64_t i = 0; i < n; i++) { \
        T x = LC_DATA(T, a)[i];       \
        bad |= !(x - x == 0);         \
    }

static bool is_finite(const lc_tensor *a) {
    int64_t n = lc_numel(a);
    bool bad = false;
    if (a->dtype == LC_F32)
        ALL_FINITE(float)
    else
        ALL_FINITE(double)
    return !bad;
}

lc_status cpu_solve_triangular(const lc_call *call) {
    lc_tensor *a = call->in[0], *out = call->out[0];
    int64_t n = a->shape[0], m = out->shape[1];
    if (lc_max(n, m) > INT_MAX || n == 0 || m == 0) return cpu_on_ref(call);
    for (int64_t i = 0; i < n && !call->attr->unit; i++)
        if (lc_get_f64(a, a->offset + i * (n + 1)) == 0)
            return lc_fail(LC_ENUMERIC, "solve_triangular: the matrix is singular: its diagonal is 0 in row %lld",
                           (long long)i + 1);
    solve_job j = {.attr = call->attr, .a = a, .out = out, .finite = is_finite(a)};
    LC_TRY(lc_blas_open(&j.blas));
    LC_TRY(lc_copy_into(out, call->in[1]));
    return lc_parallel_range(m, COLUMNS, solve_columns, &j);
}
