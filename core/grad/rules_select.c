/* rules_select.c: rules of ops that choose, move or view elements: the gradient goes back to where each value came
 * from. */
#include "grad/rules_parts.h"
#include "grad/scratch.h"
#include <math.h>

/* Zeros of input 0's shape. */
static lc_tensor *zeros_like_input(lc_scratch *s, const lc_rule_call *call) {
    return lc_step_filled(s, call->dy[0], call->dy[0]->dtype, call->ndim_in[0], call->shape_in[0], 0);
}

/* x with source written (or added) at `indices` along dim. */
static lc_tensor *scattered(lc_scratch *s, lc_tensor *x, lc_tensor *indices, lc_tensor *source, int dim, bool add) {
    lc_attr attr = {.dim = dim, .add = add};
    lc_tensor *in[3] = {x, indices, source};
    return lc_step(s, LC_OP_SCATTER, &attr, in, 3, NULL);
}

static lc_tensor *gathered(lc_scratch *s, lc_tensor *x, lc_tensor *indices, int dim) {
    lc_attr attr = {.dim = dim};
    lc_tensor *in[2] = {x, indices};
    return lc_step(s, LC_OP_GATHER, &attr, in, 2, NULL);
}

/* -- order ------------------------------------------------------------------------------------- */

/* sort, topk: to the elements whose numbers output 1 holds. */
lc_status lc_rule_order(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *zeros = zeros_like_input(&s, call);
    lc_scratch_give(&s, call, 0, scattered(&s, zeros, call->out[1], call->dy[0], call->attr->dim, false));
    return lc_scratch_finish(&s, call);
}

/* A reduction of n elements seen along one dimension: its tensors as they are or, over everything, flat. */
typedef struct along {
    int dim;
    int64_t n;
    lc_tensor *x, *dy, *zeros; /* x NULL where it was not saved */
} along;

/* A reduction's output, or dy, in the shape that goes with `along`. */
static lc_tensor *along_shape(lc_scratch *s, const lc_rule_call *call, lc_tensor *t) {
    int64_t one = 1;
    t = lc_step_unreduced(s, call, t);
    return call->attr->dim >= 0 ? t : lc_step_reshape(s, t, 1, &one);
}

static along along_dim(lc_scratch *s, const lc_rule_call *call) {
    lc_tensor *x = call->in[0], *dy = along_shape(s, call, call->dy[0]), *zeros = zeros_like_input(s, call);
    int dim = call->attr->dim;
    if (dim >= 0) return (along){dim, call->shape_in[0][dim], x, dy, zeros};
    int64_t n = lc_shape_numel(call->ndim_in[0], call->shape_in[0]);
    return (along){0, n, x ? lc_step_reshape(s, x, 1, &n) : NULL, dy, lc_step_reshape(s, zeros, 1, &n)};
}

/* kthvalue: to the element whose number output 1 holds. */
lc_status lc_rule_kth(lc_rule_call *call) {
    lc_scratch s = {0};
    along a = along_dim(&s, call);
    lc_tensor *dx = scattered(&s, a.zeros, along_shape(&s, call, call->out[1]), a.dy, a.dim, false);
    lc_scratch_give(&s, call, 0, lc_step_reshape(&s, dx, call->ndim_in[0], call->shape_in[0]));
    return lc_scratch_finish(&s, call);
}

/* min, max: to the first of the equal extremes, the one argmin and argmax name. */
lc_status lc_rule_minmax(lc_rule_call *call) {
    lc_scratch s = {0};
    along a = along_dim(&s, call);
    lc_tensor *first = lc_step_dim(&s, call->op == LC_OP_MIN ? LC_OP_ARGMIN : LC_OP_ARGMAX, a.x, a.dim);
    lc_tensor *dx = scattered(&s, a.zeros, first, a.dy, a.dim, false);
    lc_scratch_give(&s, call, 0, lc_step_reshape(&s, dx, call->ndim_in[0], call->shape_in[0]));
    return lc_scratch_finish(&s, call);
}

/* quantile q of n values lies at q (n - 1) in their order, between two of them: each gets its share. */
lc_status lc_rule_quantile(lc_rule_call *call) {
    lc_scratch s = {0};
    along a = along_dim(&s, call);
    double place = call->attr->a * (double)(a.n - 1), below = floor(place);
    int64_t low = (int64_t)below, high = lc_min(low + 1, a.n - 1);
    lc_attr attr = {.dim = a.dim};
    lc_tensor *sorted[LC_MAX_OUT] = {0};
    lc_step(&s, LC_OP_SORT, &attr, &a.x, 1, sorted);
    lc_tensor *dx = scattered(&s, a.zeros, lc_step_slice(&s, sorted[1], a.dim, low, 1),
                              lc_step_times(&s, a.dy, 1 - (place - below)), a.dim, true);
    dx = scattered(&s, dx, lc_step_slice(&s, sorted[1], a.dim, high, 1), lc_step_times(&s, a.dy, place - below), a.dim,
                   true);
    lc_scratch_give(&s, call, 0, lc_step_reshape(&s, dx, call->ndim_in[0], call->shape_in[0]));
    return lc_scratch_finish(&s, call);
}

/* -- selection and assembly -------------------------------------------------------------------- */

lc_status lc_rule_gather(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_scratch_give(&s, call, 0,
                    scattered(&s, zeros_like_input(&s, call), call->in[1], call->dy[0], call->attr->dim, true));
    return lc_scratch_finish(&s, call);
}

/* True where a source element was the last one written to its place: later ones win, and only the winner has a
 * gradient. */
static lc_tensor *written_last(lc_scratch *s, const lc_rule_call *call) {
    lc_tensor *indices = call->in[1];
    int dim = call->attr->dim;
    lc_tensor *number = lc_step_counted(s, indices, lc_numel(indices));
    number = lc_step_reshape(s, number, indices->ndim, indices->shape);
    lc_tensor *board = lc_step_filled(s, indices, LC_I64, call->ndim_in[0], call->shape_in[0], 0);
    return lc_step2(s, LC_OP_EQ, gathered(s, scattered(s, board, indices, number, dim, false), indices, dim), number);
}

lc_status lc_rule_scatter(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *indices = call->in[1], *dy = call->dy[0];
    int dim = call->attr->dim;
    bool add = call->attr->add;
    if (call->wanted[0]) {
        lc_tensor *nothing = lc_step_filled(&s, dy, dy->dtype, indices->ndim, indices->shape, 0);
        lc_scratch_give(&s, call, 0, add ? dy : scattered(&s, dy, indices, nothing, dim, false));
    }
    if (call->wanted[2]) {
        lc_tensor *source = gathered(&s, dy, indices, dim);
        lc_scratch_give(&s, call, 2, add ? source : lc_step_where(&s, written_last(&s, call), source));
    }
    return lc_scratch_finish(&s, call);
}

lc_status lc_rule_index(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *in[3] = {zeros_like_input(&s, call), call->in[1], call->dy[0]};
    lc_scratch_give(&s, call, 0, lc_step(&s, LC_OP_INDEX_ADD, call->attr, in, 3, NULL));
    return lc_scratch_finish(&s, call);
}

lc_status lc_rule_index_add(lc_rule_call *call) {
    lc_scratch s = {0};
    if (call->wanted[0]) lc_scratch_give(&s, call, 0, call->dy[0]);
    if (call->wanted[2]) {
        lc_tensor *in[2] = {call->dy[0], call->in[1]};
        lc_scratch_give(&s, call, 2, lc_step(&s, LC_OP_INDEX, call->attr, in, 2, NULL));
    }
    return lc_scratch_finish(&s, call);
}

lc_status lc_rule_cat(lc_rule_call *call) {
    lc_scratch s = {0};
    int dim = call->attr->dim;
    int64_t start = 0;
    for (int i = 0; i < call->n_in; start += call->shape_in[i][dim], i++)
        if (call->wanted[i])
            lc_scratch_give(&s, call, i, lc_step_slice(&s, call->dy[0], dim, start, call->shape_in[i][dim]));
    return lc_scratch_finish(&s, call);
}

lc_status lc_rule_masked_fill(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_scratch_give(&s, call, 0, lc_step_unless(&s, call->in[1], call->dy[0]));
    return lc_scratch_finish(&s, call);
}

/* triangle, dropout: linear, and their own transpose; dropout draws the same numbers again from its key and counter. */
lc_status lc_rule_same_op(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_scratch_give(&s, call, 0, lc_step(&s, call->op, call->attr, call->dy, 1, NULL));
    return lc_scratch_finish(&s, call);
}

/* -- views ------------------------------------------------------------------------------------- */

lc_status lc_rule_reshape(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_scratch_give(&s, call, 0, lc_step_reshape(&s, call->dy[0], call->ndim_in[0], call->shape_in[0]));
    return lc_scratch_finish(&s, call);
}

lc_status lc_rule_permute(lc_rule_call *call) {
    int inverse[LC_MAX_DIMS];
    for (int d = 0; d < call->ndim_in[0]; d++) inverse[call->attr->order[d]] = d;
    return lc_view_permute(call->dy[0], inverse, &call->dx[0]);
}

lc_status lc_rule_expand(lc_rule_call *call) {
    call->dx[0] = lc_tensor_retain(call->dy[0]);
    return LC_OK;
}

/* dy goes into its place in zeros, or is added in its place in `into`. */
lc_status lc_rule_slice(lc_rule_call *call) {
    const lc_attr *at = call->attr;
    lc_tensor *dy = call->dy[0], *whole = call->into[0], *place = NULL;
    lc_scratch s = {0};
    if (!whole) whole = zeros_like_input(&s, call);
    if (!s.status) s.status = lc_view_slice(whole, at->dim, at->start, at->length, at->step, &place);
    if (!s.status && call->into[0]) {
        lc_tensor *in[2] = {place, dy};
        s.status = lc_run_into(LC_OP_ADD, NULL, in, 2, &place);
    } else if (!s.status) {
        s.status = lc_copy_into(place, dy);
        lc_scratch_give(&s, call, 0, whole);
    }
    lc_tensor_release(place);
    return lc_scratch_finish(&s, call);
}
