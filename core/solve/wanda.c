/* wanda.c: see wanda.h. */
#include "solve/wanda.h"

#include "ops/op.h"

static lc_status wanda_score(void *context, const lc_layer_stats *stats, lc_tensor *W, lc_scores *out) {
    (void)context;
    lc_tensor *norm = NULL;
    LC_TRY(lc_cast(stats->norm, W->dtype, &norm));
    out->absolute = true;
    lc_status status = lc_run(LC_OP_MUL, NULL, (lc_tensor *[]){W, norm}, 2, &out->values);
    lc_tensor_release(norm);
    return status;
}

lc_status lc_prune_wanda(lc_calibration *c, const lc_prune_options *options, lc_mask **out) {
    return lc_prune_scored(c, wanda_score, NULL, options, out);
}
