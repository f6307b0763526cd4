/* ref_order.c: sorting lines, and what follows from it. One stable order serves all: by value, equal values by index,
 * NaN last in both directions. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/ref/ref.h"
#include <math.h>
#include <string.h>

typedef struct item {
    ref_number value;
    int64_t index;
} item;

typedef struct order {
    bool real, descending;
} order;

/* a comes before b, strictly. */
static bool before(order o, item a, item b) {
    if (!o.real) return o.descending ? a.value.i > b.value.i : a.value.i < b.value.i;
    if (isnan(a.value.f) || isnan(b.value.f)) return !isnan(a.value.f) && isnan(b.value.f);
    return o.descending ? a.value.f > b.value.f : a.value.f < b.value.f;
}

/* Merge sort: stable, because the right half goes first only where it comes strictly before. */
static void merge_sort(order o, item *items, item *scratch, int64_t n) {
    if (n < 2) return;
    int64_t half = n / 2;
    merge_sort(o, items, scratch, half);
    merge_sort(o, items + half, scratch, n - half);
    for (int64_t k = 0, i = 0, j = half; k < n; k++) {
        bool right = i == half || (j < n && before(o, items[j], items[i]));
        scratch[k] = items[right ? j++ : i++];
    }
    memcpy(items, scratch, (size_t)n * sizeof *items);
}

/* What to do with one sorted line: items[0..length) in order. */
typedef void (*line_consumer)(const lc_call *call, int64_t line, const item *items, int64_t length);

static lc_status sort_lines(const lc_call *call, bool descending, line_consumer consume) {
    lc_tensor *x = call->in[0];
    int dim = call->attr->dim;
    order o = {.real = lc_dtype_is_float(x->dtype), .descending = descending};
    int64_t length = dim < 0 ? lc_numel(x) : x->shape[dim];
    item *items = lc_alloc((size_t)(2 * length) * sizeof *items);
    if (!items) return LC_ENOMEM;
    lc_status status = LC_OK;
    for (int64_t l = 0, lines = ref_lines(x, dim); l < lines; l++) {
        LC_GOTO(done, lc_poll());
        ref_line line = ref_line_at(x, dim, l);
        for (int64_t i = 0; i < length; i++) items[i] = (item){ref_read(x, ref_at(&line, i)), i};
        merge_sort(o, items, items + length, length);
        consume(call, l, items, length);
    }
done:
    lc_free(items);
    return status;
}

/* The first items of the order, as many as the outputs have room for: sort and topk. */
static void write_first(const lc_call *call, int64_t l, const item *items, int64_t length) {
    (void)length;
    for (int k = 0; k < 2; k++) {
        lc_tensor *out = call->out[k];
        if (!out) continue;
        ref_line line = ref_line_at(out, call->attr->dim, l);
        for (int64_t i = 0; i < line.length; i++)
            ref_write(out, ref_at(&line, i), k == 0 ? items[i].value : (ref_number){.i = items[i].index});
    }
}

lc_status lc_ref_sort(const lc_call *call) {
    return sort_lines(call, call->attr->descending, write_first);
}

lc_status lc_ref_topk(const lc_call *call) {
    return sort_lines(call, call->attr->descending, write_first);
}

static void write_kth(const lc_call *call, int64_t l, const item *items, int64_t length) {
    (void)length;
    item kth = items[call->attr->n - 1];
    if (call->out[0]) ref_write(call->out[0], lc_position(call->out[0], l), kth.value);
    if (call->out[1]) lc_set_i64(call->out[1], lc_position(call->out[1], l), kth.index);
}

lc_status lc_ref_kthvalue(const lc_call *call) {
    return sort_lines(call, false, write_kth);
}

/* Linear between the two neighbours of position a (n - 1). A line with a NaN gives NaN. */
static void write_quantile(const lc_call *call, int64_t l, const item *items, int64_t length) {
    double position = call->attr->a * (double)(length - 1);
    int64_t below = (int64_t)position, above = lc_min(below + 1, length - 1);
    double share = position - (double)below, low = items[below].value.f, high = items[above].value.f;
    double value = share == 0 || low == high ? low : (1 - share) * low + share * high; /* infinite ends stay so */
    if (isnan(items[length - 1].value.f)) value = NAN;
    lc_set_f64(call->out[0], lc_position(call->out[0], l), value);
}

lc_status lc_ref_quantile(const lc_call *call) {
    return sort_lines(call, false, write_quantile);
}

static void write_keep(const lc_call *call, int64_t l, const item *items, int64_t length) {
    ref_line line = ref_line_at(call->out[0], call->attr->dim, l);
    for (int64_t i = 0; i < length; i++) lc_set_i64(line.t, ref_at(&line, items[i].index), i < call->attr->n);
}

lc_status lc_ref_keep(const lc_call *call) {
    return sort_lines(call, true, write_keep);
}
