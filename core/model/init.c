/* init.c: fresh weights, as transformers draws them: norms 1, biases 0, the rest normal with the configuration's
 * deviation; the layers that end a residual branch get less, so that their sum over 2 x layers branches keeps its size.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "base/strbuf.h"
#include "grad/graph.h"
#include "model/config.h"
#include "model/family.h"

static lc_status draw_normal(lc_tensor *leaf, const char *name, uint64_t seed, double deviation) {
    char stream_name[320];
    snprintf(stream_name, sizeof stream_name, "init.%s", name);
    lc_stream stream = lc_stream_make(seed, stream_name);
    int64_t n = lc_numel(leaf);
    if (leaf->dtype == LC_F64)
        LC_TRY(lc_stream_fill_normal_f64(&stream, LC_DATA(double, leaf), n));
    else
        LC_TRY(lc_stream_fill_normal_f32(&stream, LC_DATA(float, leaf), n));
    lc_tensor *scale = NULL;
    LC_TRY(lc_tensor_scalar(leaf->dtype, deviation, &scale));
    lc_status status = lc_run_into(LC_OP_MUL, NULL, (lc_tensor *[]){leaf, scale}, 2, &leaf);
    lc_tensor_release(scale);
    return status;
}

static lc_status draw(lc_model *m, const lc_param *p, uint64_t seed, double deviation) {
    if (p->leaf->ndim < 2)
        return lc_fill(p->leaf, !strcmp(p->role, "norm") && lc_ends_with(p->name, ".weight") ? 1 : 0);
    bool ends_branch = !strcmp(p->role, "attention.out") || !strcmp(p->role, "mlp.down");
    if (ends_branch && m->family->scales_residual) deviation /= sqrt(2.0 * (double)m->sizes.layers);
    return draw_normal(p->leaf, p->name, seed, deviation);
}

/* The padding's row of the embedding. */
static lc_status clear_padding(lc_model *m) {
    lc_tensor *row = NULL;
    for (int64_t i = 0; i < m->n_params; i++) {
        if (strcmp(m->params[i]->role, "embedding")) continue;
        LC_TRY(lc_view_select(m->params[i]->leaf, 0, m->padding_id, &row));
        lc_status status = lc_fill(row, 0);
        lc_tensor_release(row);
        LC_TRY(status);
    }
    return LC_OK;
}

/* Normal numbers stay below 16. */
static lc_status read_deviation(const lc_model *m, const json_t *config, lc_dtype dtype, double *out) {
    const char *key = m->family->initializer;
    double deviation = 0.02, most = dtype == LC_F64 ? DBL_MAX / 16 : FLT_MAX / 16;
    LC_TRY(lc_config_amount(config, "config.json", key, &deviation));
    if (deviation > most)
        return lc_fail(LC_EFORMAT, "config.json: %s is %g: such weights do not fit %s", key, deviation,
                       lc_dtype_name(dtype));
    *out = deviation;
    return LC_OK;
}

lc_status lc_model_new(json_t *config, uint64_t seed, lc_dtype dtype, lc_model **out) {
    lc_model *m = NULL;
    LC_TRY(lc_model_build(config, dtype, &m));
    double deviation = 0;
    lc_status status;
    LC_GOTO(failed, read_deviation(m, config, dtype, &deviation));
    for (int64_t i = 0; i < m->n_params; i++) LC_GOTO(failed, draw(m, m->params[i], seed, deviation));
    if (m->padding_id >= 0) LC_GOTO(failed, clear_padding(m));
    m->dropout_seed = seed;
    *out = m;
    return LC_OK;
failed:
    lc_model_release(m);
    return status;
}
