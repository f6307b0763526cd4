/* fuzz_safetensors.c: any bytes as a safetensors file: opened, listed, and every tensor read, as stored and cast. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char path[64];
    if (!path[0]) snprintf(path, sizeof path, "/tmp/lacuna-fuzz-%d.safetensors", (int)getpid());
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    fwrite(data, 1, size, f);
    fclose(f);
    lc_safetensors *s = NULL;
    if (!lc_safetensors_open(path, &s)) {
        const char *key, *value;
        for (int64_t i = 0; lc_safetensors_metadata_at(s, i, &key, &value); i++)
            if (lc_safetensors_metadata(s, key) != value) abort();
        for (int64_t i = 0; i < lc_safetensors_count(s); i++) {
            const lc_stored *e = lc_safetensors_at(s, i);
            lc_tensor *stored = NULL, *cast = NULL;
            if (lc_safetensors_find(s, e->name) != e) abort();
            (void)!lc_safetensors_read(s, e->name, LC_DTYPES, &stored);
            (void)!lc_safetensors_read(s, e->name, LC_F64, &cast);
            lc_tensor_release(stored);
            lc_tensor_release(cast);
        }
    }
    lc_safetensors_release(s);
    unlink(path);
    return 0;
}
