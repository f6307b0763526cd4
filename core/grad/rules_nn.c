/* rules_nn.c: rules of products, of ops over rows and of transformer pieces. Weight gradients are added straight into
 * `into`, so that accumulation over micro-batches and tied weights costs no extra buffer and no extra pass. */
#include <float.h>
#include <string.h>

#include "grad/rules_parts.h"
#include "grad/scratch.h"

/* (..., M, N) as (all rows, N). */
static lc_tensor *rows_of(lc_scratch *s, lc_tensor *x) {
    if (s->status) return NULL;
    int64_t n = x->shape[x->ndim - 1];
    int64_t shape[2] = {1, n};
    for (int d = 0; d < x->ndim - 1; d++) shape[0] *= x->shape[d];
    return lc_step_reshape(s, x, 2, shape);
}

/* -- products ---------------------------------------------------------------------------------- */

/* Whether input i has the product's batch dimensions, so that its gradient needs no summing. */
static bool has_whole_batch(const lc_rule_call *call, int i) {
    const lc_tensor *dy = call->dy[0];
    if (call->ndim_in[i] != dy->ndim) return false;
    for (int d = 0; d < dy->ndim - 2; d++)
        if (call->shape_in[i][d] != dy->shape[d]) return false;
    return true;
}

/* y = a b:  da = dy b^T,  db = a^T dy. A matrix b that served a whole batch of a takes all rows in one product; any
 * other broadcast batch is left to the graph to sum. */
lc_status lc_rule_matmul(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *a = call->in[0], *b = call->in[1], *dy = call->dy[0];
    if (call->wanted[0]) {
        lc_tensor *into = has_whole_batch(call, 0) ? call->into[0] : NULL;
        lc_scratch_give(&s, call, 0, lc_step_matmul(&s, dy, lc_step_swap(&s, b), into));
    }
    if (call->wanted[1]) {
        bool flat = call->ndim_in[1] == 2 && has_whole_batch(call, 0);
        if (flat) {
            a = rows_of(&s, a);
            dy = rows_of(&s, dy);
        }
        lc_tensor *into = flat || has_whole_batch(call, 1) ? call->into[1] : NULL;
        lc_scratch_give(&s, call, 1, lc_step_matmul(&s, lc_step_swap(&s, a), dy, into));
    }
    return lc_scratch_finish(&s, call);
}

/* dy (1 - tanh(before)^2) */
static lc_tensor *through_tanh(lc_scratch *s, lc_tensor *before, lc_tensor *dy) {
    lc_tensor *y = lc_step1(s, LC_OP_TANH, before);
    return lc_step2(s, LC_OP_SUB, dy, lc_step2(s, LC_OP_MUL, dy, lc_step1(s, LC_OP_SQUARE, y)));
}

/* dy times the derivative of the fused activation at `before`, what went into it. */
static lc_tensor *through_activation(lc_scratch *s, lc_activation act, lc_tensor *before, lc_tensor *dy) {
    switch (act) {
    case LC_ACT_RELU:
        return lc_step_unless(s, lc_step_number(s, LC_OP_LE, before, 0), dy);
    case LC_ACT_GELU:
        return lc_step2(s, LC_OP_GELU_BACKWARD, before, dy);
    case LC_ACT_GELU_TANH:
        return lc_step2(s, LC_OP_GELU_TANH_BACKWARD, before, dy);
    case LC_ACT_SILU:
        return lc_step2(s, LC_OP_SILU_BACKWARD, before, dy);
    case LC_ACT_TANH:
        return through_tanh(s, before, dy);
    default:
        return dy;
    }
}

/* y = x W^T + b over N rows:  dx = dy W,  dW = dy^T x,  db = sum of dy over the rows. A product that nobody asked for,
 * as dW of a frozen parameter, is left out. */
lc_status lc_rule_linear(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *x = call->in[0], *w = call->in[1];
    if (call->attr->act && !call->out[1]) return lc_fail(LC_ESTATE, "%s: run without attr.train", lc_op_name(call->op));
    lc_tensor *dy = rows_of(&s, through_activation(&s, call->attr->act, call->out[1], call->dy[0]));
    uint64_t product = (uint64_t)lc_numel(call->dy[0]) * (uint64_t)call->shape_in[1][1];
    if (call->wanted[0]) {
        lc_tensor *into = call->into[0] ? rows_of(&s, call->into[0]) : NULL;
        lc_tensor *dx = lc_step_matmul(&s, dy, w, into);
        if (dx) lc_scratch_give(&s, call, 0, lc_step_reshape(&s, dx, call->ndim_in[0], call->shape_in[0]));
    } else {
        lc_macs_skip(product);
    }
    if (call->wanted[1])
        lc_scratch_give(&s, call, 1, lc_step_matmul(&s, lc_step_swap(&s, dy), rows_of(&s, x), call->into[1]));
    else
        lc_macs_skip(product);
    if (call->wanted[2]) {
        lc_attr over_rows = {.dim = 0};
        lc_scratch_give(&s, call, 2, lc_step(&s, LC_OP_SUM, &over_rows, &dy, 1, NULL));
    }
    return lc_scratch_finish(&s, call);
}

unsigned lc_saves_linear(const lc_attr *attr, const bool *wanted) {
    return (wanted[0] ? LC_SAVE_IN(1) : 0) | (wanted[1] ? LC_SAVE_IN(0) : 0) |
           (attr->act != LC_ACT_NONE ? LC_SAVE_OUT(1) : 0);
}

/* -- factorisations ---------------------------------------------------------------------------- */

static lc_tensor *triangle(lc_scratch *s, lc_tensor *x, bool upper, int64_t diagonal) {
    lc_attr attr = {.upper = upper, .n = diagonal};
    return lc_step(s, LC_OP_TRIANGLE, &attr, &x, 1, NULL);
}

/* L^-T M for lower L. */
static lc_tensor *solve_transposed(lc_scratch *s, lc_tensor *L, lc_tensor *M) {
    lc_attr attr = {.transpose = true};
    lc_tensor *in[2] = {L, M};
    return lc_step(s, LC_OP_SOLVE_TRIANGULAR, &attr, in, 2, NULL);
}

/* A = L L^T (Murray 2016, "Differentiation of the Cholesky decomposition", eq. 10): with P the lower triangle of L^T
 * dL, its diagonal halved, and S = L^-T P L^-1, dA = (S + S^T) / 2: the gradient for a symmetric A. */
lc_status lc_rule_cholesky(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *L = call->out[0], *dL = call->dy[0];
    if (call->attr->upper) {
        L = lc_step_swap(&s, L);
        dL = lc_step_swap(&s, dL);
    }
    lc_tensor *product = lc_step_matmul(&s, lc_step_swap(&s, L), dL, NULL);
    lc_tensor *P = lc_step2(&s, LC_OP_ADD, triangle(&s, product, false, 0), triangle(&s, product, false, -1));
    P = lc_step_times(&s, P, 0.5);
    lc_tensor *S = solve_transposed(&s, L, lc_step_swap(&s, solve_transposed(&s, L, P)));
    lc_scratch_give(&s, call, 0, lc_step_times(&s, lc_step2(&s, LC_OP_ADD, S, lc_step_swap(&s, S)), 0.5));
    return lc_scratch_finish(&s, call);
}

/* op(A) X = B:  dB = op(A)^-T dX,  and dA = -dB X^T (-X dB^T for the transpose), within the triangle that is read. */
lc_status lc_rule_solve_triangular(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_attr attr = *call->attr;
    attr.transpose = !attr.transpose;
    lc_tensor *in[2] = {call->in[0], call->dy[0]};
    lc_tensor *X = call->out[0], *dB = lc_step(&s, LC_OP_SOLVE_TRIANGULAR, &attr, in, 2, NULL);
    if (call->wanted[1]) lc_scratch_give(&s, call, 1, dB);
    if (call->wanted[0]) {
        lc_tensor *left = call->attr->transpose ? X : dB, *right = call->attr->transpose ? dB : X;
        lc_tensor *dA = lc_step1(&s, LC_OP_NEG, lc_step_matmul(&s, left, lc_step_swap(&s, right), NULL));
        int64_t inside = attr.unit ? 1 : 0; /* a unit diagonal is not read */
        lc_scratch_give(&s, call, 0, triangle(&s, dA, attr.upper, attr.upper ? inside : -inside));
    }
    return lc_scratch_finish(&s, call);
}

/* Y = A^-1: dA = -Y^T dY Y^T. */
lc_status lc_rule_inverse(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *turned = lc_step_swap(&s, call->out[0]);
    lc_tensor *product = lc_step_matmul(&s, lc_step_matmul(&s, turned, call->dy[0], NULL), turned, NULL);
    lc_scratch_give(&s, call, 0, lc_step1(&s, LC_OP_NEG, product));
    return lc_scratch_finish(&s, call);
}

/* x (..., n) as (..., 1, n). */
static lc_tensor *as_row(lc_scratch *s, lc_tensor *x) {
    if (s->status) return NULL;
    int64_t shape[LC_MAX_DIMS];
    memcpy(shape, x->shape, sizeof *shape * (size_t)x->ndim);
    shape[x->ndim] = shape[x->ndim - 1];
    shape[x->ndim - 1] = 1;
    return lc_step_reshape(s, x, x->ndim + 1, shape);
}

/* V^T dV over the differences of eigenvalues: entry (i, j) over l_j - l_i; 0 where they are equal, which rounding makes
 * them up to n eps times the largest. */
static lc_tensor *turned_vectors(lc_scratch *s, const lc_rule_call *call) {
    lc_tensor *values = call->out[0], *V = call->out[1], *across = as_row(s, values);
    if (s->status) return NULL;
    double eps = values->dtype == LC_F64 ? DBL_EPSILON : FLT_EPSILON;
    lc_tensor *largest = lc_step_dim(s, LC_OP_MAX, lc_step1(s, LC_OP_ABS, values), values->ndim - 1);
    lc_tensor *least = lc_step_times(s, as_row(s, largest), eps * (double)V->shape[V->ndim - 1]);
    lc_tensor *gaps = lc_step2(s, LC_OP_SUB, across, lc_step_swap(s, across));
    lc_tensor *equal = lc_step2(s, LC_OP_LE, lc_step1(s, LC_OP_ABS, gaps), least);
    lc_tensor *product = lc_step_matmul(s, lc_step_swap(s, V), call->dy[1], NULL);
    return lc_step_unless(s, equal, lc_step2(s, LC_OP_DIV, product, gaps));
}

/* A = V diag(l) V^T (Giles 2008, "Collected matrix derivative results", section 3.1): S = V (diag(dl) + M) V^T with M
 * the entries of V^T dV over l_j - l_i, and dA = (S + S^T) / 2: the gradient for a symmetric A. Vectors of equal
 * eigenvalues can turn among themselves: what depends on how gets no gradient (PyTorch: NaN, or what rounding makes of
 * it), and what does not, such as a projector, the right one. */
lc_status lc_rule_eigh(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *V = call->out[1], *left = NULL;
    if (call->dy[0]) left = lc_step2(&s, LC_OP_MUL, V, as_row(&s, call->dy[0]));
    if (call->dy[1]) {
        lc_tensor *more = lc_step_matmul(&s, V, turned_vectors(&s, call), NULL);
        left = left ? lc_step2(&s, LC_OP_ADD, left, more) : more;
    }
    lc_tensor *S = lc_step_matmul(&s, left, lc_step_swap(&s, V), NULL);
    lc_scratch_give(&s, call, 0, lc_step_times(&s, lc_step2(&s, LC_OP_ADD, S, lc_step_swap(&s, S)), 0.5));
    return lc_scratch_finish(&s, call);
}

/* -- rows -------------------------------------------------------------------------------------- */

lc_status lc_rule_softmax(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_op backward = call->op == LC_OP_SOFTMAX ? LC_OP_SOFTMAX_BACKWARD : LC_OP_LOG_SOFTMAX_BACKWARD;
    lc_scratch_give(&s, call, 0, lc_step2(&s, backward, call->out[0], call->dy[0]));
    return lc_scratch_finish(&s, call);
}

/* Runs a fused backward op, whose outputs are the gradients of inputs 0, 1, ... */
static lc_status fused(lc_rule_call *call, lc_op backward, lc_tensor *const *in, int n_in) {
    lc_scratch s = {0};
    lc_tensor *dx[LC_MAX_OUT] = {0};
    lc_step(&s, backward, call->attr, in, n_in, dx);
    for (int i = 0; i < lc_op_outputs(backward); i++)
        if (call->wanted[i]) lc_scratch_give(&s, call, i, dx[i]);
    return lc_scratch_finish(&s, call);
}

lc_status lc_rule_layer_norm(lc_rule_call *call) {
    lc_tensor *in[5] = {call->in[0], call->in[1], call->out[1], call->out[2], call->dy[0]};
    return fused(call, LC_OP_LAYER_NORM_BACKWARD, in, 5);
}

lc_status lc_rule_rms_norm(lc_rule_call *call) {
    lc_tensor *in[4] = {call->in[0], call->in[1], call->out[1], call->dy[0]};
    return fused(call, LC_OP_RMS_NORM_BACKWARD, in, 4);
}

/* -- transformer pieces ------------------------------------------------------------------------ */

lc_status lc_rule_embedding(lc_rule_call *call) {
    lc_tensor *in[2] = {call->in[1], call->dy[0]};
    lc_attr attr = {.n = call->shape_in[0][0]};
    lc_tensor *into = call->into[0];
    if (into) {
        attr.add = true;
        return lc_run_into(LC_OP_EMBEDDING_BACKWARD, &attr, in, 2, &into);
    }
    lc_tensor *dw[LC_MAX_OUT] = {0};
    LC_TRY(lc_run(LC_OP_EMBEDDING_BACKWARD, &attr, in, 2, dw));
    call->dx[0] = dw[0];
    return LC_OK;
}

/* A rotation's transpose turns back; the factor stays. */
lc_status lc_rule_rotary(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_attr attr = *call->attr;
    attr.transpose = !attr.transpose;
    lc_tensor *in[3] = {call->dy[0], call->in[1], call->in[2]};
    lc_scratch_give(&s, call, 0, lc_step(&s, LC_OP_ROTARY, &attr, in, 3, NULL));
    return lc_scratch_finish(&s, call);
}

lc_status lc_rule_attention(lc_rule_call *call) {
    lc_tensor *in[7] = {call->in[0], call->in[1], call->in[2], call->in[3], call->out[0], call->out[1], call->dy[0]};
    return fused(call, LC_OP_ATTENTION_BACKWARD, in, 7);
}

lc_status lc_rule_cross_entropy(lc_rule_call *call) {
    lc_tensor *in[4] = {call->in[0], call->in[1], call->out[1], call->dy[0]};
    return fused(call, LC_OP_CROSS_ENTROPY_BACKWARD, in, 4);
}

/* The forward pass left dx and dw for a loss gradient of 1, which is what a training step has. */
lc_status lc_rule_linear_cross_entropy(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *dloss = call->dy[0];
    bool is_one = dloss->storage->device == LC_CPU && lc_get_f64(dloss, dloss->offset) == 1;
    for (int i = 0; i < 2; i++) {
        if (!call->wanted[i]) continue;
        lc_tensor *dx = call->out[1 + i];
        if (!dx && !s.status) s.status = lc_fail(LC_ESTATE, "%s: run without attr.train", lc_op_name(call->op));
        lc_scratch_give(&s, call, i, is_one ? dx : lc_step2(&s, LC_OP_MUL, dx, dloss));
    }
    return lc_scratch_finish(&s, call);
}
