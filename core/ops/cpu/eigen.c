/* eigen.c: inverses by LU factors and eigenvectors by divide and conquer, from LAPACK. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/blas.h"
#include "ops/cpu/cpu.h"

#include <limits.h>
#include <math.h>

static bool finite_from(const lc_tensor *t, int64_t at, int64_t count) {
    double sum = 0; /* of zeros, or NaN */
    if (t->dtype == LC_F32)
        for (int64_t i = at; i < at + count; i++) sum += 0 * LC_DATA(float, t)[i];
    else
        for (int64_t i = at; i < at + count; i++) sum += 0 * LC_DATA(double, t)[i];
    return sum == 0;
}

static lc_status fail(const lc_call *call, int64_t n, const char *problem) {
    return lc_fail(LC_ENUMERIC, "%s: the %lld x %lld matrix %s", lc_op_name(call->op), (long long)n, (long long)n,
                   problem);
}

/* -- inverse ----------------------------------------------------------------------------------- */

/* The inverse of the transpose is the transpose of the inverse: LAPACK's order of columns does not matter. */
#define INVERT(T, getrf, getri)                                                     \
    static int invert_##T(const lc_blas *blas, T *a, int n, int *pivots, T *work) { \
        int info, length = 64 * n;                                                  \
        blas->getrf(&n, &n, a, &n, pivots, &info);                                  \
        if (!info) blas->getri(&n, a, &n, pivots, work, &length, &info);            \
        return info;                                                                \
    }
INVERT(float, sgetrf, sgetri)
INVERT(double, dgetrf, dgetri)

static lc_status invert_one(const lc_call *call, const lc_blas *blas, int64_t at, int n, int *pivots, void *work) {
    lc_tensor *out = call->out[0];
    LC_TRY(lc_poll());
    if (!finite_from(out, at, (int64_t)n * n)) return fail(call, n, "is not finite");
    int info = out->dtype == LC_F32 ? invert_float(blas, LC_DATA(float, out) + at, n, pivots, work)
                                    : invert_double(blas, LC_DATA(double, out) + at, n, pivots, work);
    return info ? fail(call, n, "is singular") : LC_OK;
}

lc_status cpu_inverse(const lc_call *call) {
    lc_tensor *a = call->in[0];
    int64_t n = a->shape[a->ndim - 1], matrices = lc_shape_numel(a->ndim - 2, a->shape);
    if (n > INT_MAX / 64 || n == 0) return cpu_on_ref(call);
    const lc_blas *blas;
    LC_TRY(lc_blas_open(&blas));
    LC_TRY(lc_copy_into(call->out[0], a));
    int *pivots = lc_alloc((size_t)n * sizeof *pivots);
    void *work = lc_alloc((size_t)(64 * n) * lc_dtype_size(a->dtype));
    lc_status status = pivots && work ? LC_OK : LC_ENOMEM;
    for (int64_t m = 0; m < matrices && !status; m++) status = invert_one(call, blas, m * n * n, (int)n, pivots, work);
    lc_free(pivots);
    lc_free(work);
    return status;
}

/* -- eigenvectors ------------------------------------------------------------------------------ */

/* In f64 whatever the type: in f32 close eigenvalues would mix their vectors. */
typedef struct eigen_job {
    const lc_blas *blas;
    int n, length, int_length; /* of the workspaces, in elements */
    double *a, *values, *work; /* (n, n), (n) */
    int *int_work;
} eigen_job;

/* A row-major lower triangle is LAPACK's upper one. With work lengths of -1 it only says what it needs. */
static int call_lapack(eigen_job *j, double *work, int *int_work) {
    int info;
    j->blas->dsyevd("V", "U", &j->n, j->a, &j->n, j->values, work, &j->length, int_work, &j->int_length, &info);
    return info;
}

static lc_status open_job(eigen_job *j) {
    double length;
    int int_length;
    j->length = j->int_length = -1;
    call_lapack(j, &length, &int_length);
    j->length = (int)length;
    j->int_length = int_length;
    size_t n = (size_t)j->n;
    j->a = lc_alloc(n * n * sizeof *j->a);
    j->values = lc_alloc(n * sizeof *j->values);
    j->work = lc_alloc((size_t)j->length * sizeof *j->work);
    j->int_work = lc_alloc((size_t)j->int_length * sizeof *j->int_work);
    return j->a && j->values && j->work && j->int_work ? LC_OK : LC_ENOMEM;
}

static void close_job(eigen_job *j) {
    lc_free(j->a);
    lc_free(j->values);
    lc_free(j->work);
    lc_free(j->int_work);
}

/* LAPACK's columns lie here as rows; each gets its sign. */
static void write_vectors(const eigen_job *j, lc_tensor *out, int64_t at) {
    for (int64_t i = 0; i < j->n; i++) {
        const double *row = j->a + i * j->n;
        double largest = 0;
        for (int64_t k = 0; k < j->n; k++)
            if (fabs(row[k]) > fabs(largest)) largest = row[k];
        for (int64_t k = 0; k < j->n; k++) lc_set_f64(out, at + k * j->n + i, largest < 0 ? -row[k] : row[k]);
    }
}

static lc_status solve_one(const lc_call *call, eigen_job *j, int64_t number) {
    const lc_tensor *in = call->in[0];
    lc_tensor *values = call->out[0], *vectors = call->out[1];
    int64_t n = j->n;
    LC_TRY(lc_poll());
    if (!finite_from(in, number * n * n, n * n)) return fail(call, n, "is not finite");
    for (int64_t i = 0; i < n * n; i++) j->a[i] = lc_get_f64(in, in->offset + number * n * n + i);
    if (call_lapack(j, j->work, j->int_work)) return fail(call, n, "has eigenvalues that LAPACK did not find");
    for (int64_t i = 0; values && i < n; i++) lc_set_f64(values, values->offset + number * n + i, j->values[i]);
    if (vectors) write_vectors(j, vectors, vectors->offset + number * n * n);
    return LC_OK;
}

lc_status cpu_eigh(const lc_call *call) {
    const lc_tensor *a = call->in[0];
    int64_t n = a->shape[a->ndim - 1], matrices = lc_shape_numel(a->ndim - 2, a->shape);
    if (n > 30000 || n == 0) return cpu_on_ref(call); /* so that 2 n^2 fits an int */
    eigen_job j = {.n = (int)n};
    LC_TRY(lc_blas_open(&j.blas));
    lc_status status = open_job(&j);
    for (int64_t m = 0; m < matrices && !status; m++) status = solve_one(call, &j, m);
    close_job(&j);
    return status;
}
