/* schedule.c: knots and curves, and the tree of what is made from them. */
#include "schedule/schedule.h"

#include <math.h>

#include "base/memory.h"
#include "base/strbuf.h"

typedef enum kind { KNOTS, ADD, MULTIPLY, CLAMP, COMPOSE } kind;

struct lc_schedule {
    int64_t refs;
    kind kind;
    bool by_step;
    lc_curve curve; /* of KNOTS */
    int n;
    lc_knot *knots;     /* owned; with by_step, every knot has its step */
    lc_schedule *a, *b; /* retained: operands; outer and inner of COMPOSE */
    double low, high;   /* of CLAMP */
};

static lc_status schedule_new(kind k, lc_schedule *a, lc_schedule *b, lc_schedule **out) {
    lc_schedule *s = lc_calloc(1, sizeof *s);
    if (!s) return LC_ENOMEM;
    s->refs = 1;
    s->kind = k;
    s->a = a ? lc_schedule_retain(a) : NULL;
    s->b = b ? lc_schedule_retain(b) : NULL;
    s->by_step = (a && a->by_step) || (b && b->by_step);
    *out = s;
    return LC_OK;
}

lc_schedule *lc_schedule_retain(lc_schedule *s) {
    s->refs++;
    return s;
}

void lc_schedule_release(lc_schedule *s) {
    if (!s || --s->refs) return;
    lc_schedule_release(s->a);
    lc_schedule_release(s->b);
    lc_free(s->knots);
    lc_free(s);
}

/* A knot at share 0 is the first step, whichever way the others are given. */
static bool at_start(const lc_knot *k) {
    return k->step == 1 || (k->step == 0 && k->from == 0);
}

static lc_status check_knots(const lc_knot *knots, int n, lc_curve curve, bool by_step) {
    if (n < 1) return lc_fail(LC_EINVAL, "schedule: no knots; give at least one {value, from}");
    if (curve == LC_CURVE_HOLD && !at_start(&knots[0]))
        return lc_fail(LC_EINVAL, "schedule: the first knot must begin at 0: put {value, 0} in front");
    for (int i = 0; i < n; i++) {
        const lc_knot *k = &knots[i];
        if (!isfinite(k->value))
            return lc_fail(LC_EINVAL, "schedule: knot %d: the value is not a finite number", i + 1);
        if (k->step < 0) return lc_fail(LC_EINVAL, "schedule: knot %d: step counts from 1", i + 1);
        if (k->step == 0 && !(k->from >= 0 && k->from <= 1))
            return lc_fail(LC_EINVAL,
                           "schedule: knot %d: from = %g is not a share of training in 0..1; an optimizer step is "
                           "written {value, step = N}",
                           i + 1, k->from);
        if (by_step && k->step == 0 && !(i == 0 && k->from == 0))
            return lc_fail(LC_EINVAL, "schedule: knot %d: knots are given all by share or all by step", i + 1);
        if (i == 0) continue;
        const lc_knot *before = &knots[i - 1];
        bool later = by_step ? k->step > lc_max(before->step, 1) : k->from > before->from;
        if (!later) return lc_fail(LC_EINVAL, "schedule: knot %d must come after knot %d", i + 1, i);
    }
    return LC_OK;
}

lc_status lc_schedule_knots(const lc_knot *knots, int n, lc_curve curve, lc_schedule **out) {
    bool by_step = false;
    for (int i = 0; i < n; i++) by_step = by_step || knots[i].step > 0;
    LC_TRY(check_knots(knots, n, curve, by_step));
    lc_schedule *s;
    LC_TRY(schedule_new(KNOTS, NULL, NULL, &s));
    s->knots = lc_calloc((size_t)n, sizeof *s->knots);
    if (!s->knots) {
        lc_schedule_release(s);
        return LC_ENOMEM;
    }
    for (int i = 0; i < n; i++) {
        s->knots[i] = knots[i];
        if (by_step && knots[i].step == 0) s->knots[i].step = 1;
    }
    s->n = n;
    s->curve = curve;
    s->by_step = by_step;
    *out = s;
    return LC_OK;
}

lc_status lc_schedule_constant(double value, lc_schedule **out) {
    return lc_schedule_knots(&(lc_knot){.value = value}, 1, LC_CURVE_HOLD, out);
}

lc_status lc_schedule_add(lc_schedule *a, lc_schedule *b, lc_schedule **out) {
    return schedule_new(ADD, a, b, out);
}

lc_status lc_schedule_multiply(lc_schedule *a, lc_schedule *b, lc_schedule **out) {
    return schedule_new(MULTIPLY, a, b, out);
}

lc_status lc_schedule_clamp(lc_schedule *a, double low, double high, lc_schedule **out) {
    if (!(low <= high)) return lc_fail(LC_EINVAL, "schedule: clamp: low = %g is above high = %g", low, high);
    lc_schedule *s;
    LC_TRY(schedule_new(CLAMP, a, NULL, &s));
    s->low = low;
    s->high = high;
    *out = s;
    return LC_OK;
}

lc_status lc_schedule_compose(lc_schedule *outer, lc_schedule *inner, lc_schedule **out) {
    if (outer->by_step)
        return lc_fail(LC_EINVAL, "schedule: compose: the outer schedule has knots by step; give them by share");
    return schedule_new(COMPOSE, outer, inner, out);
}

/* The value between knots a and b, s of the way. */
static double between(lc_curve curve, double a, double b, double s) {
    switch (curve) {
    case LC_CURVE_LINEAR:
        return a + (b - a) * s;
    case LC_CURVE_CUBIC:
        return b + (a - b) * (1 - s) * (1 - s) * (1 - s);
    case LC_CURVE_COSINE:
        return a + (b - a) * (1 - cos(M_PI * s)) / 2;
    case LC_CURVE_HOLD:
        break;
    }
    return a;
}

static double knots_at(const lc_schedule *s, double progress, int64_t step) {
    int last = -1; /* the last knot that has taken effect */
    for (int i = 0; i < s->n; i++)
        if (s->by_step ? step >= s->knots[i].step : progress >= s->knots[i].from) last = i;
    if (last < 0) return s->knots[0].value;
    const lc_knot *a = &s->knots[last], *b = a + 1;
    if (last == s->n - 1) return a->value;
    double way = s->by_step ? (double)(step - a->step) / (double)(b->step - a->step)
                            : (progress - a->from) / (b->from - a->from);
    return between(s->curve, a->value, b->value, way);
}

double lc_schedule_at(const lc_schedule *s, double progress, int64_t step) {
    switch (s->kind) {
    case KNOTS:
        return knots_at(s, progress, step);
    case ADD:
        return lc_schedule_at(s->a, progress, step) + lc_schedule_at(s->b, progress, step);
    case MULTIPLY:
        return lc_schedule_at(s->a, progress, step) * lc_schedule_at(s->b, progress, step);
    case CLAMP:
        return fmin(fmax(lc_schedule_at(s->a, progress, step), s->low), s->high);
    case COMPOSE:
        return lc_schedule_at(s->a, lc_schedule_at(s->b, progress, step), 0);
    }
    return NAN;
}

bool lc_schedule_by_step(const lc_schedule *s) {
    return s->by_step;
}

static void print_knots(const lc_schedule *s, int digits, lc_strbuf *b) {
    static const char *const curves[] = {"schedule", "linear ramp", "cubic ramp", "cosine ramp"};
    if (s->n == 1 && s->curve == LC_CURVE_HOLD) {
        lc_strbuf_printf(b, "%.*g", digits, s->knots[0].value);
        return;
    }
    lc_strbuf_puts(b, curves[s->curve]);
    for (int i = 0; i < s->n; i++) {
        const lc_knot *k = &s->knots[i];
        if (s->by_step)
            lc_strbuf_printf(b, "%s {%.*g, step %lld}", i ? "," : "", digits, k->value, (long long)k->step);
        else
            lc_strbuf_printf(b, "%s {%.*g, from %.*g}", i ? "," : "", digits, k->value, digits, k->from);
    }
}

static void print(const lc_schedule *s, int digits, lc_strbuf *b) {
    if (s->kind == KNOTS) {
        print_knots(s, digits, b);
        return;
    }
    static const char *const words[] = {"", " + ", " * ", "", " at "};
    lc_strbuf_puts(b, "(");
    print(s->a, digits, b);
    if (s->b) {
        lc_strbuf_puts(b, words[s->kind]);
        print(s->b, digits, b);
    } else
        lc_strbuf_printf(b, " within %.*g..%.*g", digits, s->low, digits, s->high);
    lc_strbuf_puts(b, ")");
}

lc_status lc_schedule_text(const lc_schedule *s, int digits, char **out) {
    lc_strbuf b = {0};
    print(s, digits, &b);
    return lc_strbuf_take(&b, out, NULL);
}

double lc_rate_factor(lc_decay decay, const lc_schedule *s, int64_t warmup, int64_t t, int64_t n) {
    int64_t done = t - 1;
    double warm = done < warmup ? (double)done / (double)warmup : 1.0;
    if (decay == LC_DECAY_SCHEDULE) return warm * lc_schedule_at(s, lc_progress(t, n), t);
    if (done < warmup || decay == LC_DECAY_CONSTANT) return warm;
    double left = (double)lc_max(n - warmup, 1);
    if (decay == LC_DECAY_LINEAR) return fmax(0.0, (double)(n - done) / left);
    return fmax(0.0, 0.5 * (1 + cos(M_PI * (double)(done - warmup) / left)));
}
