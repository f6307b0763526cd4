/* loader.c: a dataset's batches, epoch after epoch, in an order that is a function of (seed, epoch); see dataset.h. */
#include <stdio.h>

#include "base/memory.h"
#include "base/random.h"
#include "text/dataset.h"

struct lc_loader {
    lc_dataset *dataset;
    lc_loader_options options;
    int64_t epoch, index; /* the next batch begins at order[index] */
    int64_t *order;       /* of this epoch */
};

static void set_order(lc_loader *l) {
    int64_t count = lc_dataset_count(l->dataset);
    char name[64];
    snprintf(name, sizeof name, "batches/%lld", (long long)l->epoch);
    lc_stream stream = lc_stream_make(l->options.seed, name);
    if (!l->options.in_order) lc_stream_permutation(&stream, l->order, count);
    for (int64_t i = 0; l->options.in_order && i < count; i++) l->order[i] = i;
}

lc_status lc_loader_new(lc_dataset *d, const lc_loader_options *options, lc_loader **out) {
    if (options->batch < 1) return lc_fail(LC_EINVAL, "batch is %lld; at least 1", (long long)options->batch);
    lc_loader *l = lc_calloc(1, sizeof *l);
    if (!l) return LC_ENOMEM;
    l->order = lc_alloc(sizeof *l->order * (size_t)lc_dataset_count(d));
    if (!l->order) {
        lc_free(l);
        return LC_ENOMEM;
    }
    l->dataset = lc_dataset_retain(d);
    l->options = *options;
    set_order(l);
    *out = l;
    return LC_OK;
}

void lc_loader_free(lc_loader *l) {
    if (!l) return;
    lc_dataset_release(l->dataset);
    lc_free(l->order);
    lc_free(l);
}

lc_status lc_loader_next(lc_loader *l, lc_batch *out) {
    int64_t count = lc_dataset_count(l->dataset);
    if (l->index == count) LC_TRY(lc_loader_seek(l, l->epoch + 1, 0));
    int64_t n = lc_min(l->options.batch, count - l->index);
    LC_TRY(lc_dataset_batch(l->dataset, l->order + l->index, n, out));
    l->index += n;
    return LC_OK;
}

int64_t lc_loader_batches(const lc_loader *l) {
    return (lc_dataset_count(l->dataset) + l->options.batch - 1) / l->options.batch;
}

void lc_loader_position(const lc_loader *l, int64_t *epoch, int64_t *index) {
    *epoch = l->epoch;
    *index = l->index;
}

lc_status lc_loader_seek(lc_loader *l, int64_t epoch, int64_t index) {
    int64_t count = lc_dataset_count(l->dataset);
    if (epoch < 0 || index < 0 || index > count)
        return lc_fail(LC_EINVAL, "data position (epoch %lld, example %lld) is not in a dataset of %lld examples",
                       (long long)epoch, (long long)index, (long long)count);
    bool same = epoch == l->epoch;
    l->epoch = epoch;
    l->index = index;
    if (!same) set_order(l);
    return LC_OK;
}
