/* fuzz_safetensors.c: any bytes as a safetensors file: opened, listed, and every tensor read, as stored and cast. The
 * first byte chooses: the rest is the file, or a header, to be given its true length, and after a zero byte the data.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "io/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char path[64];
    if (!path[0]) snprintf(path, sizeof path, "/tmp/lacuna-fuzz-%d.safetensors", (int)getpid());
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    if (size && data[0] % 2) {
        const uint8_t *zero = memchr(data, 0, size);
        size_t header = zero ? (size_t)(zero - data) : size;
        uint64_t length = htole64(header - 1);
        fwrite(&length, 8, 1, f);
        fwrite(data + 1, 1, header - 1, f);
        if (zero) fwrite(zero + 1, 1, size - header - 1, f);
    } else if (size) {
        fwrite(data + 1, 1, size - 1, f);
    }
    fclose(f);
    lc_weights *s = NULL;
    if (!lc_weights_open(path, &s)) {
        for (int64_t i = 0; i < lc_weights_metadata_count(s); i++) {
            const lc_metadata *entry = lc_weights_metadata_at(s, i);
            if (lc_weights_metadata(s, entry->key) != entry->text || entry->text[entry->length]) abort();
        }
        for (int64_t i = 0; i < lc_weights_count(s); i++) {
            const lc_stored *e = lc_weights_at(s, i);
            lc_tensor *stored = NULL, *cast = NULL;
            if (lc_weights_find(s, e->name) != e) abort();
            (void)!lc_weights_read(s, e->name, LC_DTYPES, &stored);
            (void)!lc_weights_read(s, e->name, LC_F64, &cast);
            lc_tensor_release(stored);
            lc_tensor_release(cast);
        }
    }
    lc_weights_release(s);
    unlink(path);
    return 0;
}
