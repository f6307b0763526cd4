/* fuzz_gguf.c: any bytes as a GGUF file: header, getters, and every block type's decoder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const lc_gguf *g, const lc_gguf_value *v) {
    int64_t integer = 0;
    double number = 0;
    bool yes = false;
    const char *text = NULL;
    if (lc_gguf_find(g, v->key) != v) abort();
    (void)!lc_gguf_get_int(g, v->key, &integer);
    (void)!lc_gguf_get_double(g, v->key, &number);
    (void)!lc_gguf_get_bool(g, v->key, &yes);
    (void)!lc_gguf_get_string(g, v->key, &text);
    for (int64_t i = 0; v->kind == LC_GGUF_STRING && i < v->count; i++) {
        const lc_gguf_string *s = (const lc_gguf_string *)v->data + i;
        if (s->text[s->length]) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char path[64];
    if (!path[0]) snprintf(path, sizeof path, "/tmp/lacuna-fuzz-%d.gguf", (int)getpid());
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    fwrite(data, 1, size, f);
    fclose(f);
    lc_gguf *g = NULL;
    if (!lc_gguf_open(path, &g))
        for (int64_t i = 0; i < lc_gguf_value_count(g); i++) ask(g, lc_gguf_value_at(g, i));
    for (int64_t i = 0; g && i < lc_gguf_tensor_count(g); i++) {
        const lc_gguf_tensor *t = lc_gguf_tensor_at(g, i);
        float out[LC_GGUF_BLOCK_MAX];
        uint8_t block[512];
        if (t->end > size || t->begin > t->end) abort();
        if (!t->block->decode || t->end == t->begin) continue;
        memcpy(block, data + t->begin, (size_t)t->block->bytes);
        t->block->decode(block, out);
    }
    lc_gguf_close(g);
    unlink(path);
    return 0;
}
