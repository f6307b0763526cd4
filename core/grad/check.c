/* check.c: the gradient checker. */
#include "grad/check.h"

#include <math.h>

typedef lc_status (*checked)(void *context, lc_tensor *const *x, int n, lc_tensor **y);

/* The sum's weights: different for every element, and 1 for a single one. */
static double weight(int64_t i) {
    return cos((double)i);
}

/* sum of weights * f(x), without a graph. */
static lc_status weighted_sum(checked f, void *context, lc_tensor *const *x, int n, double *sum) {
    lc_tensor *y = NULL;
    bool before = lc_set_recording(false);
    lc_status status = f(context, x, n, &y);
    lc_set_recording(before);
    if (status) return status;
    *sum = 0;
    for (int64_t i = 0; i < lc_numel(y); i++) *sum += weight(i) * lc_get_f64(y, lc_position(y, i));
    lc_tensor_release(y);
    return LC_OK;
}

/* Adds the recorded gradient to every input's .grad. */
static lc_status add_recorded(checked f, void *context, lc_tensor *const *x, int n) {
    lc_tensor *y = NULL, *seed = NULL;
    LC_TRY(f(context, x, n, &y));
    lc_status status = lc_tensor_new(LC_F64, y->ndim, y->shape, y->storage->device, &seed);
    if (!status) {
        for (int64_t i = 0; i < lc_numel(seed); i++) lc_set_f64(seed, i, weight(i));
        status = lc_backward(y, seed);
    }
    lc_tensor_release(seed);
    lc_tensor_release(y);
    return status;
}

/* (f(x + step) - f(x - step)) / (2 step) in the element at `position`, which is put back. */
static lc_status central_difference(checked f, void *context, lc_tensor *const *x, int n, int input, int64_t position,
                                    double step, double *slope) {
    lc_tensor *t = x[input];
    double value = lc_get_f64(t, position), above = 0, below = 0;
    lc_set_f64(t, position, value + step);
    lc_status status = weighted_sum(f, context, x, n, &above);
    lc_set_f64(t, position, value - step);
    if (!status) status = weighted_sum(f, context, x, n, &below);
    lc_set_f64(t, position, value);
    lc_touch(t);
    *slope = (above - below) / (2 * step);
    return status;
}

lc_status lc_gradient_check(checked f, void *context, lc_tensor *const *x, int n, double step, double *worst) {
    for (int i = 0; i < n; i++) {
        if (x[i]->dtype != LC_F64 || x[i]->node || !x[i]->requires_grad)
            return lc_fail(LC_EDTYPE, "gradient check: input %d is not an f64 leaf", i);
        LC_TRY(lc_clear_grad(x[i]));
    }
    /* Twice, so that adding to a gradient that is there is checked too. */
    for (int pass = 0; pass < 2; pass++) LC_TRY(add_recorded(f, context, x, n));
    double largest = 0;
    for (int i = 0; i < n; i++) {
        for (int64_t k = 0; k < lc_numel(x[i]); k++) {
            double slope = 0;
            LC_TRY(central_difference(f, context, x, n, i, lc_position(x[i], k), step, &slope));
            double recorded = x[i]->grad ? lc_get_f64(x[i]->grad, lc_position(x[i]->grad, k)) / 2 : 0;
            double error = fabs(recorded - slope) / fmax(1, fabs(slope));
            if (!isnan(largest) && !(error <= largest)) largest = error; /* a NaN stays */
        }
    }
    *worst = largest;
    return LC_OK;
}
