/* quadratic.c: see quadratic.h. */
#include "solve/quadratic.h"

#include "base/memory.h"
#include "base/pool.h"
#include "ops/gemm.h"

enum { ROWS = 8 }; /* that one task takes */

/* -- errors -------------------------------------------------------------------------------------------------------- */

typedef struct error_job {
    const lc_quadratic *q;
    const double *W, *DH; /* DH (O, I) = (W - T) H */
    double *errors;
} error_job;

static void sum_errors(void *context, int64_t begin, int64_t end) {
    const error_job *j = context;
    int64_t I = j->q->I;
    for (int64_t o = begin; o < end; o++) {
        double sum = 0;
        for (int64_t i = o * I; i < (o + 1) * I; i++) sum += (j->W[i] - j->q->T[i]) * j->DH[i];
        j->errors[o] = sum;
    }
}

lc_status lc_quadratic_errors(const lc_quadratic *q, const double *W, double *errors) {
    size_t bytes = (size_t)(q->O * q->I) * sizeof(double);
    double *DH = lc_buffer_new(bytes);
    if (!DH) return LC_ENOMEM;
    error_job j = {q, W, DH, errors};
    lc_status status;
    LC_GOTO(done, lc_gemm(LC_F64, false, false, q->O, q->I, q->I, 1, W, q->I, q->H, q->I, 0, DH, q->I));
    LC_GOTO(done, lc_gemm(LC_F64, false, false, q->O, q->I, q->I, -1, q->T, q->I, q->H, q->I, 1, DH, q->I));
    status = lc_parallel_range(q->O, ROWS, sum_errors, &j);
done:
    lc_buffer_free(DH, bytes);
    return status;
}

/* -- conjugate gradients ------------------------------------------------------------------------------------------- */

typedef struct row {
    double rz;     /* r M^-1 r of the residual */
    double enough; /* at which the row is done */
} row;

typedef struct descent {
    const lc_quadratic *q;
    const uint8_t *keep;
    double tolerance;
    double *W, *R, *P, *PH; /* (O, I): weights, residuals on the support, directions, directions times H */
    row *rows;              /* O */
} descent;

/* z = M^-1 r; an input that is never seen has no part in anything. */
static double preconditioned(const descent *d, int64_t i, double r) {
    double h = d->q->H[i * (d->q->I + 1)];
    return h > 0 ? r / h : 0;
}

/* Takes R = T H to the support, and measures it: the residual of a row of zeros. */
static void measure_rows(void *context, int64_t begin, int64_t end) {
    const descent *d = context;
    int64_t I = d->q->I;
    for (int64_t o = begin; o < end; o++) {
        double rz = 0;
        for (int64_t i = 0; i < I; i++)
            if (d->keep[o * I + i]) rz += d->R[o * I + i] * preconditioned(d, i, d->R[o * I + i]);
        d->rows[o].enough = d->tolerance * d->tolerance * rz;
    }
}

/* From R = (T - W) H: the residual, and the first direction. */
static void start_rows(void *context, int64_t begin, int64_t end) {
    const descent *d = context;
    int64_t I = d->q->I;
    for (int64_t o = begin; o < end; o++) {
        double rz = 0;
        for (int64_t i = 0; i < I; i++) {
            double *r = &d->R[o * I + i];
            if (!d->keep[o * I + i]) *r = 0;
            d->P[o * I + i] = preconditioned(d, i, *r);
            rz += *r * d->P[o * I + i];
        }
        d->rows[o].rz = rz;
    }
}

/* One step of each row, from P H. The direction of a row that is done becomes 0. */
static void step_rows(void *context, int64_t begin, int64_t end) {
    const descent *d = context;
    int64_t I = d->q->I;
    for (int64_t o = begin; o < end; o++) {
        double *w = &d->W[o * I], *r = &d->R[o * I], *p = &d->P[o * I], *ph = &d->PH[o * I], curve = 0, rz = 0;
        const uint8_t *keep = &d->keep[o * I];
        row *at = &d->rows[o];
        for (int64_t i = 0; i < I; i++) curve += p[i] * ph[i];
        bool done = !(at->rz > at->enough && curve > 0);
        double alpha = done ? 0 : at->rz / curve;
        for (int64_t i = 0; i < I; i++) {
            w[i] += alpha * p[i];
            r[i] -= keep[i] ? alpha * ph[i] : 0;
            rz += r[i] * preconditioned(d, i, r[i]);
        }
        double beta = done ? 0 : rz / at->rz;
        for (int64_t i = 0; i < I; i++) p[i] = done ? 0 : preconditioned(d, i, r[i]) + beta * p[i];
        at->rz = done ? 0 : rz;
    }
}

static bool all_done(const descent *d) {
    for (int64_t o = 0; o < d->q->O; o++)
        if (d->rows[o].rz > d->rows[o].enough) return false;
    return true;
}

static lc_status times_H(const lc_quadratic *q, double alpha, const double *X, double beta, double *Y) {
    return lc_gemm(LC_F64, false, false, q->O, q->I, q->I, alpha, X, q->I, q->H, q->I, beta, Y, q->I);
}

static lc_status descend(const descent *d, int64_t iterations) {
    const lc_quadratic *q = d->q;
    LC_TRY(times_H(q, 1, q->T, 0, d->R));
    LC_TRY(lc_parallel_range(q->O, ROWS, measure_rows, (void *)d));
    LC_TRY(times_H(q, -1, d->W, 1, d->R));
    LC_TRY(lc_parallel_range(q->O, ROWS, start_rows, (void *)d));
    for (int64_t k = 0; k < iterations && !all_done(d); k++) {
        LC_TRY(times_H(q, 1, d->P, 0, d->PH));
        LC_TRY(lc_parallel_range(q->O, ROWS, step_rows, (void *)d));
    }
    return LC_OK;
}

lc_status lc_quadratic_descend(const lc_quadratic *q, const uint8_t *keep, int64_t iterations, double tolerance,
                               double *W) {
    size_t n = (size_t)(q->O * q->I), bytes = 3 * n * sizeof(double);
    double *three = lc_buffer_new(bytes);
    if (!three) return LC_ENOMEM;
    row *rows = lc_calloc((size_t)q->O, sizeof *rows);
    descent d = {q, keep, tolerance, W, three, three + n, three + 2 * n, rows};
    lc_status status = rows ? descend(&d, iterations) : LC_ENOMEM;
    lc_buffer_free(three, bytes);
    lc_free(rows);
    return status;
}
