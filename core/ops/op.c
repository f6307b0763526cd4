/* op.c: the way from a call to a kernel: cast, broadcast and lay out the inputs as the op's row says, infer the
 * outputs, run.
 *
 * Inputs that had to be changed are temporaries of the call; `owned` marks them. */
#include "ops/op.h"

#include <stdatomic.h>
#include <string.h>

#include "base/pool.h"
#include "ops/backend.h"
#include "ops/infer.h"

typedef enum types { RAW, SAME, COMMON, FLOAT, TEST } types;
typedef enum layout { STRIDED, BROADCAST, DENSE } layout;

#define VAR LC_MAX_IN
static const struct row {
    const char *name;
    int inputs, outputs;
    types types;
    layout layout;
} rows[LC_GRAPH_OPS] = {
#define LC_OP(ENUM, name, infer, inputs, outputs, types, layout) \
    [LC_OP_##ENUM] = {#name, inputs, outputs, types, layout},
#include "ops/ops.def"
#undef LC_OP
    [LC_OP_RESHAPE] = {"reshape", 1, 1, RAW, STRIDED},
    [LC_OP_PERMUTE] = {"permute", 1, 1, RAW, STRIDED},
    [LC_OP_EXPAND] = {"expand", 1, 1, RAW, STRIDED},
    [LC_OP_SLICE] = {"slice", 1, 1, RAW, STRIDED},
    [LC_OP_EXTERNAL] = {"function", VAR, LC_MAX_OUT, RAW, STRIDED},
};

static const lc_attr no_attr;
static atomic_uint_fast64_t macs, skipped_macs;

const char *lc_op_name(lc_op op) {
    return rows[op].name;
}
int lc_op_outputs(lc_op op) {
    return rows[op].outputs;
}
uint64_t lc_macs(void) {
    return macs;
}
void lc_macs_add(uint64_t n) {
    atomic_fetch_add_explicit(&macs, n, memory_order_relaxed);
}
uint64_t lc_dense_macs(void) {
    return macs + skipped_macs;
}
void lc_macs_skip(uint64_t n) {
    atomic_fetch_add_explicit(&skipped_macs, n, memory_order_relaxed);
}

/* -- kernels ----------------------------------------------------------------------------------- */

static bool force_ref;
static const lc_backend *cpu;

void lc_backend_force_ref(bool on) {
    force_ref = on;
}

static lc_kernel kernel_of(lc_op op) {
    if (!cpu) cpu = lc_backend_cpu();
    lc_kernel fast = force_ref ? NULL : cpu->kernel[op];
    return fast ? fast : lc_backend_ref.kernel[op];
}

const char *lc_op_backend(lc_op op, lc_device device) {
    if (device != LC_CPU || !kernel_of(op)) return NULL;
    return kernel_of(op) == lc_backend_ref.kernel[op] ? lc_backend_ref.name : cpu->name;
}

/* -- inputs ------------------------------------------------------------------------------------ */

typedef struct plan {
    lc_call call;
    unsigned owned; /* bit i: call.in[i] is a temporary of this call */
    lc_spec spec[LC_MAX_OUT];
} plan;

static void plan_free(plan *p) {
    for (int i = 0; p->owned; i++, p->owned >>= 1)
        if (p->owned & 1) lc_tensor_release(p->call.in[i]);
}

/* Takes over `t` as input i. */
static void replace_input(plan *p, int i, lc_tensor *t) {
    if (p->owned >> i & 1) lc_tensor_release(p->call.in[i]);
    p->call.in[i] = t;
    p->owned |= 1u << i;
}

static lc_status check_inputs(const plan *p) {
    const lc_call *c = &p->call;
    const char *name = rows[c->op].name;
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i]) continue;
        if (c->in[i]->storage->device != LC_CPU)
            return lc_fail(LC_EDEVICE, "%s: no kernel on device '%s' in this build", name,
                           lc_device_name(c->in[i]->storage->device));
        if (c->op != LC_OP_COPY && lc_dtype_is_half(c->in[i]->dtype))
            return lc_fail(LC_EDTYPE, "%s: %s is a storage type; cast with x:to('f32') first", name,
                           lc_dtype_name(c->in[i]->dtype));
    }
    return LC_OK;
}

/* The type that the inputs from..n_in are cast to. */
static lc_dtype common_type(const lc_call *c, int from, types rule) {
    lc_dtype d = LC_BOOL;
    for (int i = from; i < c->n_in; i++)
        if (c->in[i]) d = lc_dtype_promote(d, c->in[i]->dtype);
    if (d == LC_BOOL && rule == SAME) d = LC_I32;
    if (!lc_dtype_is_float(d) && rule == FLOAT) d = LC_F32;
    return d;
}

static lc_status cast_inputs(plan *p, int from, types rule) {
    lc_dtype d = common_type(&p->call, from, rule);
    for (int i = from; i < p->call.n_in; i++) {
        if (!p->call.in[i] || p->call.in[i]->dtype == d) continue;
        lc_tensor *t = NULL;
        LC_TRY(lc_cast(p->call.in[i], d, &t));
        replace_input(p, i, t);
    }
    return LC_OK;
}

static lc_status broadcast_inputs(plan *p) {
    lc_call *c = &p->call;
    bool same = true;
    for (int i = 1; i < c->n_in; i++) same = same && lc_same_shape(c->in[0], c->in[i]);
    if (same) return LC_OK;
    int ndim = c->in[0]->ndim;
    int64_t shape[LC_MAX_DIMS];
    memcpy(shape, c->in[0]->shape, sizeof shape);
    for (int i = 1; i < c->n_in; i++) {
        lc_status status = lc_broadcast_shape(ndim, shape, c->in[i]->ndim, c->in[i]->shape, &ndim, shape);
        if (status) return lc_fail_within(status, "%s", rows[c->op].name);
    }
    for (int i = 0; i < c->n_in; i++) {
        if (c->in[i]->ndim == ndim && memcmp(c->in[i]->shape, shape, sizeof *shape * (size_t)ndim) == 0) continue;
        lc_tensor *t = NULL;
        LC_TRY(lc_view_expand(c->in[i], ndim, shape, &t));
        replace_input(p, i, t);
    }
    return LC_OK;
}

static lc_status make_dense(plan *p) {
    for (int i = 0; i < p->call.n_in; i++) {
        if (!p->call.in[i] || lc_is_contiguous(p->call.in[i])) continue;
        if (rows[p->call.op].outputs == 0)
            return lc_fail(LC_EINVAL, "%s: writes into its inputs, which must be contiguous", rows[p->call.op].name);
        lc_tensor *t = NULL;
        LC_TRY(lc_contiguous(p->call.in[i], &t));
        replace_input(p, i, t);
    }
    return LC_OK;
}

static lc_status prepare(plan *p, lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in) {
    const struct row *row = &rows[op];
    p->call = (lc_call){.op = op, .attr = attr ? attr : &no_attr, .n_in = n_in, .n_out = row->outputs};
    p->owned = 0;
    for (int i = 0; i < n_in; i++) p->call.in[i] = in[i];
    LC_TRY(check_inputs(p));
    if (row->types != RAW)
        LC_TRY(cast_inputs(p, 0, row->types));
    else if (op == LC_OP_WHERE)
        LC_TRY(cast_inputs(p, 1, COMMON));
    if (row->layout == BROADCAST && n_in > 1) LC_TRY(broadcast_inputs(p));
    if (row->layout == DENSE) LC_TRY(make_dense(p));
    return LC_OK;
}

static lc_status infer(plan *p) {
    for (int i = 0; i < p->call.n_out; i++) p->spec[i].wanted = true;
    return lc_op_infer(p->call.op)(&p->call, p->spec);
}

static lc_status run_kernel(plan *p) {
    lc_kernel kernel = kernel_of(p->call.op);
    if (!kernel) return lc_fail(LC_EDEVICE, "%s: no kernel on device 'cpu' in this build", rows[p->call.op].name);
    return kernel(&p->call);
}

/* -- running ----------------------------------------------------------------------------------- */

/* Ops without outputs write into their inputs: all but the second, the gradient, and the last, what is kept. */
static void touch_updated(const lc_call *c) {
    for (int i = 0; i < c->n_in - 1; i++)
        if (i != 1 && c->in[i]) lc_touch(c->in[i]);
}

lc_status lc_run(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out) {
    plan p;
    lc_status status = prepare(&p, op, attr, in, n_in);
    if (status) goto done;
    LC_GOTO(done, infer(&p));
    for (int i = 0; i < p.call.n_out; i++) {
        const lc_spec *s = &p.spec[i];
        if (!s->wanted) continue;
        LC_GOTO(drop, lc_tensor_new(s->dtype, s->ndim, s->shape, LC_CPU, &p.call.out[i]));
    }
    LC_GOTO(drop, run_kernel(&p));
    if (p.call.n_out == 0) touch_updated(&p.call);
    for (int i = 0; i < p.call.n_out; i++) out[i] = p.call.out[i];
    goto done;
drop:
    for (int i = 0; i < p.call.n_out; i++) lc_tensor_release(p.call.out[i]);
done:
    plan_free(&p);
    return status;
}

static bool same_layout(const lc_tensor *a, const lc_tensor *b) {
    return a->offset == b->offset && a->dtype == b->dtype && lc_same_shape(a, b) &&
           memcmp(a->strides, b->strides, sizeof a->strides[0] * (size_t)a->ndim) == 0;
}

static bool is_elementwise(const plan *p) {
    const lc_call *c = &p->call;
    return rows[c->op].layout != DENSE && c->op != LC_OP_CAT && c->op != LC_OP_MATMUL && c->n_out == 1 &&
           p->spec[0].ndim == c->in[0]->ndim &&
           memcmp(p->spec[0].shape, c->in[0]->shape, sizeof(int64_t) * (size_t)c->in[0]->ndim) == 0;
}

/* An input in the memory of a target is read before the target is written only where both walk the same positions. */
static lc_status separate_inputs(plan *p, lc_tensor *const *into) {
    for (int i = 0; i < p->call.n_in; i++) {
        for (int k = 0; k < p->call.n_out; k++) {
            lc_tensor *x = p->call.in[i];
            if (!x || !into[k] || x->storage != into[k]->storage) continue;
            if (is_elementwise(p) && same_layout(x, into[k])) continue;
            lc_tensor *copy = NULL;
            lc_attr a = {.dtype = x->dtype};
            LC_TRY(lc_run(LC_OP_COPY, &a, &x, 1, &copy));
            replace_input(p, i, copy);
            break;
        }
    }
    return LC_OK;
}

/* Can the kernel write `into` itself? */
static bool writes_directly(lc_op op, const lc_spec *s, const lc_tensor *into) {
    return s->dtype == into->dtype && (rows[op].layout != DENSE || lc_is_contiguous(into));
}

/* A stand-in for a target that the kernel cannot write; with attr.add it starts from the target's content. */
static lc_status stand_in(const plan *p, const lc_spec *s, lc_tensor *into, lc_tensor **out) {
    if (!p->call.attr->add) return lc_tensor_new(s->dtype, s->ndim, s->shape, LC_CPU, out);
    lc_attr a = {.dtype = s->dtype};
    return lc_run(LC_OP_COPY, &a, &into, 1, out);
}

lc_status lc_run_into(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor *const *into) {
    plan p;
    unsigned stand_ins = 0;
    lc_status status = prepare(&p, op, attr, in, n_in);
    if (status) goto done;
    if (op == LC_OP_FILL) p.call.out[0] = into[0]; /* the one op whose result takes its shape from the target */
    LC_GOTO(done, infer(&p));
    for (int i = 0; i < p.call.n_out; i++) {
        const lc_spec *s = &p.spec[i];
        if (!into[i] || !s->wanted) continue;
        if (s->ndim != into[i]->ndim || memcmp(s->shape, into[i]->shape, sizeof(int64_t) * (size_t)s->ndim) != 0) {
            status = lc_fail(LC_ESHAPE, "%s: the result has shape %s and does not fit into %s", rows[op].name,
                             lc_shape_text(s->ndim, s->shape), LC_SHAPE(into[i]));
            goto done;
        }
    }
    LC_GOTO(done, separate_inputs(&p, into));
    for (int i = 0; i < p.call.n_out; i++) {
        if (!into[i] || !p.spec[i].wanted) continue;
        p.call.out[i] = into[i];
        if (writes_directly(op, &p.spec[i], into[i])) continue;
        LC_GOTO(done, stand_in(&p, &p.spec[i], into[i], &p.call.out[i]));
        stand_ins |= 1u << i;
    }
    LC_GOTO(done, run_kernel(&p));
    for (int i = 0; i < p.call.n_out; i++) {
        if (!p.call.out[i]) continue;
        if (stand_ins >> i & 1)
            LC_GOTO(done, lc_copy_into(into[i], p.call.out[i]));
        else
            lc_touch(into[i]);
    }
done:
    for (int i = 0; i < LC_MAX_OUT; i++)
        if (stand_ins >> i & 1) lc_tensor_release(p.call.out[i]);
    plan_free(&p);
    return status;
}

/* -- copies ------------------------------------------------------------------------------------ */

lc_status lc_contiguous(lc_tensor *x, lc_tensor **out) {
    if (lc_is_contiguous(x)) {
        *out = lc_tensor_retain(x);
        return LC_OK;
    }
    lc_attr a = {.dtype = x->dtype};
    return lc_run(LC_OP_COPY, &a, &x, 1, out);
}

lc_status lc_cast(lc_tensor *x, lc_dtype dtype, lc_tensor **out) {
    if (x->dtype == dtype) {
        *out = lc_tensor_retain(x);
        return LC_OK;
    }
    lc_attr a = {.dtype = dtype};
    return lc_run(LC_OP_COPY, &a, &x, 1, out);
}

lc_status lc_copy_into(lc_tensor *destination, lc_tensor *source) {
    lc_tensor *wide = NULL, *separate = NULL;
    LC_TRY(lc_view_expand(source, destination->ndim, destination->shape, &wide));
    lc_status status = LC_OK;
    lc_attr a = {.dtype = wide->dtype};
    if (wide->storage == destination->storage && !same_layout(wide, destination)) {
        LC_GOTO(done, lc_run(LC_OP_COPY, &a, &wide, 1, &separate));
        lc_tensor_release(wide);
        wide = lc_tensor_retain(separate);
    }
    a.dtype = destination->dtype;
    lc_call call = {.op = LC_OP_COPY, .attr = &a, .n_in = 1, .n_out = 1, .in = {wide}, .out = {destination}};
    LC_GOTO(done, kernel_of(LC_OP_COPY)(&call));
    lc_touch(destination);
done:
    lc_tensor_release(separate);
    lc_tensor_release(wide);
    return status;
}

lc_status lc_fill(lc_tensor *x, double value) {
    lc_attr a = {.a = value};
    lc_call call = {.op = LC_OP_FILL, .attr = &a, .n_in = 0, .n_out = 1, .out = {x}};
    LC_TRY(kernel_of(LC_OP_FILL)(&call));
    lc_touch(x);
    return LC_OK;
}
