/* sparsegpt.c: algorithm 1 of Frantar & Alistarh 2023, in the paper's letters.
 *
 * Columns go left to right. Row j of U is the first row of the inverse of H restricted to columns j.., over the root of
 * its first entry; so pruning w_j costs (w_j / U_jj)^2 and moves the weights behind it by -(w_j / U_jj) U_j. Rows do not
 * touch each other: within a block of columns each is worked through on its own; what lies behind the block is moved
 * once for all its columns, by one product. */
#include "solve/sparsegpt.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/factor.h"
#include "ops/gemm.h"

/* -- the factor ---------------------------------------------------------------------------------------------------- */

/* H' = 2 / rows H + (damp mean(diagonal) + epsilon) I, where an input that is always 0 counts as 1. */
static void set_damped(const lc_layer_stats *stats, double damp, double epsilon, double *h) {
    int64_t I = stats->layer->inputs;
    double scale = 2 / (double)stats->rows, sum = 0;
    for (int64_t i = 0; i < I * I; i++) h[i] *= scale;
    for (int64_t i = 0; i < I; i++) {
        if (LC_DATA(double, stats->norm)[i] == 0) h[i * (I + 1)] = 1;
        sum += h[i * (I + 1)];
    }
    for (int64_t i = 0; i < I; i++) h[i * (I + 1)] += damp * sum / (double)I + epsilon;
}

/* The numbers in f32, from the front of the same memory: each lands before what is still to be read. */
static void narrow(double *wide, int64_t n) {
    char *to = (char *)wide;
    for (int64_t i = 0; i < n; i++) {
        float value = (float)wide[i];
        memcpy(to + (size_t)i * sizeof value, &value, sizeof value);
    }
}

/* U (I, I), upper triangular with H'^-1 = U^T U, in the place of `h`, which is lost on failure too. */
static lc_status find_factor(const lc_turn *turn, const lc_sparsegpt_options *how, double *h) {
    int64_t I = turn->stats->layer->inputs, row = -1;
    set_damped(turn->stats, how->damp, how->epsilon, h);
    LC_TRY(lc_inverse_factor(I, h, &row));
    if (row >= 0)
        return lc_fail(LC_ENUMERIC,
                       "%s: %s: Hessian is not positive definite with damp = %g; raise damp or use more calibration "
                       "text",
                       turn->name, turn->stats->layer->name, how->damp);
    if (turn->W->dtype == LC_F32) narrow(h, I * I);
    return LC_OK;
}

/* -- one layer ----------------------------------------------------------------------------------------------------- */

typedef struct job {
    const lc_sparsegpt_options *how;
    const lc_turn *turn;
    lc_dtype dtype; /* of W, U, E and the scores */
    int64_t O, I, width;
    void *W, *U;            /* (O, I), (I, I) */
    void *E;                /* (O, width): w / U_jj where pruned, else 0; a block of columns */
    void *scores;           /* (O, mask block) */
    uint8_t *keep;          /* (O, I) */
    uint8_t *chosen, *held; /* (O, mask block): what select.h writes and reads; held NULL where nothing is */
    int64_t i1, i2;         /* columns of the block at hand */
    int64_t begin, end;     /* of those, the ones whose mask is known */
} job;

static void *number_at(const job *j, const void *numbers, int64_t i) {
    return (char *)numbers + (size_t)i * lc_dtype_size(j->dtype);
}

/* Of W or U. */
static void *element(const job *j, const void *matrix, int64_t row, int64_t column) {
    return number_at(j, matrix, row * j->I + column);
}

static double number(const job *j, const void *p) {
    return j->dtype == LC_F32 ? (double)*(const float *)p : *(const double *)p;
}

static void set_number(const job *j, void *p, double value) {
    if (j->dtype == LC_F32)
        *(float *)p = (float)value;
    else
        *(double *)p = value;
}

/* w^2 / U_cc^2, what pruning costs. */
static double cost(const job *j, int64_t row, int64_t column) {
    double e = number(j, element(j, j->W, row, column)) / number(j, element(j, j->U, column, column));
    return e * e;
}

/* Keeps n of the m weights of this row from `column` on. */
static void choose_group(const job *j, int64_t row, int64_t column) {
    double costs[1024];
    const lc_target *t = &j->turn->target;
    const uint8_t *held = j->turn->held ? j->turn->held + row * j->I + column : NULL;
    for (int64_t c = 0; c < t->m; c++) costs[c] = cost(j, row, column + c);
    lc_ranked group = {LC_F64, costs, false, held, j->keep + row * j->I + column, t->m};
    lc_prune_groups(&group, t->n, t->m); /* can only be cancelled: solve_block looks */
}

/* Prunes columns [begin, end) of these rows, and moves what is behind them in the block. */
static void solve_rows(void *context, int64_t first, int64_t last) {
    const job *j = context;
    for (int64_t r = first; r < last; r++)
        for (int64_t c = j->begin; c < j->end; c++) {
            void *w = element(j, j->W, r, c), *e = number_at(j, j->E, r * j->width + c - j->i1);
            if (j->turn->target.m && c % j->turn->target.m == 0) choose_group(j, r, c);
            set_number(j, e, 0);
            if (j->keep[r * j->I + c]) continue;
            double error = number(j, w) / number(j, element(j, j->U, c, c));
            set_number(j, e, error);
            lc_axpy(j->dtype, j->i2 - c, -number(j, e), element(j, j->U, c, c), w);
            set_number(j, w, 0);
        }
}

static void score_rows(void *context, int64_t first, int64_t last) {
    const job *j = context;
    int64_t width = j->end - j->begin;
    for (int64_t r = first; r < last; r++)
        for (int64_t c = j->begin; c < j->end; c++) {
            int64_t place = r * width + c - j->begin;
            set_number(j, number_at(j, j->scores, place), cost(j, r, c));
            if (j->held) j->held[place] = j->turn->held[r * j->I + c];
        }
}

/* The mask of columns [begin, end), over all rows. */
static lc_status choose_mask(job *j) {
    int64_t width = j->end - j->begin, n = j->O * width;
    int64_t pruned = lc_prune_count(j->turn->target.sparsity, n);
    if (!j->how->exact) pruned = lc_min(n, pruned + 1);
    LC_TRY(lc_parallel_range(j->O, 32, score_rows, j));
    lc_ranked all = {j->dtype, j->scores, false, j->held, j->chosen, n};
    LC_TRY(lc_prune_lowest(&all, 1, pruned));
    for (int64_t r = 0; r < j->O; r++) memcpy(j->keep + r * j->I + j->begin, j->chosen + r * width, (size_t)width);
    return LC_OK;
}

static lc_status solve_block(job *j) {
    int64_t step = j->turn->target.m ? j->i2 - j->i1 : j->how->mask_block;
    for (j->begin = j->i1; j->begin < j->i2; j->begin = j->end) {
        j->end = lc_min(j->begin + step, j->i2);
        if (!j->turn->target.m) LC_TRY(choose_mask(j));
        LC_TRY(lc_parallel_range(j->O, 8, solve_rows, j));
        LC_TRY(lc_poll());
    }
    if (j->i2 == j->I) return LC_OK;
    return lc_gemm(j->dtype, false, false, j->O, j->I - j->i2, j->i2 - j->i1, -1, j->E, j->width,
                   element(j, j->U, j->i1, j->i2), j->I, 1, element(j, j->W, 0, j->i2), j->I);
}

/* An input that is always 0 needs no weight. */
static void zero_dead(const job *j) {
    for (int64_t c = 0; c < j->I; c++)
        for (int64_t r = 0; r < j->O && LC_DATA(double, j->turn->stats->norm)[c] == 0; r++)
            set_number(j, element(j, j->W, r, c), 0);
}

static lc_status solve_columns(job *j, int64_t block) {
    zero_dead(j);
    for (j->i1 = 0; j->i1 < j->I; j->i1 = j->i2) {
        j->i2 = lc_min(j->i1 + block, j->I);
        LC_TRY(solve_block(j));
    }
    return LC_OK;
}

/* -- all layers ---------------------------------------------------------------------------------------------------- */

/* The factor serves all layers that share their input. */
typedef struct run {
    lc_sparsegpt_options how;
    lc_tensor *of; /* the H whose factor it is; retained */
    lc_tensor *U;  /* lends its memory to the factor, in the model's type */
} run;

static void drop_factor(run *s) {
    lc_tensor_release(s->U);
    lc_tensor_release(s->of);
    s->U = s->of = NULL;
}

/* Without after-steps only the first of these layers reads H: the factor takes its place. */
static lc_status take_factor(run *s, const lc_turn *turn) {
    lc_tensor *H = turn->stats->H;
    if (s->of == H) return LC_OK;
    drop_factor(s);
    if (turn->options->refine)
        LC_TRY(lc_run(LC_OP_COPY, &(lc_attr){.dtype = LC_F64}, &H, 1, &s->U));
    else
        s->U = lc_tensor_retain(H);
    lc_status status = find_factor(turn, &s->how, LC_DATA(double, s->U));
    lc_touch(s->U);
    if (!status) s->of = lc_tensor_retain(H);
    return status;
}

static lc_status solve_layer(void *context, lc_turn *turn) {
    run *s = context;
    LC_TRY(lc_check_finite(turn->name, turn->stats->layer->name, turn->W));
    LC_TRY(take_factor(s, turn));
    int64_t m = turn->target.m, block = m ? (s->how.block + m - 1) / m * m : s->how.block;
    job j = {.how = &s->how, .turn = turn, .dtype = turn->W->dtype, .W = lc_data(turn->W), .U = lc_data(s->U)};
    j.O = turn->W->shape[0];
    j.I = turn->W->shape[1];
    j.width = lc_min(block, j.I);
    j.keep = LC_DATA(uint8_t, turn->keep);
    int64_t part = lc_min(s->how.mask_block, j.I), places = j.O * part;
    size_t size = lc_dtype_size(j.dtype), errors = (size_t)(j.O * j.width) * size, scores = (size_t)places * size;
    lc_status status = LC_ENOMEM;
    if (!(j.E = lc_buffer_new(errors))) goto done;
    if (!(j.scores = lc_buffer_new(scores))) goto done;
    if (!(j.chosen = lc_alloc((size_t)places))) goto done;
    if (turn->held && !(j.held = lc_alloc((size_t)places))) goto done;
    LC_GOTO(done, solve_columns(&j, block));
    status = lc_check_found(turn->name, turn->stats->layer->name, turn->W);
done:
    lc_buffer_free(j.E, errors);
    lc_buffer_free(j.scores, scores);
    lc_free(j.chosen);
    lc_free(j.held);
    if (turn->stats->last) drop_factor(s);
    return status;
}

static lc_status check_blocks(const char *name, const lc_sparsegpt_options *how) {
    if (how->block >= 1 && how->mask_block >= 1 && how->block % how->mask_block == 0) return LC_OK;
    return lc_fail(LC_EINVAL, "%s: mask_block = %lld does not divide block = %lld", name, (long long)how->mask_block,
                   (long long)how->block);
}

lc_status lc_prune_sparsegpt(lc_calibration *c, const lc_sparsegpt_options *how, const lc_prune_options *options,
                             lc_mask **out) {
    run s = {.how = *how};
    if (!s.how.mask_block) s.how.mask_block = s.how.block;
    LC_TRY(check_blocks(lc_calibration_name(c), &s.how));
    lc_status status = lc_prune_layerwise(c, solve_layer, &s, options, out);
    drop_factor(&s);
    return status;
}
