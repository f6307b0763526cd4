/* options.c: the options of a training loop as texts, and their comparison. */
#include "run/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static lc_status set(json_t *object, const char *name, const char *text) {
    if (json_object_set_new(object, name, json_string(text)))
        return lc_fail(LC_ENOMEM, "out of memory while describing a training loop");
    return LC_OK;
}

static lc_status set_integer(json_t *object, const char *name, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return set(object, name, text);
}

/* The shortest decimal form that reads back as the same number. */
static const char *number(double x, char text[32]) {
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    return text;
}

static lc_status set_number(json_t *object, const char *name, double value) {
    char text[32];
    return set(object, name, number(value, text));
}

static const char *optimizer_name(const lc_recipe *r) {
    return r->optimizer == LC_ADAMW ? "adamw" : "sgd";
}

static lc_status set_betas(json_t *object, const lc_recipe *r) {
    char text[80], one[32], two[32];
    snprintf(text, sizeof text, "{%s, %s}", number(r->beta1, one), number(r->beta2, two));
    return set(object, "betas", text);
}

static lc_status set_recipe(json_t *object, const lc_recipe *r) {
    LC_TRY(set(object, "optimizer", optimizer_name(r)));
    LC_TRY(set_number(object, "lr", r->lr));
    LC_TRY(set_betas(object, r));
    LC_TRY(set_number(object, "eps", r->eps));
    LC_TRY(set_number(object, "momentum", r->momentum));
    return set_number(object, "weight_decay", r->weight_decay);
}

static lc_status set_schedule(json_t *object, const lc_trainer_options *o) {
    static const char *const names[] = {"constant", "linear", "cosine"};
    if (o->decay != LC_DECAY_SCHEDULE) return set(object, "lr_schedule", names[o->decay]);
    char *text;
    LC_TRY(lc_schedule_text(o->schedule, 17, &text));
    lc_status status = set(object, "lr_schedule", text);
    lc_free(text);
    return status;
}

static bool same_recipe(const lc_recipe *a, const lc_recipe *b) {
    return a->optimizer == b->optimizer && a->lr == b->lr && a->beta1 == b->beta1 && a->beta2 == b->beta2 &&
           a->eps == b->eps && a->momentum == b->momentum && a->weight_decay == b->weight_decay &&
           a->decay_all == b->decay_all;
}

/* What a tensor of a group has of its own. */
static lc_status set_group(json_t *object, const lc_slot *s) {
    const lc_recipe *r = &s->recipe;
    char name[1024], text[256], lr[32], one[32], two[32], eps[32], momentum[32], decay[32];
    snprintf(name, sizeof name, "groups: %s", s->name);
    snprintf(text, sizeof text, "%s, lr %s, betas {%s, %s}, eps %s, momentum %s, weight_decay %s", optimizer_name(r),
             number(r->lr, lr), number(r->beta1, one), number(r->beta2, two), number(r->eps, eps),
             number(r->momentum, momentum), number(s->decays ? r->weight_decay : 0, decay));
    return set(object, name, text);
}

static lc_status describe(const lc_trainer *t, json_t *object) {
    const lc_trainer_options *o = &t->options;
    LC_TRY(set_integer(object, "steps", o->steps));
    LC_TRY(set_integer(object, "start", o->start));
    LC_TRY(set_integer(object, "accumulate", o->accumulate));
    LC_TRY(set_schedule(object, o));
    LC_TRY(set_integer(object, "warmup", o->warmup));
    LC_TRY(o->clip > 0 ? set_number(object, "clip", o->clip) : set(object, "clip", "false"));
    LC_TRY(set_recipe(object, &o->recipe));
    if (t->loader) LC_TRY(set_integer(object, "batch", t->reading.batch));
    if (t->loader) LC_TRY(set_integer(object, "seed", (int64_t)t->reading.seed));
    for (int64_t i = 0; i < t->optim.n; i++)
        if (!same_recipe(&t->optim.slots[i].recipe, &o->recipe)) LC_TRY(set_group(object, &t->optim.slots[i]));
    return LC_OK;
}

lc_status lc_trainer_describe(const lc_trainer *t, json_t **out) {
    json_t *object = json_object();
    if (!object) return lc_fail(LC_ENOMEM, "out of memory while describing a training loop");
    lc_status status = describe(t, object);
    if (status)
        json_decref(object);
    else
        *out = object;
    return status;
}

static lc_status compare_one(const char *name, const json_t *before, const json_t *now, const char *where) {
    const char *was = json_string_value(before), *is = json_string_value(now);
    if (was && is && strcmp(was, is) == 0) return LC_OK;
    return lc_fail(LC_EINVAL,
                   "%s: option '%s' was %s when this training loop was stored, and is %s now; set it back, or start a "
                   "new run without --resume",
                   where, name, was ? was : "not given", is ? is : "not given");
}

lc_status lc_compare_options(const json_t *stored, const json_t *present, const char *where) {
    const char *name;
    json_t *text;
    json_object_foreach((json_t *)present, name, text)
        LC_TRY(compare_one(name, json_object_get(stored, name), text, where));
    json_object_foreach((json_t *)stored, name, text)
        LC_TRY(compare_one(name, text, json_object_get(present, name), where));
    return LC_OK;
}
