/* ref_eigen.c: inverses and eigenvectors, by the shortest methods that are right: the oracle of cpu/eigen.c. */
#include "ops/ref/ref.h"

#include "base/memory.h"
#include "base/pool.h"

#include <math.h>

/* Calls solve(a, x, values, n) for each matrix, as doubles: a (n, n) is its copy, x (n, n) what becomes output `main`,
 * values (n) the other output. Gives the row where it fails, or -1. */
typedef int64_t (*solver)(double *a, double *x, double *values, int64_t n);

static lc_status each_matrix(const lc_call *call, solver solve, int main, const char *problem) {
    lc_tensor *in = call->in[0], *out = call->out[main], *values = main ? call->out[0] : NULL;
    int64_t n = in->shape[in->ndim - 1], matrices = lc_shape_numel(in->ndim - 2, in->shape);
    double *a = lc_alloc((size_t)(2 * n * n + n) * sizeof *a);
    if (!a) return LC_ENOMEM;
    double *x = a + n * n, *v = x + n * n;
    lc_status status = LC_OK;
    for (int64_t m = 0; m < matrices; m++) {
        LC_GOTO(done, lc_poll());
        for (int64_t i = 0; i < n * n; i++) a[i] = ref_flat(in, m * n * n + i);
        int64_t row = solve(a, x, v, n);
        if (row >= 0) {
            status = lc_fail(LC_ENUMERIC, "%s: the %lld x %lld matrix %s (row %lld)", lc_op_name(call->op),
                             (long long)n, (long long)n, problem, (long long)row + 1);
            goto done;
        }
        for (int64_t i = 0; out && i < n * n; i++) lc_set_f64(out, lc_position(out, m * n * n + i), x[i]);
        for (int64_t i = 0; values && i < n; i++) lc_set_f64(values, lc_position(values, m * n + i), v[i]);
    }
done:
    lc_free(a);
    return status;
}

static void swap_rows(double *a, int64_t n, int64_t i, int64_t k) {
    for (int64_t c = 0; c < n; c++) {
        double t = a[i * n + c];
        a[i * n + c] = a[k * n + c];
        a[k * n + c] = t;
    }
}

/* row i += factor row k */
static void add_row(double *a, int64_t n, int64_t i, double factor, int64_t k) {
    for (int64_t c = 0; c < n; c++) a[i * n + c] += factor * a[k * n + c];
}

/* Gauss and Jordan, with row pivots. */
static int64_t invert(double *a, double *x, double *values, int64_t n) {
    (void)values;
    for (int64_t i = 0; i < n * n; i++) x[i] = i % (n + 1) == 0;
    for (int64_t p = 0; p < n; p++) {
        int64_t best = p;
        for (int64_t i = p; i < n; i++)
            if (fabs(a[i * n + p]) > fabs(a[best * n + p])) best = i;
        double pivot = a[best * n + p];
        if (pivot == 0 || !isfinite(pivot)) return p;
        swap_rows(a, n, p, best);
        swap_rows(x, n, p, best);
        add_row(x, n, p, 1 / pivot - 1, p);
        add_row(a, n, p, 1 / pivot - 1, p);
        for (int64_t i = 0; i < n; i++) {
            double factor = -a[i * n + p];
            if (i == p) continue;
            add_row(x, n, i, factor, p);
            add_row(a, n, i, factor, p);
        }
    }
    return -1;
}

lc_status lc_ref_inverse(const lc_call *call) {
    return each_matrix(call, invert, 0, "is singular");
}

/* -- eigenvectors ------------------------------------------------------------------------------ */

/* Turns columns p and q of x, and rows and columns p and q of a, so that a[p, q] becomes 0. */
static void rotate(double *a, double *x, int64_t n, int64_t p, int64_t q) {
    double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
    double t = copysign(1, theta) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), s = t * c;
    for (int64_t i = 0; i < n; i++) {
        double ip = a[i * n + p], iq = a[i * n + q], xp = x[i * n + p], xq = x[i * n + q];
        a[i * n + p] = c * ip - s * iq;
        a[i * n + q] = s * ip + c * iq;
        x[i * n + p] = c * xp - s * xq;
        x[i * n + q] = s * xp + c * xq;
    }
    for (int64_t i = 0; i < n; i++) {
        double pi = a[p * n + i], qi = a[q * n + i];
        a[p * n + i] = c * pi - s * qi;
        a[q * n + i] = s * pi + c * qi;
    }
}

/* Puts the smallest eigenvalue from place i on into place i, its vector with it, and turns the vector so that its
 * largest entry is positive. */
static void settle(double *a, double *x, double *values, int64_t n, int64_t i) {
    int64_t least = i, largest = 0;
    for (int64_t k = i; k < n; k++)
        if (a[k * (n + 1)] < a[least * (n + 1)]) least = k;
    values[i] = a[least * (n + 1)];
    a[least * (n + 1)] = a[i * (n + 1)];
    for (int64_t r = 0; r < n; r++) {
        double t = x[r * n + least];
        x[r * n + least] = x[r * n + i];
        x[r * n + i] = t;
        if (fabs(t) > fabs(x[largest * n + i])) largest = r;
    }
    double sign = x[largest * n + i] < 0 ? -1 : 1;
    for (int64_t r = 0; r < n; r++) x[r * n + i] *= sign;
}

/* Jacobi's rotations, sweep by sweep. */
static int64_t diagonalise(double *a, double *x, double *values, int64_t n) {
    for (int64_t i = 0; i < n * n; i++) {
        if (i % n > i / n) a[i] = a[i % n * n + i / n]; /* the lower triangle is what is read */
        if (!isfinite(a[i])) return i / n;
        x[i] = i % (n + 1) == 0;
    }
    double off = 1, scale = 0;
    for (int64_t i = 0; i < n * n; i++) scale += a[i] * a[i];
    for (int sweep = 0; sweep < 60 && off > 1e-30 * scale; sweep++) {
        off = 0;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) {
                off += a[p * n + q] * a[p * n + q];
                if (a[p * n + q] != 0) rotate(a, x, n, p, q);
            }
    }
    for (int64_t i = 0; i < n; i++) settle(a, x, values, n, i);
    return -1;
}

lc_status lc_ref_eigh(const lc_call *call) {
    return each_matrix(call, diagonalise, 1, "is not finite");
}
