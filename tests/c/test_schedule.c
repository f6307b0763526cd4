/* test_schedule.c: knots, ramps and learning-rate curves against their definitions and transformers' figures. */
#include "check.h"

#include "base/memory.h"
#include "schedule/schedule.h"

static lc_schedule *knots(const lc_knot *k, int n, lc_curve curve) {
    lc_schedule *s = NULL;
    CHECK_OK(lc_schedule_knots(k, n, curve, &s));
    return s;
}

/* {0.0, 0}, {0.9, from}: the first step of n at 0.9 must be the first t with (t - 1) / n >= from, for every n and
 * share. */
static void switches_at_the_exact_step(void) {
    int wrong = 0;
    for (int64_t n = 1; n <= 240; n++) {
        for (int64_t k = 0; k <= n; k++) {
            double from = (double)k / (double)n;
            lc_knot two[] = {{0.0, 0, 0}, {0.9, from, 0}};
            lc_schedule *s = NULL;
            if (k == 0) continue;
            if (lc_schedule_knots(two, 2, LC_CURVE_HOLD, &s)) {
                wrong++;
                continue;
            }
            for (int64_t t = 1; t <= n; t++) wrong += (lc_schedule_at(s, lc_progress(t, n), t) == 0.9) != (t - 1 >= k);
            lc_schedule_release(s);
        }
    }
    CHECK(wrong == 0);
    lc_knot tenth[] = {{0, 0, 0}, {1, 0.3, 0}}; /* 0.3 * 10 rounds to 3, and 3 / 10 is 0.3 as a double */
    lc_schedule *s = knots(tenth, 2, LC_CURVE_HOLD);
    CHECK(lc_schedule_at(s, lc_progress(3, 10), 3) == 0);
    CHECK(lc_schedule_at(s, lc_progress(4, 10), 4) == 1);
    lc_schedule_release(s);
}

static void absolute_steps(void) {
    lc_knot k[] = {{0.0, 0, 0}, {0.5, 0, 500}, {0.9, 0, 501}};
    lc_schedule *s = knots(k, 3, LC_CURVE_HOLD);
    CHECK(lc_schedule_by_step(s));
    CHECK(lc_schedule_at(s, 0.99, 499) == 0.0);
    CHECK(lc_schedule_at(s, 0.0, 500) == 0.5);
    CHECK(lc_schedule_at(s, 0.0, 501) == 0.9);
    lc_schedule_release(s);
    lc_knot r[] = {{2.0, 0, 0}, {4.0, 0, 101}};
    s = knots(r, 2, LC_CURVE_LINEAR);
    CHECK(lc_schedule_at(s, 0, 1) == 2.0);
    CHECK(lc_schedule_at(s, 0, 51) == 3.0);
    CHECK(lc_schedule_at(s, 0, 101) == 4.0);
    CHECK(lc_schedule_at(s, 0, 9999) == 4.0);
    lc_schedule_release(s);
}

static void ramps(void) {
    lc_knot k[] = {{1.0, 0.2, 0}, {3.0, 0.6, 0}};
    lc_schedule *linear = knots(k, 2, LC_CURVE_LINEAR), *cubic = knots(k, 2, LC_CURVE_CUBIC),
                *cosine = knots(k, 2, LC_CURVE_COSINE);
    lc_schedule *all[] = {linear, cubic, cosine};
    for (int i = 0; i < 3; i++) {
        CHECK(lc_schedule_at(all[i], 0.0, 1) == 1.0);
        CHECK(lc_schedule_at(all[i], 0.2, 1) == 1.0);
        CHECK(lc_schedule_at(all[i], 0.6, 1) == 3.0);
        CHECK(lc_schedule_at(all[i], 1.0, 1) == 3.0);
    }
    CHECK_NEAR(lc_schedule_at(linear, 0.3, 1), 1.5, 1e-12);
    CHECK_NEAR(lc_schedule_at(cubic, 0.3, 1), 3 - 2 * 0.75 * 0.75 * 0.75, 1e-12);
    CHECK_NEAR(lc_schedule_at(cosine, 0.4, 1), 2.0, 1e-12);
    CHECK_NEAR(lc_schedule_at(cosine, 0.3, 1), 1 + (1 - sqrt(0.5)), 1e-12);

    lc_schedule *sum = NULL, *product = NULL, *kept = NULL, *late = NULL, *two = NULL;
    CHECK_OK(lc_schedule_constant(2, &two));
    CHECK_OK(lc_schedule_add(linear, two, &sum));
    CHECK_OK(lc_schedule_multiply(sum, two, &product));
    CHECK_OK(lc_schedule_clamp(product, 7, 8, &kept));
    CHECK_NEAR(lc_schedule_at(product, 0.3, 1), 7.0, 1e-12);
    CHECK(lc_schedule_at(kept, 0.0, 1) == 7.0);
    CHECK(lc_schedule_at(kept, 1.0, 1) == 8.0);
    lc_knot half[] = {{0.0, 0.5, 0}, {1.0, 1.0, 0}}; /* waits for half of training, then runs twice as fast */
    lc_schedule *clock = knots(half, 2, LC_CURVE_LINEAR);
    CHECK_OK(lc_schedule_compose(linear, clock, &late));
    CHECK(lc_schedule_at(late, 0.5, 1) == 1.0);
    CHECK_NEAR(lc_schedule_at(late, 0.7, 1), lc_schedule_at(linear, 0.4, 1), 1e-12);
    char *text = NULL;
    CHECK_OK(lc_schedule_text(kept, 6, &text));
    CHECK(text && strcmp(text, "(((linear ramp {1, from 0.2}, {3, from 0.6} + 2) * 2) within 7..8)") == 0);
    lc_free(text);
    lc_schedule *made[] = {linear, cubic, cosine, sum, product, kept, late, two, clock};
    for (int i = 0; i < 9; i++) lc_schedule_release(made[i]);
}

static void refuses(void) {
    lc_schedule *s = NULL;
    lc_knot late[] = {{0.9, 0.25, 0}};
    CHECK_MESSAGE(lc_schedule_knots(late, 1, LC_CURVE_HOLD, &s), LC_EINVAL, "the first knot must begin at 0");
    lc_knot wide[] = {{0, 0, 0}, {1, 500, 0}};
    CHECK_MESSAGE(lc_schedule_knots(wide, 2, LC_CURVE_HOLD, &s), LC_EINVAL, "step = N");
    lc_knot mixed[] = {{0, 0, 0}, {1, 0.5, 0}, {2, 0, 500}};
    CHECK_MESSAGE(lc_schedule_knots(mixed, 3, LC_CURVE_HOLD, &s), LC_EINVAL, "all by share or all by step");
    lc_knot back[] = {{0, 0, 0}, {1, 0.5, 0}, {2, 0.5, 0}};
    CHECK_MESSAGE(lc_schedule_knots(back, 3, LC_CURVE_LINEAR, &s), LC_EINVAL, "knot 3 must come after knot 2");
    lc_knot nan[] = {{NAN, 0, 0}};
    CHECK_MESSAGE(lc_schedule_knots(nan, 1, LC_CURVE_HOLD, &s), LC_EINVAL, "not a finite number");
    CHECK_MESSAGE(lc_schedule_knots(nan, 0, LC_CURVE_HOLD, &s), LC_EINVAL, "no knots");
    CHECK(s == NULL);
}

/* transformers.get_{linear,cosine}_schedule_with_warmup(warmup 3, training steps 10), and constant with warm-up. */
static void rates(void) {
    static const double linear[] = {0, 1 / 3.0, 2 / 3.0, 1, 6 / 7.0, 5 / 7.0, 4 / 7.0, 3 / 7.0, 2 / 7.0, 1 / 7.0};
    for (int t = 1; t <= 10; t++) {
        CHECK_NEAR(lc_rate_factor(LC_DECAY_LINEAR, NULL, 3, t, 10), linear[t - 1], 1e-15);
        double turn = t <= 3 ? (t - 1) / 3.0 : 0.5 * (1 + cos(M_PI * (t - 4) / 7.0));
        CHECK_NEAR(lc_rate_factor(LC_DECAY_COSINE, NULL, 3, t, 10), turn, 1e-15);
        CHECK_NEAR(lc_rate_factor(LC_DECAY_CONSTANT, NULL, 3, t, 10), t <= 3 ? (t - 1) / 3.0 : 1, 1e-15);
        CHECK(lc_rate_factor(LC_DECAY_CONSTANT, NULL, 0, t, 10) == 1);
    }
    lc_knot k[] = {{1.0, 0, 0}, {0.1, 0.5, 0}};
    lc_schedule *s = knots(k, 2, LC_CURVE_HOLD);
    CHECK(lc_rate_factor(LC_DECAY_SCHEDULE, s, 2, 1, 10) == 0);
    CHECK(lc_rate_factor(LC_DECAY_SCHEDULE, s, 2, 2, 10) == 0.5);
    CHECK(lc_rate_factor(LC_DECAY_SCHEDULE, s, 2, 5, 10) == 1);
    CHECK(lc_rate_factor(LC_DECAY_SCHEDULE, s, 2, 6, 10) == 0.1);
    lc_schedule_release(s);
}

int main(void) {
    size_t before = lc_memory_get().live;
    switches_at_the_exact_step();
    absolute_steps();
    ramps();
    refuses();
    rates();
    CHECK(lc_memory_get().live == before);
    return check_done();
}
