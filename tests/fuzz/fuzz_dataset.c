/* fuzz_dataset.c: any bytes as .txt, .jsonl and .gz, in windows and documents; the first bytes choose how. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "text/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST_BATCHES 50

/* Every example is read, in one epoch of batches; of large datasets the first ones. */
static void read_all(lc_dataset *d, int64_t batch) {
    lc_loader *l = NULL;
    lc_loader_options o = {.batch = batch, .seed = 1};
    if (lc_loader_new(d, &o, &l)) abort();
    int64_t examples = 0, batches = lc_loader_batches(l);
    for (int64_t i = 0; i < lc_min(batches, MOST_BATCHES); i++) {
        lc_batch b = {0};
        if (lc_loader_next(l, &b)) abort();
        examples += b.ids->shape[0];
        lc_batch_release(&b);
    }
    if (batches <= MOST_BATCHES && examples != lc_dataset_count(d)) abort();
    lc_loader_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lc_tokenizer *bytes;
    if (!bytes && lc_tokenizer_bytes(&bytes)) abort();
    if (size < 3) return 0;
    static const char *const endings[] = {"txt", "jsonl", "txt.gz", "jsonl.gz"};
    char path[80];
    snprintf(path, sizeof path, "/tmp/lacuna-fuzz-%d.%s", (int)getpid(), endings[data[0] & 3]);
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    fwrite(data + 3, 1, size - 3, f);
    fclose(f);
    lc_dataset_options o = {.tokenizer = bytes,
                            .file = path,
                            .length = 1 + data[1] % 16,
                            .stride = data[2] % 8,
                            .per = (data[0] >> 2 & 1) ? LC_PER_DOCUMENT : LC_PER_WINDOW,
                            .join = (data[0] >> 3 & 1) ? LC_JOIN_ROWS : LC_JOIN_PLAIN,
                            .no_cache = true};
    lc_dataset *d = NULL, *first = NULL, *rest = NULL, *sample = NULL;
    if (!lc_dataset_new(&o, &d)) {
        read_all(d, 1 + data[1] % 5);
        if (!lc_dataset_split(d, 0.5, &first, &rest)) read_all(rest, 2);
        if (!lc_dataset_sample(d, 2, 1, &sample)) read_all(sample, 2);
    }
    lc_dataset_release(first);
    lc_dataset_release(rest);
    lc_dataset_release(sample);
    lc_dataset_release(d);
    unlink(path);
    return 0;
}
