/* test_optim.c: updates against PyTorch's formulas written out, norms, held masks, skipping. */
#include "check.h"

#include "base/memory.h"
#include "base/pool.h"
#include "grad/graph.h"
#include "optim/optim.h"

#define N 6

static lc_tensor *vector(const double *x, bool matrix) {
    lc_tensor *t = NULL;
    CHECK_OK(lc_tensor_new(LC_F64, matrix ? 2 : 1, matrix ? (int64_t[]){2, N / 2} : (int64_t[]){N}, LC_CPU, &t));
    for (int i = 0; i < N; i++) LC_DATA(double, t)[i] = x[i];
    return t;
}

static const double start[N] = {0.5, -1, 2, 0.1, -0.3, 0.7};

/* The gradient that step t brings. */
static double gradient(int t, int i) {
    return sin(3.0 * t + i) * (i + 1);
}

static void give_gradient(lc_tensor *leaf, int t) {
    double g[N];
    for (int i = 0; i < N; i++) g[i] = gradient(t, i);
    lc_clear_grad(leaf);
    leaf->grad = vector(g, leaf->ndim == 2);
}

/* What torch.optim.AdamW and SGD do, in their order of operations, in plain numbers. */
static void expect(const lc_recipe *r, double decay, double scale, int steps, const bool *keep, double *w) {
    double m[N] = {0}, v[N] = {0};
    memcpy(w, start, sizeof start);
    for (int t = 1; t <= steps; t++) {
        for (int i = 0; i < N; i++) {
            if (keep && !keep[i]) {
                w[i] = 0;
                continue;
            }
            double g = gradient(t, i) * scale;
            if (r->optimizer == LC_SGD) {
                g += decay * w[i];
                m[i] = t == 1 ? g : r->momentum * m[i] + g;
                w[i] -= r->lr * m[i];
                continue;
            }
            w[i] *= 1 - r->lr * decay;
            m[i] += (1 - r->beta1) * (g - m[i]);
            v[i] = r->beta2 * v[i] + (1 - r->beta2) * g * g;
            double denominator = sqrt(v[i]) / sqrt(1 - pow(r->beta2, t)) + r->eps;
            w[i] -= r->lr / (1 - pow(r->beta1, t)) * m[i] / denominator;
        }
    }
}

static const lc_recipe adamw = {
    .optimizer = LC_ADAMW, .lr = 0.05, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
static const lc_recipe sgd = {.optimizer = LC_SGD, .lr = 0.05, .momentum = 0.9, .weight_decay = 0.1};

/* Ten steps of a matrix (which decays) and a vector (which does not). */
static void follows_the_formulas(const lc_recipe *recipe) {
    lc_optim o = {0};
    lc_tensor *leaf[2] = {vector(start, true), vector(start, false)};
    for (int k = 0; k < 2; k++) {
        CHECK_OK(lc_require_grad(leaf[k], true));
        CHECK_OK(lc_optim_add(&o, k ? "bias" : "weight", leaf[k], NULL, recipe, NULL));
    }
    for (int t = 1; t <= 10; t++) {
        for (int k = 0; k < 2; k++) give_gradient(leaf[k], t);
        CHECK_OK(lc_optim_update(&o, 1, 0.5));
        CHECK(leaf[0]->grad == NULL);
    }
    for (int k = 0; k < 2; k++) {
        double want[N];
        expect(recipe, k ? 0 : recipe->weight_decay, 0.5, 10, NULL, want);
        for (int i = 0; i < N; i++) CHECK_NEAR(LC_DATA(double, leaf[k])[i], want[i], 1e-12);
        CHECK(o.slots[k].updates == 10);
        lc_tensor_release(leaf[k]);
    }
    lc_optim_close(&o);
}

static void a_held_mask_survives(const lc_recipe *recipe) {
    lc_optim o = {0};
    lc_param p = {0};
    bool keep[N] = {true, false, true, true, false, true};
    lc_tensor *leaf = vector(start, true), *mask = NULL;
    CHECK_OK(lc_param_init(&p, "weight", leaf, false));
    CHECK_OK(lc_tensor_new(LC_BOOL, 2, (int64_t[]){2, N / 2}, LC_CPU, &mask));
    for (int i = 0; i < N; i++) lc_set_i64(mask, i, keep[i]);
    CHECK_OK(lc_param_hold_bools(&p, mask, false));
    CHECK_OK(lc_optim_add(&o, p.name, p.leaf, &p, recipe, NULL));
    double norm = 0, square = 0, want[N];
    give_gradient(leaf, 1);
    for (int i = 0; i < N; i++) square += keep[i] ? gradient(1, i) * gradient(1, i) : 0;
    CHECK_OK(lc_optim_norm(&o, &norm));
    CHECK_NEAR(norm, sqrt(square), 1e-12);
    for (int t = 1; t <= 10; t++) {
        give_gradient(leaf, t);
        CHECK_OK(lc_optim_update(&o, 1, 1));
    }
    expect(recipe, recipe->weight_decay, 1, 10, keep, want);
    for (int i = 0; i < N; i++) {
        CHECK_NEAR(LC_DATA(double, leaf)[i], want[i], 1e-12);
        if (!keep[i]) CHECK(LC_DATA(double, leaf)[i] == 0 && LC_DATA(double, o.slots[0].m)[i] == 0);
    }
    CHECK(p.held_version == leaf->storage->version);
    lc_optim_close(&o);
    lc_param_close(&p);
    lc_tensor_release(mask);
    lc_tensor_release(leaf);
}

static void skips(void) {
    lc_optim o = {0};
    lc_tensor *leaf[2] = {vector(start, false), vector(start, false)};
    for (int k = 0; k < 2; k++) {
        CHECK_OK(lc_require_grad(leaf[k], true));
        CHECK_OK(lc_optim_add(&o, k ? "b" : "a", leaf[k], NULL, &adamw, NULL));
        give_gradient(leaf[k], 1);
    }
    CHECK_OK(lc_optim_update(&o, 1, 1));
    double before[N], m[N], norm = 1;
    memcpy(before, lc_data(leaf[0]), sizeof before);
    memcpy(m, lc_data(o.slots[0].m), sizeof m);
    o.slots[0].skip = LC_SKIP_FREEZE;
    o.slots[1].skip = LC_SKIP_GRAD;
    give_gradient(leaf[0], 2);
    CHECK_OK(lc_optim_norm(&o, &norm));
    CHECK(norm == 0);
    CHECK_OK(lc_optim_update(&o, 1, 1));
    CHECK(memcmp(before, lc_data(leaf[0]), sizeof before) == 0);
    CHECK(memcmp(m, lc_data(o.slots[0].m), sizeof m) == 0);
    CHECK(o.slots[0].updates == 1 && o.slots[1].updates == 2);
    for (int i = 0; i < N; i++) CHECK_NEAR(LC_DATA(double, o.slots[1].m)[i], 0.9 * m[i], 1e-15);
    CHECK(o.slots[0].skip == LC_SKIP_NO && o.slots[1].skip == LC_SKIP_NO);
    /* No gradient: nothing happens, moments and count included. */
    CHECK_OK(lc_optim_update(&o, 1, 1));
    CHECK(o.slots[1].updates == 2);
    for (int k = 0; k < 2; k++) lc_tensor_release(leaf[k]);
    lc_optim_close(&o);
}

static void names_what_is_wrong(void) {
    lc_optim o = {0};
    lc_tensor *a = vector(start, false), *b = vector(start, false);
    CHECK_OK(lc_require_grad(a, true));
    CHECK_OK(lc_optim_add(&o, "first", a, NULL, &sgd, NULL));
    CHECK_MESSAGE(lc_optim_add(&o, "first", b, NULL, &sgd, NULL), LC_EINVAL, "two tensors are called 'first'");
    CHECK_OK(lc_optim_add(&o, "second", b, NULL, &sgd, NULL));
    CHECK_OK(lc_optim_add(&o, "first", a, NULL, &adamw, NULL));
    CHECK(o.n == 2 && o.slots[0].recipe.optimizer == LC_SGD);
    double norm;
    give_gradient(a, 1);
    give_gradient(b, 1);
    LC_DATA(double, b->grad)[3] = NAN;
    CHECK_MESSAGE(lc_optim_norm(&o, &norm), LC_ENUMERIC, "the gradient of second is not finite");
    const char *bad = NULL;
    CHECK_OK(lc_optim_first_bad(&o, &bad));
    CHECK(bad == NULL);
    LC_DATA(double, a)[0] = INFINITY;
    CHECK_OK(lc_optim_first_bad(&o, &bad));
    CHECK(bad && strcmp(bad, "first") == 0);
    lc_optim_remove(&o, 0);
    CHECK(o.n == 1 && strcmp(o.slots[0].name, "second") == 0);
    lc_tensor_release(a);
    lc_tensor_release(b);
    lc_optim_close(&o);
}

/* Cancelled before the pass nothing has changed; the pass itself does not look. */
static void is_not_interrupted(void) {
    lc_optim o = {0};
    lc_tensor *a = vector(start, false);
    CHECK_OK(lc_require_grad(a, true));
    CHECK_OK(lc_optim_add(&o, "a", a, NULL, &adamw, NULL));
    give_gradient(a, 1);
    lc_cancel();
    CHECK(lc_optim_update(&o, 1, 1) == LC_ECANCEL);
    CHECK(memcmp(lc_data(a), start, sizeof start) == 0 && o.slots[0].updates == 0);
    lc_cancel_clear();
    CHECK_OK(lc_optim_update(&o, 1, 1));
    CHECK(o.slots[0].updates == 1);
    lc_tensor_release(a);
    lc_optim_close(&o);
}

static void clips(void) {
    CHECK(lc_clip_factor(10, 0) == 1);
    CHECK(lc_clip_factor(0.5, 1) == 1);
    CHECK_NEAR(lc_clip_factor(4, 1), 1 / (4 + 1e-6), 1e-15);
}

int main(void) {
    size_t before = lc_memory_get().live;
    follows_the_formulas(&adamw);
    follows_the_formulas(&sgd);
    a_held_mask_survives(&adamw);
    a_held_mask_survives(&sgd);
    skips();
    names_what_is_wrong();
    is_not_interrupted();
    clips();
    CHECK(lc_memory_get().live == before);
    return check_done();
}
