/* magnitude.c: magnitude and random scores. */
#include "solve/magnitude.h"

#include <stdio.h>

#include "base/random.h"
#include "ops/op.h"

/* |w|; where weights may come back, that of what they were. */
static lc_status magnitude(void *context, lc_layer *layer, lc_scores *out) {
    const lc_prune_options *options = context;
    out->absolute = true;
    return lc_prune_weight(layer->weight, options->regrow, &out->values);
}

lc_status lc_prune_magnitude(const lc_selection *layers, const lc_prune_options *options, lc_mask **out) {
    return lc_prune("prune.magnitude", layers, magnitude, (void *)options, options, out);
}

static lc_status random_score(void *context, lc_layer *layer, lc_scores *out) {
    char name[256];
    snprintf(name, sizeof name, "prune.random %s", layer->name);
    lc_stream stream = lc_stream_make(*(const uint64_t *)context, name);
    lc_tensor *u = NULL;
    LC_TRY(lc_tensor_new(LC_F32, 2, layer->weight->leaf->shape, LC_CPU, &u));
    lc_status status = lc_stream_fill_uniform_f32(&stream, lc_data(u), lc_numel(u));
    if (status)
        lc_tensor_release(u);
    else
        out->values = u;
    return status;
}

lc_status lc_prune_random(const lc_selection *layers, const lc_prune_options *options, uint64_t seed, lc_mask **out) {
    return lc_prune("prune.random", layers, random_score, &seed, options, out);
}
