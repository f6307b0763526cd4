/* test_model.c: held masks, installed methods, recomputation, files, and what is left when allocations fail. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/pool.h"
#include "check.h"
#include "grad/graph.h"
#include "io/safetensors.h"
#include "model/model.h"

#define GOLDEN "tests/golden/gpt2_plain"

static char scratch[] = "/tmp/lacuna_model_XXXXXX";

/* A path inside the scratch directory; good until the next call. */
static const char *in_scratch(const char *name) {
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

static lc_model *tiny(void) {
    lc_model *m = NULL;
    CHECK_OK(lc_model_load(GOLDEN, LC_F32, &m));
    return m;
}

/* ids (2, 11), counted up. */
static lc_tensor *some_ids(void) {
    lc_tensor *ids = NULL;
    CHECK_OK(lc_tensor_new(LC_I64, 2, (int64_t[]){2, 11}, LC_CPU, &ids));
    for (int64_t i = 0; i < 22; i++) LC_DATA(int64_t, ids)[i] = i * 7 % 53;
    return ids;
}

static float at(const lc_tensor *t, int64_t i) {
    return LC_DATA(float, t)[i];
}

static bool same_bits(const lc_tensor *a, const lc_tensor *b) {
    return lc_same_shape(a, b) && !memcmp(lc_data(a), lc_data(b), (size_t)lc_numel(a) * lc_dtype_size(a->dtype));
}

/* -- held masks --------------------------------------------------------------------------------- */

/* A bool tensor in p's shape that prunes every third weight, from `first` on. */
static lc_tensor *thirds(const lc_param *p, int64_t first) {
    lc_tensor *keep = NULL;
    CHECK_OK(lc_tensor_new(LC_BOOL, p->leaf->ndim, p->leaf->shape, LC_CPU, &keep));
    for (int64_t i = 0; i < lc_numel(keep); i++) LC_DATA(uint8_t, keep)[i] = i % 3 != first;
    return keep;
}

static void test_held_masks(void) {
    lc_model *m = tiny();
    lc_param *p = m->linears[0]->weight;
    lc_tensor *keep = thirds(p, 0), *other = thirds(p, 1);
    float before = at(p->leaf, 0), kept = at(p->leaf, 2);
    CHECK_OK(lc_param_hold_bools(p, keep, true));
    CHECK(at(p->leaf, 0) == 0 && at(p->leaf, 2) == kept);
    CHECK(at(p->held_values, 0) == before && at(p->held_values, 2) == 0);

    uint64_t version = p->leaf->storage->version;
    CHECK_OK(lc_model_enforce(m));
    CHECK(p->leaf->storage->version == version); /* nothing was written, so nothing is done */

    CHECK_OK(lc_fill(p->leaf, 1));
    double sparsity = 0;
    CHECK_OK(lc_model_sparsity(m, &sparsity)); /* a check zeroes first */
    CHECK(at(p->leaf, 0) == 0 && at(p->leaf, 2) == 1);
    CHECK(sparsity > 0);

    int64_t zeros = 0;
    CHECK_OK(
        lc_param_hold_bools(p, other, true)); /* pruned before and kept now: its old value is not remembered any more */
    CHECK(at(p->held_values, 0) == 0 && at(p->held_values, 1) == 1);
    lc_param_lift(p);
    CHECK_OK(lc_fill(p->leaf, 1));
    CHECK_OK(lc_param_enforce(p));
    CHECK_OK(lc_param_zeros(p, &zeros));
    CHECK(zeros == 0);
    CHECK_MESSAGE(lc_param_hold_bools(m->linears[1]->weight, keep, false), LC_ESHAPE,
                  "transformer.h.0.attn.c_proj.weight");
    lc_tensor_release(keep);
    lc_tensor_release(other);
    lc_model_release(m);
}

/* -- methods ------------------------------------------------------------------------------------ */

static int released;

static void count_release(void *context) {
    (void)context;
    released++;
}

/* w2 = w * scale, with a trained scale (). */
static lc_status scale_weight(lc_installed *me, lc_layer *layer, lc_tensor *w, lc_tensor **out) {
    (void)layer;
    return lc_binary(LC_OP_MUL, w, lc_installed_param(me, "scale")->leaf, out);
}

static lc_status plain_product(lc_installed *me, lc_layer *layer, lc_tensor *x, lc_tensor *w, lc_tensor *b,
                               lc_tensor **y) {
    (void)me, (void)layer;
    return lc_linear(x, w, b, LC_ACT_NONE, y);
}

static lc_status loss_of(lc_model *m, lc_tensor *ids, bool train, lc_tensor **loss) {
    return lc_model_loss(m, &(lc_batch){.ids = ids}, &(lc_loss_options){.train = train}, loss);
}

static double loss_value(lc_model *m, lc_tensor *ids) {
    lc_tensor *loss = NULL;
    CHECK_OK(loss_of(m, ids, false, &loss));
    double value = lc_get_f64(loss, loss->offset);
    lc_tensor_release(loss);
    return value;
}

static void test_methods(void) {
    lc_model *m = tiny();
    lc_tensor *ids = some_ids(), *scale = NULL, *loss = NULL;
    lc_layer *layer = m->linears[2];
    double dense = loss_value(m, ids);
    CHECK_OK(lc_tensor_scalar(LC_F32, 2, &scale));
    lc_installed *twice = NULL, *product = NULL, *second = NULL;
    lc_method transform = {.name = "twice", .transform = scale_weight, .release = count_release};
    lc_method first = {.name = "first", .product = plain_product, .release = count_release};
    lc_method other = {.name = "other", .product = plain_product, .release = count_release};
    CHECK_OK(lc_layer_install(layer, &transform, &twice));
    CHECK_OK(lc_installed_add_param(twice, "scale", scale));
    CHECK(!strcmp(twice->params[0]->name, "transformer.h.0.mlp.c_fc.twice.scale"));
    CHECK_MESSAGE(lc_installed_add_state(twice, "scale", NULL), LC_EINVAL, "'scale' is given twice");
    CHECK(loss_value(m, ids) != dense);

    CHECK_OK(loss_of(m, ids, false, &loss));
    CHECK_OK(lc_backward(loss, NULL));
    lc_tensor_release(loss);
    CHECK(scale->grad != NULL);
    lc_set_f64(scale, 0, 1);
    CHECK(loss_value(m, ids) == dense);

    CHECK_OK(lc_layer_install(layer, &first, &product));
    CHECK_NEAR(loss_value(m, ids), dense, 1e-6); /* the activation is no longer fused */
    released = 0;
    CHECK_MESSAGE(lc_layer_install(layer, &other, &second), LC_ESTATE, "'first' is installed there");
    CHECK(strstr(lc_message(), "'other'") && released == 1);
    lc_model *copy = NULL;
    CHECK_MESSAGE(lc_model_clone(m, &copy), LC_ESTATE, "twice is installed on transformer.h.0.mlp.c_fc");

    lc_installed_remove(product);
    lc_installed_remove(product);
    CHECK(released == 1 && !layer->product);
    lc_installed_release(product);
    CHECK(released == 2);
    lc_installed_release(twice); /* the model still has it */
    CHECK(released == 2);
    lc_tensor_release(ids);
    lc_tensor_release(scale);
    lc_model_release(m);
    CHECK(released == 3);
}

/* -- recomputation ------------------------------------------------------------------------------ */

static void gradients(bool recompute, bool freeze_embeddings, lc_tensor **out, int64_t n) {
    lc_model *m = tiny();
    lc_tensor *ids = some_ids(), *loss = NULL;
    m->recompute = recompute;
    for (int64_t i = 0; freeze_embeddings && i < 2; i++) CHECK_OK(lc_param_freeze(m->params[i], true));
    CHECK_OK(loss_of(m, ids, true, &loss)); /* dropout at the configuration's 0.1 */
    CHECK_OK(lc_backward(loss, NULL));
    for (int64_t i = 0; i < n; i++)
        out[i] = m->params[i]->leaf->grad ? lc_tensor_retain(m->params[i]->leaf->grad) : NULL;
    lc_tensor_release(loss);
    lc_tensor_release(ids);
    lc_model_release(m);
}

static void test_recomputation(void) {
    lc_tensor *plain[12], *again[12];
    for (int frozen = 0; frozen < 2; frozen++) {
        gradients(false, frozen, plain, 12);
        gradients(true, frozen, again, 12);
        for (int i = 0; i < 12; i++) {
            CHECK(!plain[i] == (frozen && i < 2));
            CHECK(!plain[i] ? !again[i] : again[i] && same_bits(plain[i], again[i]));
            lc_tensor_release(plain[i]);
            lc_tensor_release(again[i]);
        }
    }
}

/* -- files -------------------------------------------------------------------------------------- */

static void test_save_and_load(void) {
    lc_model *m = tiny(), *back = NULL, *copy = NULL;
    lc_tensor *keep = thirds(m->linears[1]->weight, 0);
    CHECK_OK(lc_param_hold_bools(m->linears[1]->weight, keep, true));
    CHECK_OK(lc_model_save(m, in_scratch("saved")));
    CHECK_OK(lc_model_load(in_scratch("saved"), LC_F32, &back));
    CHECK_OK(lc_model_clone(m, &copy));
    for (int64_t i = 0; i < m->n_params; i++) {
        CHECK(same_bits(m->params[i]->leaf, back->params[i]->leaf));
        CHECK(same_bits(m->params[i]->leaf, copy->params[i]->leaf));
        CHECK(m->params[i]->leaf->storage != copy->params[i]->leaf->storage);
    }
    CHECK(lc_bits_equal(back->linears[1]->weight->held, m->linears[1]->weight->held));
    CHECK(lc_bits_equal(copy->linears[1]->weight->held, m->linears[1]->weight->held));
    CHECK(same_bits(back->linears[1]->weight->held_values, m->linears[1]->weight->held_values));
    lc_param_lift(m->linears[1]->weight);
    CHECK_OK(lc_model_save(m, in_scratch("saved"))); /* no mask any more: its file goes */
    CHECK(!lc_file_exists(in_scratch("saved/lacuna.safetensors")));
    lc_tensor_release(keep);
    lc_model_release(m);
    lc_model_release(back);
    lc_model_release(copy);
}

static void test_bad_files(void) {
    lc_model *m = tiny(), *bad = NULL;
    CHECK_OK(lc_model_save(m, in_scratch("bad")));
    lc_tensor *small = NULL;
    CHECK_OK(lc_tensor_zeros(LC_F32, 1, (int64_t[]){3}, LC_CPU, &small));
    lc_named list[40];
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        if (!strcmp(m->params[i]->name, "transformer.ln_f.bias")) continue;
        bool wrong = !strcmp(m->params[i]->name, "transformer.h.1.ln_2.bias");
        list[n++] = (lc_named){m->params[i]->name, wrong ? small : m->params[i]->file, LC_F32};
    }
    list[n++] = (lc_named){"transformer.h.0.surprise", small, LC_F32};
    CHECK_OK(lc_safetensors_write(in_scratch("bad/model.safetensors"), list, n, NULL, 0));
    CHECK_MESSAGE(lc_model_load(in_scratch("bad"), LC_F32, &bad), LC_EFORMAT, "1 missing: transformer.ln_f.bias");
    CHECK(strstr(lc_message(), "transformer.h.1.ln_2.bias is (3), not (15)"));
    CHECK(strstr(lc_message(), "1 unexpected: transformer.h.0.surprise"));

    const char *config = "{\"model_type\": \"gpt2\", \"n_embd\": 15, \"n_head\": 4}";
    CHECK_OK(lc_file_write(in_scratch("bad/config.json"), config, strlen(config)));
    CHECK_MESSAGE(lc_model_load(in_scratch("bad"), LC_F32, &bad), LC_EFORMAT,
                  "n_embd 15 is not a multiple of n_head 4");
    config = "{\"model_type\": \"gpt2\", \"n_layer\": 10000000, \"n_embd\": 12}";
    CHECK_OK(lc_file_write(in_scratch("bad/config.json"), config, strlen(config)));
    CHECK_MESSAGE(lc_model_load(in_scratch("bad"), LC_F32, &bad), LC_EFORMAT, "has 10000000 layers; at most 4096");
    config = "{\"model_type\": \"mamba\"}";
    CHECK_OK(lc_file_write(in_scratch("bad/config.json"), config, strlen(config)));
    CHECK_MESSAGE(lc_model_load(in_scratch("bad"), LC_F32, &bad), LC_ENOTFOUND,
                  "unknown model family 'mamba'; there is: gpt2");
    lc_tensor_release(small);
    lc_model_release(m);
}

/* -- interruption ------------------------------------------------------------------------------- */

static void test_interruption(void) {
    lc_model *m = tiny();
    lc_tensor *ids = some_ids(), *keep = thirds(m->linears[0]->weight, 0);
    lc_snapshot *snapshot = NULL;
    int32_t tokens[40] = {0};
    lc_perplexity_result result;
    double before = loss_value(m, ids);
    CHECK_OK(lc_model_snapshot(m, &snapshot));
    lc_cancel();
    CHECK(lc_model_perplexity(m, tokens, 40, &(lc_perplexity_options){0}, &result) == LC_ECANCEL);
    CHECK_OK(lc_param_hold_bools(m->linears[0]->weight, keep, true)); /* writes are whole */
    CHECK_OK(lc_model_restore(m, snapshot));
    lc_cancel_clear();
    CHECK(loss_value(m, ids) != before);
    lc_param_lift(m->linears[0]->weight);
    CHECK_OK(lc_model_restore(m, snapshot));
    CHECK(loss_value(m, ids) == before);
    lc_tensor_release(ids);
    lc_tensor_release(keep);
    lc_snapshot_release(snapshot);
    lc_model_release(m);
}

/* -- failing allocations ------------------------------------------------------------------------ */

static lc_status whole_life(lc_tensor *ids) {
    lc_model *m = NULL, *copy = NULL;
    lc_snapshot *snapshot = NULL;
    lc_tensor *loss = NULL, *prompt = NULL, *made = NULL, *keep = NULL;
    lc_status status;
    LC_GOTO(done, lc_model_load(GOLDEN, LC_F32, &m));
    m->recompute = true;
    LC_GOTO(done, loss_of(m, ids, true, &loss));
    LC_GOTO(done, lc_backward(loss, NULL));
    LC_GOTO(done, lc_model_clone(m, &copy));
    LC_GOTO(done, lc_model_snapshot(m, &snapshot));
    LC_GOTO(done, lc_model_restore(copy, snapshot));
    LC_GOTO(done, lc_tensor_zeros(LC_BOOL, 2, m->linears[0]->weight->leaf->shape, LC_CPU, &keep));
    LC_GOTO(done, lc_param_hold_bools(m->linears[0]->weight, keep, true));
    LC_GOTO(done, lc_tensor_zeros(LC_I64, 1, (int64_t[]){3}, LC_CPU, &prompt));
    lc_generate_options generate = {.tokens = 2, .temperature = 1, .top_p = 1, .end = -1};
    LC_GOTO(done, lc_model_generate(m, &prompt, 1, &generate, &made));
    LC_GOTO(done, lc_model_save(m, in_scratch("failing")));
done:
    lc_tensor_release(loss);
    lc_tensor_release(prompt);
    lc_tensor_release(made);
    lc_tensor_release(keep);
    lc_snapshot_release(snapshot);
    lc_model_release(copy);
    lc_model_release(m);
    return status;
}

static void test_failing_allocations(void) {
    lc_tensor *ids = some_ids();
    CHECK_OK(whole_life(ids)); /* what is made once is made now */
    uint64_t start = lc_memory_count();
    CHECK_OK(whole_life(ids));
    uint64_t n = lc_memory_count() - start;
    size_t live = lc_memory_get().live;
    int wrong = 0;
    for (uint64_t k = 1; k <= n; k += 1 + n / 200) {
        lc_memory_fail_at(k);
        lc_status status = whole_life(ids);
        lc_memory_fail_at(0);
        if ((status != LC_ENOMEM && status != LC_OK) || lc_memory_get().live != live) {
            fprintf(stderr, "allocation %llu: status %d (%s), %lld bytes kept\n", (unsigned long long)k, (int)status,
                    lc_message(), (long long)lc_memory_get().live - (long long)live);
            wrong++;
            live = lc_memory_get().live;
        }
    }
    CHECK(wrong == 0);
    lc_tensor_release(ids);
}

int main(void) {
    if (!mkdtemp(scratch)) return 1;
    test_held_masks();
    test_methods();
    test_recomputation();
    test_save_and_load();
    test_bad_files();
    test_interruption();
    test_failing_allocations();
    CHECK_OK(lc_remove_tree(scratch));
    return check_done();
}
