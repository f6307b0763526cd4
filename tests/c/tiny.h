/* tiny.h: for C checks, a GPT-2 of some hundred weights and a text to calibrate it with. */
#ifndef LC_TESTS_TINY_H
#define LC_TESTS_TINY_H

#include <jansson.h>

#include "check.h"
#include "solve/calibrate.h"

static inline lc_model *tiny_model(int layers, lc_dtype dtype) {
    lc_model *m = NULL;
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "model_type", "gpt2", "vocab_size", 11, "n_positions",
                               8, "n_embd", 6, "n_layer", layers, "n_head", 2);
    CHECK_OK(lc_model_new(config, 1, dtype, &m));
    json_decref(config);
    return m;
}

/* A calibration of these layers that was fed five rows of eight tokens. */
static inline lc_status open_text(const lc_selection *layers, lc_calibrate_options options, lc_calibration **out) {
    lc_calibration *c = NULL;
    lc_tensor *ids = NULL;
    LC_TRY(lc_calibration_new("prune.test", layers, &options, &c));
    lc_status status = lc_tensor_zeros(LC_I64, 2, (int64_t[]){5, 8}, LC_CPU, &ids);
    for (int64_t i = 0; !status && i < 40; i++) lc_set_f64(ids, i, (double)(i * 7 % 11));
    if (!status) status = lc_calibration_feed(c, &(lc_batch){.ids = ids});
    lc_tensor_release(ids);
    if (status)
        lc_calibration_free(c);
    else
        *out = c;
    return status;
}

/* Of the layers' weights. */
static inline int64_t zeros_of(const lc_selection *layers) {
    int64_t zeros = 0;
    for (int64_t i = 0; i < layers->n; i++) {
        int64_t n = 0;
        CHECK_OK(lc_param_zeros(lc_selected_layer(layers, i)->weight, &n));
        zeros += n;
    }
    return zeros;
}

#endif
