/* order.c: sorting and selection in f32.
 *
 * A float has a key, a 32-bit number that counts up in the wanted order: equal floats (0 and -0 too) have equal keys,
 * NaN the last one. The key of a given rank is found digit by digit from histograms, in four passes over the data that
 * neither move nor copy it, so that pruning a whole model by magnitude is bound by memory. Sorting is by the same
 * digits. */
#include "ops/cpu/cpu.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { DIGITS = 4, BINS = 256 };
#define LAST_KEY UINT32_MAX /* of NaN */

static inline uint32_t key_of(float x, bool descending) {
    uint32_t u;
    x += 0.0f; /* -0 becomes 0 */
    memcpy(&u, &x, sizeof u);
    uint32_t ascending = u >> 31 ? ~u : u | 0x80000000u;
    return x != x ? LAST_KEY : descending ? ~ascending : ascending;
}

/* Elements x[i * stride], i < n. */
typedef struct line {
    const float *x;
    int64_t n, stride;
    bool descending;
} line;

static inline uint32_t key_at(const line *l, int64_t i) {
    return key_of(l->x[i * l->stride], l->descending);
}

/* -- selection --------------------------------------------------------------------------------- */

typedef struct digit_pass {
    const line *l;
    uint32_t prefix, mask; /* keys that differ from the prefix under the mask are out */
    int shift;
    int64_t grain;
    int64_t (*bins)[BINS]; /* of each piece */
} digit_pass;

static void count_digits(void *context, int64_t begin, int64_t end) {
    const digit_pass *p = context;
    int64_t *bins = p->bins[begin / p->grain];
    line l = *p->l; /* copies: the compiler cannot know that the bins are elsewhere */
    uint32_t prefix = p->prefix, mask = p->mask;
    int shift = p->shift;
    memset(bins, 0, sizeof *p->bins);
    for (int64_t i = begin; i < end; i++) {
        uint32_t key = key_at(&l, i);
        if (((key ^ prefix) & mask) == 0) bins[key >> shift & (BINS - 1)]++;
    }
}

/* The key of rank `rank` (from 0), and how many keys come before it. */
static lc_status select_key(const line *l, int64_t rank, uint32_t *key, int64_t *before) {
    digit_pass p = {.l = l, .grain = lc_max(GRAIN, (l->n + 255) / 256)};
    int64_t pieces = (l->n + p.grain - 1) / p.grain, one[1][BINS];
    p.bins = pieces == 1 ? one : lc_alloc(sizeof *p.bins * (size_t)pieces);
    if (!p.bins) return LC_ENOMEM;
    lc_status status = LC_OK;
    int64_t left = rank;
    for (p.shift = 32 - 32 / DIGITS; !status && p.shift >= 0; p.shift -= 32 / DIGITS) {
        status = lc_parallel_range(l->n, p.grain, count_digits, &p);
        for (int digit = 0; !status && digit < BINS; digit++) {
            int64_t count = 0;
            for (int64_t i = 0; i < pieces; i++) count += p.bins[i][digit];
            if (left < count) {
                p.prefix |= (uint32_t)digit << p.shift;
                break;
            }
            left -= count;
        }
        p.mask |= (uint32_t)(BINS - 1) << p.shift;
    }
    if (p.bins != one) lc_free(p.bins);
    *key = p.prefix;
    *before = rank - left;
    return status;
}

/* Where the key occurs for the `number`-th time (from 0). */
static int64_t find_key(const line *l, uint32_t key, int64_t number) {
    int64_t i = 0;
    for (;; i++)
        if (key_at(l, i) == key && number-- == 0) return i;
}

/* -- sorting ----------------------------------------------------------------------------------- */

typedef struct item {
    uint32_t key, index;
} item;

/* By key; stable. The result is in `items`. */
static void sort_items(item *items, item *scratch, int64_t n) {
    for (int shift = 0; shift < 32; shift += 32 / DIGITS) {
        int64_t start[BINS + 1] = {0};
        for (int64_t i = 0; i < n; i++) start[(items[i].key >> shift & (BINS - 1)) + 1]++;
        for (int digit = 0; digit < BINS; digit++) start[digit + 1] += start[digit];
        for (int64_t i = 0; i < n; i++) scratch[start[items[i].key >> shift & (BINS - 1)]++] = items[i];
        item *sorted = scratch; /* four passes: an even number of exchanges */
        scratch = items;
        items = sorted;
    }
}

/* The first `count` of the line's elements in order, into items; `scratch` has room for as many. */
static lc_status first_items(const line *l, int64_t count, item *items, item *scratch) {
    uint32_t last = LAST_KEY;
    int64_t before = l->n, k = 0;
    if (count < l->n) LC_TRY(select_key(l, count - 1, &last, &before));
    int64_t ties = count - before; /* of those that equal the last key, the first so many */
    for (int64_t i = 0; i < l->n; i++) {
        uint32_t key = key_at(l, i);
        if (count == l->n || key < last || (key == last && ties-- > 0)) items[k++] = (item){key, (uint32_t)i};
    }
    sort_items(items, scratch, count);
    return LC_OK;
}

/* -- lines ------------------------------------------------------------------------------------- */

typedef struct lines_job lines_job;
typedef lc_status (*line_task)(const lines_job *j, int64_t number, const line *l);
struct lines_job {
    const lc_call *call;
    line_task task;
    const float *x;
    int64_t n, inner;
    bool descending;
    atomic_bool failed; /* out of memory in some line */
};

/* Where line `number` of a tensor begins, when its lines have `length` elements. */
static int64_t line_start(const lines_job *j, int64_t number, int64_t length) {
    return number / j->inner * length * j->inner + number % j->inner;
}

static void run_lines(void *context, int64_t begin, int64_t end) {
    lines_job *j = context;
    for (int64_t number = begin; number < end; number++) {
        line l = {j->x + line_start(j, number, j->n), j->n, j->inner, j->descending};
        if (j->task(j, number, &l)) j->failed = true;
    }
}

static lc_status each_line(const lc_call *call, bool descending, line_task task) {
    lc_tensor *x = call->in[0];
    int dim = call->attr->dim;
    lines_job j = {
        .call = call, .task = task, .n = dim < 0 ? lc_numel(x) : x->shape[dim], .inner = 1, .descending = descending};
    if (x->dtype != LC_F32 || j.n == 0 || j.n > UINT32_MAX) return cpu_on_ref(call);
    j.x = LC_DATA(float, x);
    for (int d = dim < 0 ? x->ndim : dim + 1; d < x->ndim; d++) j.inner *= x->shape[d];
    int64_t lines = lc_numel(x) / j.n;
    if (lines == 1) { /* all threads on one line */
        line l = {j.x, j.n, 1, descending};
        LC_TRY(task(&j, 0, &l));
        return lc_poll();
    }
    LC_TRY(lc_parallel_range(lines, cpu_row_grain(j.n), run_lines, &j));
    return j.failed ? lc_fail(LC_ENOMEM, "%s: out of memory", lc_op_name(call->op)) : LC_OK;
}

/* -- the kernels ------------------------------------------------------------------------------- */

static lc_status sort_line(const lines_job *j, int64_t number, const line *l) {
    lc_tensor *values = j->call->out[0], *indices = j->call->out[1];
    int64_t count = j->call->op == LC_OP_SORT ? l->n : j->call->attr->n, at = line_start(j, number, count);
    item *items = lc_alloc(sizeof *items * 2 * (size_t)count);
    if (!items) return LC_ENOMEM;
    lc_status status = count ? first_items(l, count, items, items + count) : LC_OK;
    for (int64_t i = 0; !status && i < count; i++) {
        if (values) LC_DATA(float, values)[at + i * j->inner] = l->x[items[i].index * l->stride];
        if (indices) LC_DATA(int64_t, indices)[at + i * j->inner] = items[i].index;
    }
    lc_free(items);
    return status;
}

lc_status cpu_sort(const lc_call *call) {
    return each_line(call, call->attr->descending, sort_line);
}

static lc_status kth_of_line(const lines_job *j, int64_t number, const line *l) {
    lc_tensor *value = j->call->out[0], *index = j->call->out[1];
    uint32_t key;
    int64_t before, rank = j->call->attr->n - 1;
    LC_TRY(select_key(l, rank, &key, &before));
    int64_t i = find_key(l, key, rank - before);
    if (value) LC_DATA(float, value)[number] = l->x[i * l->stride];
    if (index) LC_DATA(int64_t, index)[number] = i;
    return LC_OK;
}

lc_status cpu_kthvalue(const lc_call *call) {
    return each_line(call, false, kth_of_line);
}

static lc_status value_of_rank(const line *l, int64_t rank, double *out) {
    uint32_t key;
    int64_t before;
    LC_TRY(select_key(l, rank, &key, &before));
    *out = l->x[find_key(l, key, 0) * l->stride];
    return LC_OK;
}

/* Linear between the two neighbours of position a (n - 1). A line with a NaN gives NaN. */
static lc_status quantile_of_line(const lines_job *j, int64_t number, const line *l) {
    double position = j->call->attr->a * (double)(l->n - 1), low, high, last;
    int64_t below = (int64_t)position, above = lc_min(below + 1, l->n - 1);
    double share = position - (double)below;
    LC_TRY(value_of_rank(l, below, &low));
    LC_TRY(value_of_rank(l, above, &high));
    LC_TRY(value_of_rank(l, l->n - 1, &last));
    double value = share == 0 || low == high ? low : (1 - share) * low + share * high; /* infinite ends stay so */
    LC_DATA(float, j->call->out[0])[number] = isnan(last) ? NAN : (float)value;
    return LC_OK;
}

lc_status cpu_quantile(const lc_call *call) {
    return each_line(call, false, quantile_of_line);
}

typedef struct keep_job {
    const line *l;
    uint8_t *out; /* with the line's stride */
    uint32_t last;
    int64_t last_tie; /* index of the last one kept of those that equal the last key */
} keep_job;

static void write_keep(void *context, int64_t begin, int64_t end) {
    const keep_job k = *(const keep_job *)context;
    line l = *k.l;
    for (int64_t i = begin; i < end; i++) {
        uint32_t key = key_at(&l, i);
        k.out[i * l.stride] = (key < k.last) | ((key == k.last) & (i <= k.last_tie));
    }
}

static lc_status keep_of_line(const lines_job *j, int64_t number, const line *l) {
    int64_t count = j->call->attr->n, before;
    keep_job k = {.l = l, .out = LC_DATA(uint8_t, j->call->out[0]) + line_start(j, number, l->n), .last_tie = -1};
    if (count > 0) {
        LC_TRY(select_key(l, count - 1, &k.last, &before));
        k.last_tie = count == l->n ? l->n : find_key(l, k.last, count - 1 - before);
    }
    return lc_parallel_range(l->n, GRAIN, write_keep, &k);
}

lc_status cpu_keep(const lc_call *call) {
    return each_line(call, true, keep_of_line);
}
