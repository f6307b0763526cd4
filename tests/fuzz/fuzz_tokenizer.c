/* fuzz_tokenizer.c: any bytes as text, as text to train on, as tokenizer.json, or as vocab.json and merges.txt with a
 * zero byte between. The first byte chooses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[64];

static void write_file(const char *name, const uint8_t *data, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    fwrite(data, 1, size, f);
    fclose(f);
}

static void remove_directory(void) {
    rmdir(directory);
}

static void remove_file(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    unlink(path);
}

/* Decoding what was encoded gives the text back, repaired where it was broken. */
static void round_trip(lc_tokenizer *t, const uint8_t *data, size_t size, bool exact) {
    lc_ids ids = {0};
    if (lc_tokenizer_encode(t, (const char *)data, size, false, &ids)) { /* a pattern may give up */
        if (exact) abort();
        lc_ids_free(&ids);
        return;
    }
    int64_t *wide = malloc(sizeof *wide * (size_t)(ids.count + 1));
    for (int64_t i = 0; i < ids.count; i++) wide[i] = ids.data[i];
    char *text = NULL, *repaired = NULL;
    size_t length, wanted = size;
    if (lc_tokenizer_decode(t, wide, ids.count, false, &text, &length) && exact) abort();
    if (exact && lc_utf8_repair((const char *)data, size, &repaired, &wanted)) abort();
    const char *expected = repaired ? repaired : (const char *)data;
    if (exact && (length != wanted || (length && memcmp(text, expected, length) != 0))) abort();
    lc_free(repaired);
    lc_free(text);
    free(wide);
    lc_ids_free(&ids);
}

static void try_directory(const uint8_t *text, size_t length) {
    lc_tokenizer *t = NULL;
    if (!lc_tokenizer_load(directory, &t)) round_trip(t, text, length, false);
    lc_tokenizer_release(t);
}

/* A tokenizer with merges that the fuzzer cannot break. */
static lc_tokenizer *trained(void) {
    static lc_tokenizer *t;
    const char *text = "the cat sat on the mat, the cat's caf\xC3\xA9; the \xE6\x97\xA5\xE6\x9C\xAC the 12 12 cat sat";
    lc_bpe_options o = {.vocab_size = 300, .min_frequency = 1};
    if (!t && lc_tokenizer_train(text, strlen(text), &o, &t)) abort();
    return t;
}

static void learn(const uint8_t *data, size_t size) {
    lc_bpe_options o = {.vocab_size = 280, .min_frequency = 0};
    lc_tokenizer *t = NULL;
    if (lc_tokenizer_train((const char *)data, size, &o, &t)) abort();
    round_trip(t, data, size, lc_tokenizer_size(t) > 256);
    lc_tokenizer_release(t);
}

static void load_pair(const uint8_t *data, size_t size) {
    const uint8_t *zero = memchr(data, 0, size);
    if (!zero) return;
    write_file("vocab.json", data, (size_t)(zero - data));
    write_file("merges.txt", zero + 1, (size_t)(data + size - zero - 1));
    try_directory(data, size);
    remove_file("vocab.json");
    remove_file("merges.txt");
}

static void load_json(const uint8_t *data, size_t size) {
    write_file("tokenizer.json", data, size);
    try_directory(data, size);
    remove_file("tokenizer.json");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!directory[0]) {
        snprintf(directory, sizeof directory, "/tmp/lacuna-fuzz-%d", (int)getpid());
        if (lc_make_dirs(directory)) abort();
        atexit(remove_directory);
    }
    if (size < 2) return 0;
    switch (data[0] % 4) {
    case 0:
        round_trip(trained(), data + 1, size - 1, true);
        break;
    case 1:
        learn(data + 1, size - 1);
        break;
    case 2:
        load_json(data + 1, size - 1);
        break;
    case 3:
        load_pair(data + 1, size - 1);
        break;
    }
    return 0;
}
