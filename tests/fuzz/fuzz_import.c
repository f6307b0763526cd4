/* fuzz_import.c: any bytes as a model of another program: a GGUF file, or one of llama2.c when they do not begin so;
 * the configuration, and the names of the tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char path[64];
    if (!path[0]) snprintf(path, sizeof path, "/tmp/lacuna-fuzz-import-%d", (int)getpid());
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    fwrite(data, 1, size, f);
    fclose(f);
    lc_source s = {0};
    bool gguf = size >= 4 && !memcmp(data, "GGUF", 4);
    lc_status status = gguf ? lc_import_gguf(path, &s) : lc_import_llama2c(path, &s);
    for (int64_t i = 0; !status && i < lc_weights_count(s.weights); i++) {
        const lc_stored *e = lc_weights_at(s.weights, i);
        lc_row_order order;
        if (lc_weights_find(s.weights, e->name) != e) abort();
        if (s.reordered) (void)!s.reordered(&s, e->name, &order);
    }
    lc_source_close(&s);
    unlink(path);
    return 0;
}
