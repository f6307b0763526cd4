/* reconstruct.c: see reconstruct.h. */
#include "solve/reconstruct.h"

#include <math.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/blas.h"
#include "ops/gemm.h"

enum {
    DIRECT = 384, /* kept weights of a row, at most, for a Cholesky factor of its own */
    TASKS = 16    /* each has room for one factor, and takes every 16th row */
};
/* A pivot below this share of its diagonal says that the support's inputs depend on each other. */
static const double PIVOT = 1e-8;
static const double ENOUGH = 1e-8; /* residual at which conjugate gradients end */

typedef struct job {
    const lc_quadratic *q;
    const lc_blas *blas;
    const uint8_t *keep;
    int64_t most;    /* kept weights of a row */
    double *TH;      /* (O, I) */
    double *factors; /* TASKS x (most, most) */
    double *W;
    bool *singular; /* TASKS */
} job;

static int64_t most_kept(const lc_quadratic *q, const uint8_t *keep) {
    int64_t most = 0;
    for (int64_t o = 0; o < q->O; o++) {
        int64_t kept = 0;
        for (int64_t i = 0; i < q->I; i++) kept += keep[o * q->I + i] != 0;
        most = lc_max(most, kept);
    }
    return most;
}

/* H's Cholesky factor on the support of n inputs. False: it has none to rely on. */
static bool factor(const job *j, const int64_t *support, int64_t n, double *A) {
    int size = (int)n, failed = 0;
    const double *H = j->q->H;
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c <= r; c++) A[r * n + c] = H[support[r] * j->q->I + support[c]];
    j->blas->dpotrf("U", &size, A, &size, &failed); /* a row-major lower triangle is LAPACK's upper one */
    for (int64_t r = 0; r < n && !failed; r++) {
        double pivot = A[r * (n + 1)] * A[r * (n + 1)];
        failed = !(pivot > PIVOT * H[support[r] * (j->q->I + 1)] && isfinite(pivot));
    }
    return !failed;
}

static void solve_row(const job *j, int64_t o, double *A, bool *singular) {
    int64_t I = j->q->I, n = 0, support[DIRECT];
    double x[DIRECT];
    for (int64_t i = 0; i < I; i++)
        if (j->keep[o * I + i]) support[n++] = i;
    if (n == 0) return;
    if (!factor(j, support, n, A)) {
        *singular = true;
        return;
    }
    for (int64_t k = 0; k < n; k++) x[k] = j->TH[o * I + support[k]];
    for (int half = 0; half < 2; half++)
        j->blas->dtrsm(LC_BLAS_ROW_MAJOR, LC_BLAS_LEFT, LC_BLAS_LOWER, half ? LC_BLAS_TRANS : LC_BLAS_NO_TRANS,
                       LC_BLAS_NON_UNIT, (int)n, 1, 1, A, (int)n, x, 1);
    for (int64_t k = 0; k < n; k++) j->W[o * I + support[k]] = x[k];
}

static void solve_rows(void *context, int64_t task) {
    const job *j = context;
    for (int64_t o = task; o < j->q->O && !lc_poll(); o += TASKS)
        solve_row(j, o, j->factors + task * j->most * j->most, &j->singular[task]);
}

/* Solves the rows that have a factor. *all: every one has. */
static lc_status solve_directly(const lc_quadratic *q, const uint8_t *keep, int64_t most, double *W, bool *all) {
    size_t weights = (size_t)(q->O * q->I), room = TASKS * (size_t)(most * most);
    double *buffer = lc_buffer_new((weights + room) * sizeof(double));
    if (!buffer) return LC_ENOMEM;
    bool singular[TASKS] = {false};
    job j = {q, NULL, keep, most, buffer, buffer + weights, W, singular};
    lc_status status;
    LC_GOTO(done, lc_blas_open(&j.blas));
    LC_GOTO(done, lc_gemm(LC_F64, false, false, q->O, q->I, q->I, 1, q->T, q->I, q->H, q->I, 0, j.TH, q->I));
    LC_GOTO(done, lc_parallel(TASKS, solve_rows, &j));
    status = lc_poll(); /* some rows may not have had their turn */
    *all = true;
    for (int task = 0; task < TASKS; task++) *all = *all && !singular[task];
done:
    lc_buffer_free(buffer, (weights + room) * sizeof(double));
    return status;
}

lc_status lc_reconstruct(const lc_quadratic *q, const uint8_t *keep, int64_t iterations, double *W) {
    int64_t most = most_kept(q, keep);
    bool all = false;
    if (most <= DIRECT) LC_TRY(solve_directly(q, keep, most, W, &all));
    return all ? LC_OK : lc_quadratic_descend(q, keep, iterations, ENOUGH, W);
}
