/* fuzz_tokenizer_file.c: any bytes as the tokenizer of a GGUF file, or (where they do not begin like one) as llama2.c's;
 * what loads encodes and decodes texts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every id is one of the vocabulary's, and all of them can be decoded. */
static void round_trip(lc_tokenizer *t, const char *text, size_t length) {
    lc_ids ids = {0};
    if (!lc_tokenizer_encode(t, text, length, true, &ids)) {
        int64_t *wide = malloc(sizeof *wide * (size_t)(ids.count + 1));
        char *decoded = NULL;
        size_t decoded_length;
        for (int64_t i = 0; i < ids.count; i++) {
            wide[i] = ids.data[i];
            if (wide[i] < 0 || wide[i] >= lc_tokenizer_size(t)) abort();
        }
        (void)!lc_tokenizer_decode(t, wide, ids.count, true, &decoded, &decoded_length);
        lc_free(decoded);
        free(wide);
    }
    lc_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = " ab11  caf\xC3\xA9\n<|end|><s>The  cat's \xE6\x97\xA5\xE6\x9C\xAC 1234";
    char path[64];
    bool gguf = size >= 4 && !memcmp(data, "GGUF", 4);
    snprintf(path, sizeof path, "/tmp/lacuna-fuzz-tokenizer-%d.%s", (int)getpid(), gguf ? "gguf" : "bin");
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    fwrite(data, 1, size, f);
    fclose(f);
    lc_tokenizer *t = NULL;
    if (!lc_tokenizer_load(path, &t)) {
        round_trip(t, text, sizeof text - 1);
        round_trip(t, (const char *)data, size);
    }
    lc_tokenizer_release(t);
    unlink(path);
    return 0;
}
