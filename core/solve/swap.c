/* swap.c: see swap.h. */
#include "solve/swap.h"

#include <math.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/gemm.h"

/* A pair counts as better when it lowers the row's error by more than this share of what the row began with: rounding
 * must not make it go round in circles. */
static const double LEAST = 1e-11;

typedef struct job {
    const lc_quadratic *q;
    int64_t group, limit;
    const uint8_t *held;
    double *W;
    uint8_t *keep;
    double *C;      /* (O, I): (W - T) H */
    double *reach;  /* (I): the largest |H| of an input with another */
    double *gain;   /* (O, I): what bringing an input back changes by itself; infinite where it cannot come */
    int64_t *swaps; /* O */
} job;

/* One row's part of the job. */
typedef struct row {
    int64_t I;
    const double *H, *t, *reach;
    double *w, *c, *gain;
    double least_gain, largest_t; /* of those that may come back */
    const uint8_t *held;
    uint8_t *keep;
} row;

typedef struct pair {
    int64_t out, back; /* -1: none */
    double change;     /* of the row's error */
} pair;

static row row_of(const job *j, int64_t o) {
    int64_t at = o * j->q->I;
    row r = {.I = j->q->I, .H = j->q->H, .t = j->q->T + at, .reach = j->reach, .w = j->W + at};
    r.c = j->C + at;
    r.gain = j->gain + at;
    r.held = j->held ? j->held + at : NULL;
    r.keep = j->keep + at;
    return r;
}

static double error_of(const row *r) {
    double sum = 0;
    for (int64_t i = 0; i < r->I; i++) sum += (r->w[i] - r->t[i]) * r->c[i];
    return sum;
}

static void price(row *r) {
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

/* The best partner of u among inputs [begin, end). Most have none to look for: no pair can beat the bound. */
static void try_out(const row *r, int64_t u, int64_t begin, int64_t end, pair *best) {
    const double *h = r->H + u * r->I;
    double w = r->w[u], alone = w * (w * h[u] - 2 * r->c[u]), least = best->change - alone;
    if (!(r->least_gain - 2 * fabs(w) * r->largest_t * r->reach[u] < least)) return;
    int64_t found = -1;
    for (int64_t p = begin; p < end; p++) {
        double change = r->gain[p] - 2 * w * r->t[p] * h[p];
        if (change < least) {
            least = change;
            found = p;
        }
    }
    if (found >= 0) *best = (pair){u, found, alone + least};
}

static pair best_pair(const row *r, int64_t group, double threshold) {
    pair best = {-1, -1, -threshold};
    for (int64_t begin = 0; begin < r->I; begin += group)
        for (int64_t u = begin; u < begin + group; u++)
            if (r->keep[u]) try_out(r, u, begin, begin + group, &best);
    return best;
}

static void exchange(const row *r, const pair *s) {
    const double *out = r->H + s->out * r->I, *back = r->H + s->back * r->I;
    double less = r->w[s->out], more = r->t[s->back];
    for (int64_t i = 0; i < r->I; i++) r->c[i] += more * back[i] - less * out[i];
    r->w[s->out] = 0;
    r->w[s->back] = more;
    r->keep[s->out] = 0;
    r->keep[s->back] = 1;
}

static void swap_row(void *context, int64_t o) {
    const job *j = context;
    row r = row_of(j, o);
    double threshold = LEAST * fmax(error_of(&r), 0);
    for (j->swaps[o] = 0; j->swaps[o] < j->limit && !lc_poll(); j->swaps[o]++) {
        price(&r);
        pair best = best_pair(&r, j->group, threshold);
        if (best.out < 0) return;
        exchange(&r, &best);
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
    size_t n = (size_t)(q->O * q->I), bytes = (2 * n + (size_t)q->I) * sizeof(double);
    double *buffer = lc_buffer_new(bytes);
    if (!buffer) return LC_ENOMEM;
    int64_t *counts = lc_calloc((size_t)q->O, sizeof *counts);
    job j = {.q = q, .limit = limit, .held = held, .W = W, .keep = keep, .C = buffer, .swaps = counts};
    j.group = group ? group : q->I;
    j.gain = buffer + n;
    j.reach = buffer + 2 * n;
    lc_status status = LC_ENOMEM;
    if (!counts) goto done;
    LC_GOTO(done, lc_gemm(LC_F64, false, false, q->O, q->I, q->I, 1, W, q->I, q->H, q->I, 0, j.C, q->I));
    LC_GOTO(done, lc_gemm(LC_F64, false, false, q->O, q->I, q->I, -1, q->T, q->I, q->H, q->I, 1, j.C, q->I));
    LC_GOTO(done, lc_parallel_range(q->I, 32, find_reach, &j));
    LC_GOTO(done, lc_parallel(q->O, swap_row, &j));
    LC_GOTO(done, lc_poll()); /* a row may have ended early */
    if (swaps) *swaps = 0;
    for (int64_t o = 0; swaps && o < q->O; o++) *swaps += counts[o];
done:
    lc_buffer_free(buffer, bytes);
    lc_free(counts);
    return status;
}
