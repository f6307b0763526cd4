/* test_checkpoint.c: what a checkpoint stores comes back bit for bit, and files that do not fit are refused by name. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/safetensors.h"
#include "run/checkpoint.h"

static char path[] = "/tmp/lacuna-checkpoint-XXXXXX";

static lc_model *make_model(int width) {
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:f}", "model_type", "gpt2", "vocab_size", 11,
                               "n_positions", 7, "n_embd", width, "n_layer", 1, "n_head", 2, "resid_pdrop", 0.25);
    lc_model *m = NULL;
    CHECK_OK(lc_model_new(config, 3, LC_F32, &m));
    json_decref(config);
    return m;
}

static lc_trainer *make_trainer(lc_model *m, int64_t steps) {
    lc_trainer_options o = {
        .steps = steps,
        .accumulate = 1,
        .clip = 1,
        .recipe = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1},
    };
    lc_trainer *t = NULL;
    CHECK_OK(lc_trainer_new(m, &o, &t));
    return t;
}

static lc_status step(lc_trainer *t) {
    lc_batch b = {0};
    LC_TRY(lc_tensor_new(LC_I64, 2, (int64_t[]){2, 7}, LC_CPU, &b.ids));
    for (int i = 0; i < 14; i++) lc_set_i64(b.ids, i, (i * i + t->step) % 11);
    lc_status status = lc_trainer_begin(t);
    if (!status) status = lc_trainer_give(t, &b);
    if (!status) status = lc_trainer_forward(t);
    if (!status) status = lc_trainer_update(t);
    if (status) lc_trainer_drop(t);
    lc_batch_release(&b);
    return status;
}

static bool same_tensor(const lc_tensor *a, const lc_tensor *b) {
    if (!a || !b) return a == b;
    return memcmp(lc_data(a), lc_data(b), (size_t)lc_numel(a) * lc_dtype_size(a->dtype)) == 0;
}

static bool same_weights(const lc_model *a, const lc_model *b) {
    for (int64_t i = 0; i < a->n_params; i++)
        if (!same_tensor(a->params[i]->leaf, b->params[i]->leaf)) return false;
    return true;
}

static lc_status save(lc_model *m, lc_trainer *t) {
    lc_checkpoint *c = NULL;
    LC_TRY(lc_checkpoint_new(&c));
    lc_status status = lc_checkpoint_add_model(c, "model", m);
    if (!status) status = lc_checkpoint_add_trainer(c, t);
    if (!status) status = lc_checkpoint_write(c, path);
    lc_checkpoint_free(c);
    return status;
}

static lc_status load(lc_model *m, lc_trainer *t) {
    lc_checkpoint *c = NULL;
    LC_TRY(lc_checkpoint_open(path, &c));
    lc_status status = lc_checkpoint_get_model(c, "model", m);
    if (!status) status = lc_checkpoint_get_trainer(c, t);
    lc_checkpoint_free(c);
    return status;
}

static void prune_half(lc_param *p) {
    lc_tensor *keep = NULL;
    CHECK_OK(lc_tensor_new(LC_BOOL, 2, p->leaf->shape, LC_CPU, &keep));
    for (int64_t i = 0; i < lc_numel(keep); i++) lc_set_i64(keep, i, i % 2);
    CHECK_OK(lc_param_hold_bools(p, keep, true));
    lc_tensor_release(keep);
}

static void goes_on_bit_for_bit(void) {
    lc_model *a = make_model(6), *b = make_model(6);
    lc_trainer *ta = make_trainer(a, 8), *tb = make_trainer(b, 8);
    prune_half(a->linears[0]->weight);
    CHECK_OK(lc_param_freeze(a->params[1], true));
    for (int i = 0; i < 4; i++) CHECK_OK(step(ta));
    CHECK_OK(save(a, ta));
    CHECK_OK(load(b, tb));
    CHECK(same_weights(a, b));
    CHECK(b->params[1]->frozen && b->dropout_pass == a->dropout_pass && tb->step == 4 && b->clock.step == 4);
    CHECK(lc_bits_equal(a->linears[0]->weight->held, b->linears[0]->weight->held));
    CHECK(same_tensor(a->linears[0]->weight->held_values, b->linears[0]->weight->held_values));
    for (int i = 0; i < 4; i++) {
        CHECK_OK(step(ta));
        CHECK_OK(step(tb));
        CHECK(ta->loss == tb->loss && ta->grad_norm == tb->grad_norm);
    }
    CHECK(same_weights(a, b) && ta->total_tokens == tb->total_tokens);
    for (int64_t i = 0; i < ta->optim.n; i++) {
        const lc_slot *s = &ta->optim.slots[i], *o = &tb->optim.slots[i];
        CHECK(same_tensor(s->m, o->m) && same_tensor(s->v, o->v) && s->updates == o->updates);
    }
    lc_trainer_free(ta);
    lc_trainer_free(tb);
    lc_model_release(a);
    lc_model_release(b);
}

static void refuses_what_does_not_fit(void) {
    lc_model *m = make_model(6), *wide = make_model(8);
    lc_trainer *t = make_trainer(m, 8), *longer = make_trainer(m, 9), *other = make_trainer(wide, 8);
    lc_checkpoint *c = NULL;
    CHECK_OK(step(t));
    CHECK_OK(save(m, t));
    CHECK_MESSAGE(load(m, longer), LC_EINVAL,
                  "option 'steps' was 8 when this training loop was stored, and is 9 now; set it back");
    CHECK_MESSAGE(load(wide, other), LC_ESHAPE, "wte.weight");
    CHECK_OK(lc_checkpoint_open(path, &c));
    CHECK_MESSAGE(lc_checkpoint_get_model(c, "student", m), LC_ENOTFOUND, "holds no model called 'student'");
    lc_checkpoint_free(c);

    CHECK_OK(lc_file_write(path, "not a checkpoint", 16));
    CHECK(lc_checkpoint_open(path, &c) != LC_OK);
    lc_pair later[] = {{"lacuna_format", "2"}, {"document", "{}"}};
    CHECK_OK(lc_safetensors_write(path, NULL, 0, later, 2));
    CHECK_MESSAGE(lc_checkpoint_open(path, &c), LC_EFORMAT, "a checkpoint of format 2; this build reads format 1");
    CHECK_OK(lc_safetensors_write(path, NULL, 0, NULL, 0));
    CHECK_MESSAGE(lc_checkpoint_open(path, &c), LC_EFORMAT, "not a checkpoint of a run");
    lc_trainer_free(t);
    lc_trainer_free(longer);
    lc_trainer_free(other);
    lc_model_release(m);
    lc_model_release(wide);
}

/* Wherever an allocation fails in a step: the weights are those of before, and the next try gives what it always would have. */
static void a_step_without_memory_changes_nothing(void) {
    lc_model *m = make_model(6), *sound = make_model(6);
    lc_trainer *t = make_trainer(m, 8), *well = make_trainer(sound, 8);
    CHECK_OK(step(t));
    CHECK_OK(step(well));
    uint64_t before = lc_memory_count();
    CHECK_OK(step(well));
    uint64_t count = lc_memory_count() - before;
    CHECK_OK(step(t));
    int wrong = 0;
    for (uint64_t n = 1; n <= count; n += 1 + count / 60) {
        lc_memory_fail_at(n);
        lc_status status = step(t);
        lc_memory_fail_at(0);
        if (status && !(status == LC_ENOMEM && same_weights(m, sound))) wrong++;
        if (!status) CHECK_OK(step(well)); /* something else took the failure, and did without */
    }
    CHECK(wrong == 0);
    CHECK(same_weights(m, sound));
    lc_trainer_free(t);
    lc_trainer_free(well);
    lc_model_release(m);
    lc_model_release(sound);
}

/* A disk that fills up leaves the old checkpoint. */
static void a_failed_write_leaves_the_old_file(void) {
    lc_model *m = make_model(6);
    lc_trainer *t = make_trainer(m, 8);
    CHECK_OK(step(t));
    CHECK_OK(save(m, t));
    CHECK_OK(step(t));
    lc_file_fail_at(1, ENOSPC);
    CHECK_MESSAGE(save(m, t), LC_EIO, "No space left");
    lc_file_fail_at(0, 0);
    CHECK_OK(load(m, t));
    CHECK(t->step == 1);
    lc_trainer_free(t);
    lc_model_release(m);
}

int main(void) {
    int file = mkstemp(path);
    CHECK(file >= 0);
    close(file);
    goes_on_bit_for_bit();
    refuses_what_does_not_fit();
    a_step_without_memory_changes_nothing();
    a_failed_write_leaves_the_old_file();
    unlink(path);
    return check_done();
}
