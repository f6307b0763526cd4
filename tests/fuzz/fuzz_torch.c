/* fuzz_torch.c: any bytes as a file of torch.save: opened, listed, and every tensor read. The first byte chooses: the
 * rest is the whole file (an archive), or what follows the pickles that begin one of the old form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char legacy[] =
    "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20j\xa8P\x19.\x80\2M\xe9\3.\x80\2}\x8c\rlittle_endian\x88s.";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char path[64];
    if (!path[0]) snprintf(path, sizeof path, "/tmp/lacuna-fuzz-%d.pt", (int)getpid());
    if (!size) return 0;
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    if (data[0] % 2) fwrite(legacy, 1, sizeof legacy - 1, f);
    fwrite(data + 1, 1, size - 1, f);
    fclose(f);
    lc_weights *w = NULL;
    if (!lc_weights_open(path, &w)) {
        for (int64_t i = 0; i < lc_weights_count(w); i++) {
            const lc_stored *e = lc_weights_at(w, i);
            lc_tensor *stored = NULL, *cast = NULL;
            if (lc_weights_find(w, e->name) != e) abort();
            (void)!lc_weights_read(w, e->name, LC_DTYPES, &stored);
            (void)!lc_weights_read(w, e->name, LC_F64, &cast);
            lc_tensor_release(stored);
            lc_tensor_release(cast);
        }
    }
    lc_weights_release(w);
    unlink(path);
    return 0;
}
