/* alps.c: see alps.h. ADMM runs in f32, as published; eigenvectors and the final least squares are f64. */
#include "solve/alps.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/gemm.h"
#include "ops/op.h"
#include "solve/quadratic.h"

enum {
    ROWS = 8,         /* that one task takes */
    LOOK_EVERY = 3,   /* iterations between looks at the support */
    SETTLED_FROM = 30 /* iteration, from 0, at which a nearly still support is enough */
};
static const double SETTLED = 0.0003; /* share of the support that still changes */
static const double LARGEST_RHO = 1e6;
static const double REFINED = 1e-7; /* residual at which a row of conjugate gradients ends */

typedef struct admm {
    lc_turn *turn;
    const lc_alps_options *options;
    int64_t O, I, kept;
    double rho;
    bool grown;         /* rho has been raised */
    lc_tensor *norm;    /* (I) f64: what inputs are scaled by */
    lc_tensor *T;       /* (O, I) f64: the weights to come near, scaled; at the end, those found */
    lc_tensor *values;  /* (I) f64: H's eigenvalues */
    lc_tensor *vectors; /* (I, I) f32: its eigenvectors, one a row */
    lc_tensor *square;  /* (I, I) f64: H, scaled and damped; during ADMM room for sums */
    lc_tensor *inverse; /* (I, I) f32: (H + rho)^-1 */
    lc_tensor *TH;      /* (O, I) f32 */
    lc_tensor *state;   /* (O, I) f32: D where keep, V elsewhere; each is 0 where the other is not */
    lc_tensor *B;       /* (O, I) f32 */
    lc_tensor *right;   /* (O, I) f32: right-hand sides */
    lc_tensor *first;   /* bool (O, I): the support that it began with */
    lc_tensor *seen;    /* bool (O, I): the support at the last look */
} admm;

/* -- the problem --------------------------------------------------------------------------------------------------- */

static double damping(const admm *a) {
    const double *H = LC_DATA(double, a->turn->stats->H);
    double sum = 0;
    for (int64_t i = 0; i < a->I; i++) sum += H[i * (a->I + 1)];
    return a->options->damp * sum / (double)a->I + a->options->epsilon;
}

static void read_norms(const admm *a) {
    const double *H = LC_DATA(double, a->turn->stats->H), more = damping(a);
    double *norm = LC_DATA(double, a->norm);
    for (int64_t i = 0; i < a->I; i++) {
        norm[i] = sqrt(H[i * (a->I + 1)] + more);
        if (!(norm[i] > 0)) norm[i] = 1;
    }
}

typedef struct scale_job {
    const admm *a;
    double more;
} scale_job;

static void scale_rows(void *context, int64_t begin, int64_t end) {
    const scale_job *j = context;
    const admm *a = j->a;
    const double *H = LC_DATA(double, a->turn->stats->H), *norm = LC_DATA(double, a->norm);
    double *to = LC_DATA(double, a->square);
    for (int64_t r = begin; r < end; r++)
        for (int64_t c = 0; c < a->I; c++)
            to[r * a->I + c] = (H[r * a->I + c] + (r == c ? j->more : 0)) / (norm[r] * norm[c]);
}

/* square = H, damped and scaled. */
static lc_status scale_H(const admm *a) {
    scale_job j = {a, damping(a)};
    return lc_parallel_range(a->I, ROWS, scale_rows, &j);
}

/* T, the weights times the norms. LC_EINVAL for NaN and inf. */
static lc_status scale_weights(const admm *a) {
    const lc_turn *t = a->turn;
    const double *norm = LC_DATA(double, a->norm);
    LC_TRY(lc_check_finite(t->name, t->stats->layer->name, t->W));
    for (int64_t k = 0; k < a->O * a->I; k++) LC_DATA(double, a->T)[k] = lc_get_f64(t->W, k) * norm[k % a->I];
    return LC_OK;
}

static lc_status to_f32(lc_tensor *x, lc_tensor **out) {
    return lc_cast(x, LC_F32, out);
}

static lc_status find_TH(admm *a) {
    lc_tensor *wide = NULL;
    LC_TRY(lc_tensor_new(LC_F64, 2, a->T->shape, LC_CPU, &wide));
    lc_status status = lc_gemm(LC_F64, false, false, a->O, a->I, a->I, 1, lc_data(a->T), a->I, lc_data(a->square), a->I,
                               0, lc_data(wide), a->I);
    if (!status) status = to_f32(wide, &a->TH);
    lc_tensor_release(wide);
    return status;
}

static lc_status decompose(admm *a) {
    lc_tensor *out[2] = {NULL}, *rows = NULL, *contiguous = NULL;
    lc_status status;
    LC_GOTO(done, lc_run(LC_OP_EIGH, NULL, &a->square, 1, out));
    LC_GOTO(done, lc_view_permute(out[1], (int[]){1, 0}, &rows));
    LC_GOTO(done, lc_contiguous(rows, &contiguous));
    LC_GOTO(done, to_f32(contiguous, &a->vectors));
    a->values = lc_tensor_retain(out[0]);
done:
    lc_tensor_release(out[0]);
    lc_tensor_release(out[1]);
    lc_tensor_release(rows);
    lc_tensor_release(contiguous);
    return status ? lc_fail_within(status, "%s: %s", a->turn->name, a->turn->stats->layer->name) : LC_OK;
}

/* -- one iteration ------------------------------------------------------------------------------------------------- */

/* Rows of eigenvectors, each times the root of 1 / (its value + rho). Rounding may have made a value negative. */
static void weigh_vectors(void *context, int64_t begin, int64_t end) {
    const admm *a = context;
    for (int64_t k = begin; k < end; k++) {
        double value = LC_DATA(double, a->values)[k], root = sqrt(1 / (fmax(value, 0) + a->rho));
        for (int64_t i = k * a->I; i < (k + 1) * a->I; i++)
            LC_DATA(float, a->inverse)[i] = (float)(root * (double)LC_DATA(float, a->vectors)[i]);
    }
}

static void narrow(void *context, int64_t begin, int64_t end) {
    const admm *a = context;
    for (int64_t i = begin * a->I; i < end * a->I; i++)
        LC_DATA(float, a->inverse)[i] = (float)LC_DATA(double, a->square)[i];
}

/* inverse = sum over eigenvectors of q q^T / (value + rho). */
static lc_status find_inverse(admm *a) {
    double *sum = LC_DATA(double, a->square);
    LC_TRY(lc_parallel_range(a->I, ROWS, weigh_vectors, a));
    memset(sum, 0, (size_t)(a->I * a->I) * sizeof *sum);
    LC_TRY(lc_gram_add(LC_F32, a->I, a->I, lc_data(a->inverse), a->I, sum));
    LC_TRY(lc_gram_mirror(a->I, sum));
    return lc_parallel_range(a->I, ROWS, narrow, a);
}

/* right = T H - V + rho D. */
static void set_right(void *context, int64_t begin, int64_t end) {
    const admm *a = context;
    const uint8_t *keep = LC_DATA(uint8_t, a->turn->keep);
    const float *state = LC_DATA(float, a->state), rho = (float)a->rho;
    for (int64_t k = begin * a->I; k < end * a->I; k++)
        LC_DATA(float, a->right)[k] = LC_DATA(float, a->TH)[k] + (keep[k] ? rho : -1) * state[k];
}

/* state = B + V / rho. */
static void add_multipliers(void *context, int64_t begin, int64_t end) {
    const admm *a = context;
    const uint8_t *keep = LC_DATA(uint8_t, a->turn->keep);
    float *state = LC_DATA(float, a->state), rho = (float)a->rho;
    for (int64_t k = begin * a->I; k < end * a->I; k++)
        state[k] = LC_DATA(float, a->B)[k] + (keep[k] ? 0 : state[k] / rho);
}

/* What is kept of it is the new D; rho times the rest is the new V. */
static void split_state(void *context, int64_t begin, int64_t end) {
    const admm *a = context;
    const uint8_t *keep = LC_DATA(uint8_t, a->turn->keep);
    float *state = LC_DATA(float, a->state), rho = (float)a->rho;
    for (int64_t k = begin * a->I; k < end * a->I; k++)
        if (!keep[k]) state[k] *= rho;
}

/* keep = the largest of x. */
static lc_status project(const admm *a, const lc_tensor *x) {
    const lc_turn *t = a->turn;
    lc_ranked r = {.dtype = LC_F32, .scores = lc_data(x), .absolute = true, .held = t->held, .n = a->O * a->I};
    r.keep = LC_DATA(uint8_t, t->keep);
    return lc_prune_layer(&r, a->I, &t->target, t->options->scope);
}

static lc_status iterate(admm *a) {
    LC_TRY(lc_parallel_range(a->O, ROWS, set_right, a));
    LC_TRY(lc_gemm(LC_F32, false, false, a->O, a->I, a->I, 1, lc_data(a->right), a->I, lc_data(a->inverse), a->I, 0,
                   lc_data(a->B), a->I));
    LC_TRY(lc_parallel_range(a->O, ROWS, add_multipliers, a));
    LC_TRY(project(a, a->state));
    return lc_parallel_range(a->O, ROWS, split_state, a);
}

/* -- rho ----------------------------------------------------------------------------------------------------------- */

/* D = T on the first support, V = 0. */
static void start(admm *a) {
    memcpy(lc_data(a->turn->keep), lc_data(a->first), (size_t)(a->O * a->I));
    for (int64_t k = 0; k < a->O * a->I; k++)
        LC_DATA(float, a->state)[k] = LC_DATA(uint8_t, a->first)[k] ? (float)LC_DATA(double, a->T)[k] : 0;
}

static int64_t count_changes(const admm *a) {
    int64_t changes = 0;
    for (int64_t k = 0; k < a->O * a->I; k++)
        changes += LC_DATA(uint8_t, a->turn->keep)[k] != LC_DATA(uint8_t, a->seen)[k];
    return changes;
}

/* Changes rho by what the support changed since the last look; true: it has come to rest. */
static bool look(admm *a, int64_t iteration) {
    int64_t changes = count_changes(a);
    double share = (double)changes / (double)a->kept;
    memcpy(lc_data(a->seen), lc_data(a->turn->keep), (size_t)(a->O * a->I));
    if (share > 0.005) {
        a->grown = true;
        a->rho *= share > 0.1 ? 1.3 : 1.2;
    } else if (a->grown) {
        if (changes == 0) return true;
        a->rho *= 1.1;
    } else {
        a->rho /= 5;
        if (changes) start(a);
    }
    a->rho = fmin(a->rho, LARGEST_RHO);
    return iteration >= SETTLED_FROM && share < SETTLED;
}

static lc_status run(admm *a) {
    start(a);
    memcpy(lc_data(a->seen), lc_data(a->first), (size_t)(a->O * a->I));
    a->rho = a->options->rho;
    LC_TRY(find_inverse(a));
    for (int64_t i = 0; i < a->options->iterations; i++) {
        LC_TRY(iterate(a));
        if ((i + 1) % LOOK_EVERY != 0) continue;
        if (look(a, i)) break;
        LC_TRY(find_inverse(a));
    }
    return LC_OK;
}

/* -- a layer ------------------------------------------------------------------------------------------------------- */

static lc_status open_admm(admm *a) {
    const lc_turn *t = a->turn;
    int64_t I = a->I, all[] = {a->O, I}, square[] = {I, I};
    LC_TRY(lc_tensor_new(LC_F64, 1, &I, LC_CPU, &a->norm));
    LC_TRY(lc_tensor_new(LC_F64, 2, all, LC_CPU, &a->T));
    LC_TRY(lc_tensor_new(LC_F64, 2, square, LC_CPU, &a->square));
    read_norms(a);
    LC_TRY(scale_weights(a));
    LC_TRY(scale_H(a));
    LC_TRY(find_TH(a));
    LC_TRY(decompose(a));
    LC_TRY(lc_tensor_new(LC_F32, 2, square, LC_CPU, &a->inverse));
    LC_TRY(lc_tensor_new(LC_F32, 2, all, LC_CPU, &a->state));
    LC_TRY(lc_tensor_new(LC_F32, 2, all, LC_CPU, &a->right));
    LC_TRY(lc_tensor_new(LC_BOOL, 2, all, LC_CPU, &a->seen));
    LC_TRY(to_f32(a->T, &a->B));
    LC_TRY(project(a, a->B));
    return lc_run(LC_OP_COPY, &(lc_attr){.dtype = LC_BOOL}, (lc_tensor *[]){t->keep}, 1, &a->first);
}

static void close_admm(admm *a) {
    lc_tensor *all[] = {a->norm, a->T,     a->values, a->vectors, a->square, a->inverse,
                        a->TH,   a->state, a->B,      a->right,   a->first,  a->seen};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) lc_tensor_release(all[i]);
}

/* The turn's weights: B on its support, then least squares there. */
static lc_status refine(admm *a) {
    const uint8_t *keep = LC_DATA(uint8_t, a->turn->keep);
    const double *norm = LC_DATA(double, a->norm);
    lc_tensor *W = NULL;
    LC_TRY(project(a, a->B));
    LC_TRY(scale_H(a));
    LC_TRY(lc_tensor_new(LC_F64, 2, a->T->shape, LC_CPU, &W));
    double *w = LC_DATA(double, W);
    for (int64_t k = 0; k < a->O * a->I; k++) w[k] = keep[k] ? (double)LC_DATA(float, a->B)[k] : 0;
    lc_quadratic q = {a->O, a->I, LC_DATA(double, a->square), LC_DATA(double, a->T)};
    lc_status status = lc_quadratic_descend(&q, keep, a->options->refine, REFINED, w);
    for (int64_t k = 0; k < a->O * a->I && !status; k++) lc_set_f64(a->turn->W, k, w[k] / norm[k % a->I]);
    lc_tensor_release(W);
    return status ? status : lc_check_found(a->turn->name, a->turn->stats->layer->name, a->turn->W);
}

static int64_t count_kept(const admm *a) {
    int64_t kept = 0;
    for (int64_t k = 0; k < a->O * a->I; k++) kept += LC_DATA(uint8_t, a->first)[k];
    return kept;
}

lc_status lc_alps_solve(void *context, lc_turn *turn) {
    admm a = {.turn = turn, .options = context, .O = turn->W->shape[0], .I = turn->W->shape[1]};
    lc_status status;
    LC_GOTO(done, open_admm(&a));
    a.kept = count_kept(&a);
    if (a.kept == 0) goto done; /* nothing stays: keep says so */
    LC_GOTO(done, run(&a));
    status = refine(&a);
done:
    close_admm(&a);
    return status;
}

lc_status lc_prune_alps(lc_calibration *c, const lc_prune_options *options, const lc_alps_options *alps,
                        lc_mask **out) {
    if (options->scope == LC_SCOPE_MODEL && !options->pattern)
        return lc_fail(LC_EINVAL,
                       "%s: scope 'model' compares scores of layers, and this solves each by itself; take "
                       "'layer' or 'row'",
                       lc_calibration_name(c));
    return lc_prune_layerwise(c, lc_alps_solve, (void *)alps, options, out);
}
