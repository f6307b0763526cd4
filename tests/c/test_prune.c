/* test_prune.c: exact counts against sorting, and pruning a small model through every failing allocation. */
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "check.h"
#include "ops/op.h"
#include "solve/magnitude.h"
#include "solve/select.h"
#include "tiny.h"
#include <stdlib.h>

/* -- select.h against the definition: sort by score, held first, of equal ones the higher index first -- */

#define MOST 400
static double score[MOST];
static uint8_t held[MOST], kept[MOST], wanted[MOST];
static bool absolute;

static double rank_of(int i) {
    return !held[i] ? -INFINITY : absolute ? fabs(score[i]) : score[i];
}

static int by_rank(const void *a, const void *b) {
    int i = *(const int *)a, k = *(const int *)b;
    if (rank_of(i) != rank_of(k)) return rank_of(i) < rank_of(k) ? -1 : 1;
    return k - i;
}

/* wanted[start..start+n) by sorting. */
static void want_lowest(int start, int n, int pruned) {
    int order[MOST], already = 0;
    for (int i = 0; i < n; i++) {
        order[i] = start + i;
        already += !held[start + i];
        wanted[start + i] = 1;
    }
    qsort(order, (size_t)n, sizeof *order, by_rank);
    for (int i = 0; i < (pruned > already ? pruned : already); i++) wanted[order[i]] = 0;
}

static void draw(lc_stream *stream, int n, bool ties) {
    for (int i = 0; i < n; i++) {
        double x = lc_stream_normal(stream);
        score[i] = ties ? floor(2 * x) / 2 : (double)(float)x;
        held[i] = lc_stream_below(stream, 4) > 0;
    }
}

static void test_select(void) {
    lc_stream stream = lc_stream_make(3, "select");
    float narrow[MOST];
    for (int round = 0; round < 300; round++) {
        int n = 1 + (int)lc_stream_below(&stream, MOST), pruned = (int)lc_stream_below(&stream, (uint64_t)n + 1);
        int cut = (int)lc_stream_below(&stream, (uint64_t)n);
        bool wide = round % 2, ties = round % 3 == 0;
        absolute = round % 5 == 0;
        draw(&stream, n, ties);
        for (int i = 0; i < n; i++) narrow[i] = (float)score[i];
        lc_ranked whole = {wide ? LC_F64 : LC_F32, wide ? (void *)score : (void *)narrow, absolute, held, kept, n};
        lc_ranked parts[2] = {lc_ranked_part(&whole, 0, cut), lc_ranked_part(&whole, cut, n - cut)};
        want_lowest(0, n, pruned);
        CHECK_OK(lc_prune_lowest(parts, 2, pruned));
        CHECK(memcmp(kept, wanted, (size_t)n) == 0);
    }
}

static void test_groups(void) {
    lc_stream stream = lc_stream_make(3, "groups");
    for (int round = 0; round < 60; round++) {
        int m = 1 + (int)lc_stream_below(&stream, 8), stay = (int)lc_stream_below(&stream, (uint64_t)m + 1);
        int n = m * 20;
        absolute = round % 2;
        draw(&stream, n, round % 3 == 0);
        lc_ranked whole = {LC_F64, score, absolute, round % 4 ? held : NULL, kept, n};
        if (!whole.held) memset(held, 1, sizeof held);
        for (int start = 0; start < n; start += m) want_lowest(start, m, m - stay);
        CHECK_OK(lc_prune_groups(&whole, stay, m));
        CHECK(memcmp(kept, wanted, (size_t)n) == 0);
    }
}

/* Infinities rank like numbers, -0 like 0, and what is held ranks below even -inf. */
static void test_extremes(void) {
    float x[] = {INFINITY, -0.0f, 0.0f, -INFINITY, 1, -1};
    uint8_t may[] = {0, 1, 1, 1, 1, 1}, keep[6];
    lc_ranked r = {LC_F32, x, false, may, keep, 6};
    CHECK_OK(lc_prune_lowest(&r, 1, 4));
    CHECK(memcmp(keep, (uint8_t[]){0, 1, 0, 0, 1, 0}, 6) == 0);
    CHECK_OK(lc_prune_lowest(&r, 1, 0));
    CHECK(memcmp(keep, (uint8_t[]){0, 1, 1, 1, 1, 1}, 6) == 0);
    CHECK_OK(lc_prune_lowest(&r, 1, 6));
    CHECK(memcmp(keep, (uint8_t[]){0, 0, 0, 0, 0, 0}, 6) == 0);
    x[4] = NAN;
    CHECK(lc_ranked_nan(&r) == 4);
}

/* -- on a model -- */

static const lc_prune_options half = {.sparsity = 0.5, .apply = true, .hold = true};

static void test_regrow(void) {
    lc_model *m = tiny_model(2, LC_F32);
    lc_selection *layers = NULL;
    lc_mask *first = NULL, *second = NULL, *third = NULL;
    CHECK_OK(lc_select_matching(m, LC_PART_LINEAR, "mlp.up", &layers));
    lc_param *p = lc_selected_layer(layers, 0)->weight;
    lc_tensor *before = NULL;
    CHECK_OK(lc_run(LC_OP_COPY, &(lc_attr){.dtype = LC_F32}, &p->leaf, 1, &before));
    lc_prune_options o = half;
    o.keep_values = true;
    CHECK_OK(lc_prune_magnitude(layers, &o, &first));
    CHECK(zeros_of(layers) == 2 * 72);
    o.sparsity = 0.25;
    CHECK_OK(lc_prune_magnitude(layers, &o, &second)); /* below what is held: nothing changes */
    CHECK(zeros_of(layers) == 2 * 72);
    o.regrow = true;
    CHECK_OK(lc_prune_magnitude(layers, &o, &third));
    CHECK(zeros_of(layers) == 2 * 36);
    for (int64_t i = 0; i < 144; i++) {
        float w = LC_DATA(float, p->leaf)[i];
        CHECK(w == 0 || w == LC_DATA(float, before)[i]); /* what came back has its old value */
    }
    lc_tensor_release(before);
    lc_mask_release(first);
    lc_mask_release(second);
    lc_mask_release(third);
    lc_selection_release(layers);
    lc_model_release(m);
}

/* Out of memory anywhere: a clear status, nothing leaked, and every weight as it was. */
static void test_failing_allocations(void) {
    lc_model *m = tiny_model(2, LC_F32);
    lc_selection *layers = NULL;
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    lc_prune_options o = half;
    o.keep_values = o.regrow = true;
    for (uint64_t n = 1;; n++) {
        size_t before = lc_memory_get().live;
        lc_mask *mask = NULL;
        lc_memory_fail_at(n);
        lc_status status = lc_prune_magnitude(layers, &o, &mask);
        lc_memory_fail_at(0);
        if (!status) {
            CHECK(n > 50);
            CHECK(zeros_of(layers) == 432);
            lc_mask_release(mask);
            break;
        }
        CHECK(status == LC_ENOMEM && mask == NULL);
        CHECK(lc_memory_get().live == before);
        CHECK(zeros_of(layers) == 0);
    }
    lc_selection_release(layers);
    lc_model_release(m);
}

static void test_interruption(void) {
    lc_model *m = tiny_model(2, LC_F32);
    lc_selection *layers = NULL;
    lc_mask *mask = NULL;
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    lc_cancel();
    CHECK_MESSAGE(lc_prune_magnitude(layers, &half, &mask), LC_ECANCEL, "interrupted");
    lc_cancel_clear();
    CHECK(zeros_of(layers) == 0);
    lc_selection_release(layers);
    lc_model_release(m);
}

int main(void) {
    test_select();
    test_groups();
    test_extremes();
    test_regrow();
    test_failing_allocations();
    test_interruption();
    return check_done();
}
