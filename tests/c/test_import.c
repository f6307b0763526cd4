/* test_import.c: models of other programs: configurations, damaged files, failing memory. That their weights are right
 * is tested in tests/spec/import_spec.lua. */
#define _GNU_SOURCE
#include "bytes.h"

#include <stdlib.h>

#include "base/memory.h"
#include "io/gguf.h"
#include "model/import.h"
#include "model/model.h"

#define GGUF "tests/golden/gguf/llama_llama3.gguf"

static char directory[64], path[96];

static lc_status open_and_close(const char *file) {
    lc_source s = {0};
    lc_status status = lc_source_open(file, &s);
    lc_source_close(&s);
    return status;
}

/* llama2.c's file of a model of one layer. */
static void make_llama2c(bytes *b) {
    static const uint32_t sizes[] = {4, 3, 1, 2, 1, 5, 6}; /* width inner layers heads kv vocabulary positions */
    b->length = 0;
    for (int i = 0; i < 7; i++) put_uint(b, sizes[i], 4);
    put_zeros(b, 4 * (5 * 4 + 4 + 16 + 8 + 8 + 16 + 4 + 3 * 12 + 4 + 2 * 6));
}

static int64_t int_of(const json_t *config, const char *key) {
    return json_integer_value(json_object_get(config, key));
}

static void test_configurations(void) {
    lc_source s = {0};
    CHECK_OK(lc_source_open(GGUF, &s));
    CHECK(int_of(s.config, "num_key_value_heads") == 1 && int_of(s.config, "head_dim") == 8);
    CHECK(json_is_false(json_object_get(s.config, "attention_bias")));
    const json_t *scaling = json_object_get(s.config, "rope_scaling");
    CHECK(!strcmp(json_string_value(json_object_get(scaling, "rope_type")), "longrope"));
    CHECK(json_array_size(json_object_get(scaling, "long_factor")) == 4);
    CHECK(s.by_outputs && !s.directory);
    lc_row_order order;
    CHECK(s.reordered && !s.reordered(&s, "model.layers.0.self_attn.v_proj.weight", &order));
    CHECK(s.reordered(&s, "model.layers.0.self_attn.q_proj.weight", &order));
    CHECK(order.shape[0] == 3 && order.shape[1] == 4 && order.shape[2] == 2 && order.order[1] == 2);
    lc_source_close(&s);

    static bytes b;
    make_llama2c(&b);
    write_bytes(&b, b.length, path);
    CHECK_OK(lc_source_open(path, &s));
    CHECK(int_of(s.config, "hidden_size") == 4 && int_of(s.config, "max_position_embeddings") == 6);
    CHECK(json_is_true(json_object_get(s.config, "tie_word_embeddings")));
    CHECK(lc_weights_count(s.weights) == 11);
    lc_source_close(&s);
}

/* -- what a GGUF file says of rotations ------------------------------------------------------------ */

/* One key of the metadata: a text, an integer, false, or (none of them) a float. */
typedef struct fact {
    const char *key, *text;
    uint32_t integer;
    float number;
    bool is_false;
} fact;

static void put_string(bytes *b, const char *text) {
    put_uint(b, strlen(text), 8);
    put(b, text, strlen(text));
}

static void put_fact(bytes *b, const fact *f) {
    put_string(b, f->key);
    lc_gguf_kind other = f->is_false ? LC_GGUF_BOOL : LC_GGUF_F32;
    put_uint(b, f->text ? LC_GGUF_STRING : f->integer ? LC_GGUF_U32 : other, 4);
    if (f->text)
        put_string(b, f->text);
    else if (f->is_false)
        put_uint(b, 0, 1);
    else if (f->integer)
        put_uint(b, f->integer, 4);
    else
        put(b, &f->number, 4);
}

/* Writes a file of heads with 8 columns, and these facts before one without a key; its configuration in *out. */
static lc_status import_rope(const char *architecture, const fact *facts, json_t **out) {
    static bytes b;
    char keys[7][80];
    const fact sizes[] = {{keys[0], NULL, 16}, {keys[1], NULL, 12},       {keys[2], NULL, 1},       {keys[3], NULL, 2},
                          {keys[4], NULL, 64}, {keys[5], NULL, 0, 1e-5F}, {keys[6], NULL, 0, 1e-5F}};
    static const char *const ends[] = {"embedding_length",
                                       "feed_forward_length",
                                       "block_count",
                                       "attention.head_count",
                                       "context_length",
                                       "attention.layer_norm_rms_epsilon",
                                       "attention.layer_norm_epsilon"};
    uint64_t count = 0;
    while (facts[count].key) count++;
    b.length = 0;
    put(&b, "GGUF", 4);
    put_uint(&b, 3, 4);
    put_uint(&b, 1, 8);
    put_uint(&b, 8 + count, 8);
    put_fact(&b, &(fact){"general.architecture", architecture});
    for (int i = 0; i < 7; i++) {
        snprintf(keys[i], sizeof keys[i], "%s.%s", architecture, ends[i]);
        put_fact(&b, &sizes[i]);
    }
    for (uint64_t i = 0; i < count; i++) put_fact(&b, &facts[i]);
    put_string(&b, "token_embd.weight");
    put_uint(&b, 2, 4);
    put_uint(&b, 16, 8);
    put_uint(&b, 3, 8);
    put_zeros(&b, 4 + 8); /* F32, at the beginning of the data */
    put_zeros(&b, (32 - b.length % 32) % 32 + 4 * 16 * 3);
    char file[128];
    snprintf(file, sizeof file, "%s/rope.gguf", directory);
    write_bytes(&b, b.length, file);
    lc_source s = {0};
    LC_TRY(lc_source_open(file, &s));
    *out = json_incref(s.config);
    lc_source_close(&s);
    return LC_OK;
}

/* rope_scaling, NULL where there is none; the configuration is freed with the next. */
static const json_t *scaling_of(const char *architecture, const fact *facts) {
    static json_t *config;
    json_decref(config);
    config = NULL;
    if (architecture) CHECK_OK(import_rope(architecture, facts, &config));
    return json_object_get(config, "rope_scaling");
}

static bool is_number(const json_t *scaling, const char *key, double wanted) {
    return fabs(json_number_value(json_object_get(scaling, key)) - wanted) < 1e-9;
}

static bool is_type(const json_t *scaling, const char *type) {
    const char *name = json_string_value(json_object_get(scaling, "rope_type"));
    return name && !strcmp(name, type);
}

#define FACTS(...) ((const fact[]){__VA_ARGS__, {0}})
#define TYPE(name) \
    { "llama.rope.scaling.type", name }
#define NUMBER(end, value) \
    { "llama.rope." end, NULL, 0, value }

static void test_scalings(void) {
    const json_t *s;
    CHECK(!scaling_of("llama", FACTS(NUMBER("freq_base", 500))));
    CHECK(!scaling_of("llama", FACTS(TYPE("none"), NUMBER("scaling.factor", 4))));
    CHECK(!scaling_of("llama", FACTS(TYPE("linear"), NUMBER("scaling.factor", 0))));
    CHECK(!scaling_of("llama", FACTS(TYPE("yarn"), NUMBER("scaling.factor", 1))));
    CHECK(!scaling_of("llama", FACTS(NUMBER("scale_linear", 1))));
    s = scaling_of("llama", FACTS(TYPE("linear"), NUMBER("scaling.factor", 4)));
    CHECK(is_type(s, "linear") && is_number(s, "factor", 4));
    s = scaling_of("qwen2", FACTS({"qwen2.rope.scaling.factor", NULL, 0, 2.5F}));
    CHECK(is_type(s, "linear") && is_number(s, "factor", 2.5));
    s = scaling_of("llama", FACTS(NUMBER("scale_linear", 8)));
    CHECK(is_type(s, "linear") && is_number(s, "factor", 8));
    s = scaling_of("llama", FACTS(NUMBER("scale_linear", 8), NUMBER("scaling.factor", 2)));
    CHECK(is_number(s, "factor", 2));
    s = scaling_of("gptneox", FACTS({"gptneox.rope.scaling.factor", NULL, 0, 2}));
    CHECK(is_type(s, "linear") && is_number(s, "factor", 2));
    s = scaling_of("llama", FACTS(TYPE("yarn"), NUMBER("scaling.factor", 4),
                                  {"llama.rope.scaling.original_context_length", NULL, 16},
                                  NUMBER("scaling.yarn_beta_fast", 20), NUMBER("scaling.attn_factor", 0.5F)));
    CHECK(is_type(s, "yarn") && is_number(s, "factor", 4) && is_number(s, "original_max_position_embeddings", 16));
    CHECK(is_number(s, "beta_fast", 20) && !json_object_get(s, "beta_slow"));
    CHECK(fabs(json_number_value(json_object_get(s, "attention_factor")) - 0.5 * (0.1 * log(4) + 1)) < 1e-6);
    s = scaling_of("llama", FACTS(TYPE("yarn"), NUMBER("scaling.attn_factor", 1.5F)));
    CHECK(is_type(s, "yarn") && is_number(s, "factor", 1) && is_number(s, "attention_factor", 1.5));
    scaling_of(NULL, NULL);
}

static void refuse(const char *architecture, const fact *facts, const char *message) {
    json_t *config = NULL;
    CHECK_MESSAGE(import_rope(architecture, facts, &config), LC_EFORMAT, message);
}

static void test_refused_scalings(void) {
    refuse("llama", FACTS({"split.count", NULL, 3}),
           "one of 3 parts of a split model: join them with llama-gguf-split");
    refuse("llama", FACTS({"llama.attention.causal", .is_false = true}),
           "llama.attention.causal is false: a model of embeddings");
    refuse("llama", FACTS(TYPE("longrope")), "rope.scaling.type 'longrope' is unknown; there is none, linear and yarn");
    refuse("llama", FACTS({"llama.rope.scaling.type", NULL, 3}), "is an integer, expected a string");
    refuse("llama", FACTS(NUMBER("scaling.factor", NAN)), "llama.rope.scaling.factor is nan");
    refuse("llama", FACTS(NUMBER("freq_base", INFINITY)), "llama.rope.freq_base is inf");
    refuse("llama", FACTS(TYPE("linear"), NUMBER("scaling.attn_factor", 0.5F)),
           "metadata llama.rope.scaling.attn_factor is 0.5, which lacuna reads only with rope.scaling.type yarn");
    refuse("llama", FACTS(TYPE("yarn"), NUMBER("scaling.yarn_ext_factor", 0.5F)),
           "metadata llama.rope.scaling.yarn_ext_factor is 0.5; lacuna reads only files where it is 1");
    refuse("llama", FACTS(NUMBER("scaling.yarn_log_multiplier", 0.1F)), "lacuna reads only files where it is 0");
    refuse("gptneox", FACTS({"gptneox.rope.scaling.alpha", NULL, 0, 3}),
           "metadata gptneox.rope.scaling.alpha says of rotations what lacuna does not know");
    refuse("llama", FACTS({"llama.rope.dimension_count", NULL, 4}),
           "llama.rope.dimension_count is 4, and heads have 8 columns; rotations of llama turn whole heads");
    refuse("qwen2", FACTS({"qwen2.rope.dimension_count", NULL, 16}), "qwen2.rope.dimension_count is 16, and heads");
    refuse("gptneox", FACTS({"gptneox.rope.dimension_count", NULL, 10}),
           "gptneox.rope.dimension_count 10 does not fit 2 heads of width 16");
}

static void test_cut_off(void) {
    static bytes b;
    make_llama2c(&b);
    for (size_t n = 0; n < b.length; n += 3) {
        write_bytes(&b, n, path);
        CHECK(open_and_close(path) == LC_EFORMAT);
    }
}

static lc_status load(const char *file) {
    lc_model *m = NULL;
    lc_status status = lc_model_load(file, LC_F32, &m);
    lc_model_release(m);
    return status;
}

static void test_failing_memory(const char *file) {
    CHECK_OK(load(file));
    lc_memory_trim();
    size_t live = lc_memory_get().live;
    uint64_t before = lc_memory_count();
    CHECK_OK(load(file));
    uint64_t allocations = lc_memory_count() - before;
    CHECK(allocations > 50);
    int survived = 0;
    for (uint64_t n = 1; n <= allocations; n++) {
        lc_memory_fail_at(n);
        lc_status status = load(file);
        survived += status == LC_OK; /* the list of families, made for a message that is not needed */
        CHECK(status == LC_ENOMEM || (status == LC_OK && survived == 1));
        lc_memory_fail_at(0);
        CHECK(lc_memory_get().live == live);
    }
}

int main(void) {
    strcpy(directory, "/tmp/lacuna-test-XXXXXX");
    if (!mkdtemp(directory)) return 1;
    snprintf(path, sizeof path, "%s/tiny.bin", directory);
    test_configurations();
    test_scalings();
    test_refused_scalings();
    test_cut_off();
    test_failing_memory(GGUF);
    static bytes b;
    make_llama2c(&b);
    write_bytes(&b, b.length, path);
    test_failing_memory(path);
    CHECK_OK(lc_remove_tree(directory));
    return check_done();
}
