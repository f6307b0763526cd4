/* test_import.c: models of other programs: configurations, damaged files, failing memory. That their weights are right
 * is tested in tests/spec/import_spec.lua. */
#define _GNU_SOURCE
#include "bytes.h"

#include <stdlib.h>

#include "base/memory.h"
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
    test_cut_off();
    test_failing_memory(GGUF);
    static bytes b;
    make_llama2c(&b);
    write_bytes(&b, b.length, path);
    test_failing_memory(path);
    CHECK_OK(lc_remove_tree(directory));
    return check_done();
}
