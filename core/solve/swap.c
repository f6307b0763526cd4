/* swap.c: see swap.h. */
#include "solve/swap.h"

#include <math.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/cpu/simd.h"
#include "ops/gemm.h"

/* A pair counts as better when it lowers the row's error by more than this share of what the row began with: rounding
 * must not make it go round in circles. */
static const double LEAST = 1e-11;

enum { TOGETHER = 16 }; /* rows that look at one row of H while it is in the cache */

typedef struct job {
    const lc_quadratic *q;
    const lc_simd *simd;
    int64_t group, limit;
    const uint8_t *held;
    double *W;
    uint8_t *keep;
    double *C;      /* (O, I): (W - T) H */
    double *reach;  /* (I): the largest |H| of an input with another */
    double *gain;   /* (O, I): what bringing an input back changes by itself; infinite where it cannot come */
    double *change; /* (tasks, I): room for what pairs with one input change */
    int64_t *swaps; /* O */
} job;

typedef struct pair {
    int64_t out, back; /* -1: none */
    double change;     /* of the row's error */
} pair;

/* One row's part of the job. */
typedef struct row {
    int64_t I;
    const double *H, *t, *reach;
    double *w, *c, *gain;
    double least_gain, largest_t; /* of those that may come back */
    double threshold;             /* what a pair must better */
    const uint8_t *held;
    uint8_t *keep;
    pair best;
    bool done;
} row;

static double error_of(const row *r) {
    double sum = 0;
    for (int64_t i = 0; i < r->I; i++) sum += (r->w[i] - r->t[i]) * r->c[i];
    return sum;
}

static row row_of(const job *j, int64_t o) {
    int64_t at = o * j->q->I;
    row r = {.I = j->q->I, .H = j->q->H, .t = j->q->T + at, .reach = j->reach, .w = j->W + at};
    r.c = j->C + at;
    r.gain = j->gain + at;
    r.held = j->held ? j->held + at : NULL;
    r.keep = j->keep + at;
    r.threshold = LEAST * fmax(error_of(&r), 0);
    return r;
}

static void price(row *r) {
    r->best = (pair){-1, -1, -r->threshold};
    r->least_gain = INFINITY;
    r->largest_t = 0;
    for (int64_t p = 0; p < r->I; p++) {
        bool may = !r->keep[p] && (!r->held || r->held[p]);
        r->gain[p] = may ? r->t[p] * (2 * r->c[p] + r->t[p] * r->H[p * (r->I + 1)]) : INFINITY;
        if (!may) continue;
        r->least_gain = fmin(r->least_gain, r->gain[p]);
        r->largest_t = fmax(r->largest_t, fabs(r->t[p]));
    }
}

/* The best partner of u among inputs [begin, end), if it betters the row's best pair. */
static void try_out(const job *j, row *r, int64_t u, int64_t begin, int64_t end, double *change) {
    const double *h = r->H + u * r->I;
    double w = r->w[u], alone = w * (w * h[u] - 2 * r->c[u]), wanted = r->best.change - alone;
    if (!(r->least_gain - 2 * fabs(w) * r->largest_t * r->reach[u] < wanted)) return; /* no pair can */
    double least = j->simd->least_after(change, r->gain + begin, r->t + begin, h + begin, 2 * w, end - begin);
    if (!(least < wanted)) return;
    int64_t p = 0;
    while (change[p] != least) p++;
    r->best = (pair){u, begin + p, alone + least};
}

/* Finds the best pair of each row. */
static void find_pairs(const job *j, row *rows, int64_t n, double *change) {
    for (int64_t k = 0; k < n; k++)
        if (!rows[k].done) price(&rows[k]);
    for (int64_t begin = 0; begin < j->q->I; begin += j->group)
        for (int64_t u = begin; u < begin + j->group; u++)
            for (int64_t k = 0; k < n; k++)
                if (!rows[k].done && rows[k].keep[u]) try_out(j, &rows[k], u, begin, begin + j->group, change);
}

static void exchange(const row *r) {
    const pair *s = &r->best;
    const double *out = r->H + s->out * r->I, *back = r->H + s->back * r->I;
    double less = r->w[s->out], more = r->t[s->back];
    for (int64_t i = 0; i < r->I; i++) r->c[i] += more * back[i] - less * out[i];
    r->w[s->out] = 0;
    r->w[s->back] = more;
    r->keep[s->out] = 0;
    r->keep[s->back] = 1;
}

static void swap_rows(void *context, int64_t task) {
    const job *j = context;
    int64_t first = task * TOGETHER, n = lc_min(TOGETHER, j->q->O - first), going = n;
    row rows[TOGETHER];
    for (int64_t k = 0; k < n; k++) rows[k] = row_of(j, first + k);
    for (int64_t round = 0; round < j->limit && going > 0 && !lc_poll(); round++) {
        find_pairs(j, rows, n, j->change + task * j->q->I);
        for (int64_t k = 0; k < n; k++) {
            if (rows[k].done) continue;
            rows[k].done = rows[k].best.out < 0;
            going -= rows[k].done;
            if (rows[k].done) continue;
            exchange(&rows[k]);
            j->swaps[first + k]++;
        }
    }
}

static void find_reach(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int64_t I = j->q->I;
    for (int64_t u = begin; u < end; u++) {
        j->reach[u] = 0;
        for (int64_t p = 0; p < I; p++)
            if (p != u) j->reach[u] = fmax(j->reach[u], fabs(j->q->H[u * I + p]));
    }
}

lc_status lc_swap(const lc_quadratic *q, int64_t group, const uint8_t *held, int64_t limit, double *W, uint8_t *keep,
                  int64_t *swaps) {
    int64_t tasks = (q->O + TOGETHER - 1) / TOGETHER;
    size_t n = (size_t)(q->O * q->I), bytes = (2 * n + (size_t)((1 + tasks) * q->I)) * sizeof(double);
    double *buffer = lc_buffer_new(bytes);
    if (!buffer) return LC_ENOMEM;
    int64_t *counts = lc_calloc((size_t)q->O, sizeof *counts);
    job j = {.q = q, .simd = lc_simd_get(), .limit = limit, .held = held, .W = W, .keep = keep, .swaps = counts};
    j.group = group ? group : q->I;
    j.C = buffer;
    j.gain = buffer + n;
    j.reach = buffer + 2 * n;
    j.change = j.reach + q->I;
    lc_status status = LC_ENOMEM;
    if (!counts) goto done;
    LC_GOTO(done, lc_gemm(LC_F64, false, false, q->O, q->I, q->I, 1, W, q->I, q->H, q->I, 0, j.C, q->I));
    LC_GOTO(done, lc_gemm(LC_F64, false, false, q->O, q->I, q->I, -1, q->T, q->I, q->H, q->I, 1, j.C, q->I));
    LC_GOTO(done, lc_parallel_range(q->I, 32, find_reach, &j));
    LC_GOTO(done, lc_parallel(tasks, swap_rows, &j));
    LC_GOTO(done, lc_poll()); /* a row may have ended early */
    if (swaps) *swaps = 0;
    for (int64_t o = 0; swaps && o < q->O; o++) *swaps += counts[o];
done:
    lc_buffer_free(buffer, bytes);
    lc_free(counts);
    return status;
}
