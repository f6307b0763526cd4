/* config.c: see config.h. */
#include "model/config.h"

#include <math.h>
#include <string.h>

/* No model comes near: what is larger is a damaged file, and products of a few such sizes still fit 64 bits. */
#define LARGEST_SIZE ((int64_t)1 << 24)

lc_status lc_config_size(const json_t *config, const char *where, int64_t *out, const char *key, const char *other) {
    int64_t size = *out;
    if (other) LC_TRY(lc_json_get_int(config, other, where, &size));
    LC_TRY(lc_json_get_int(config, key, where, &size));
    if (size < 1 || size > LARGEST_SIZE)
        return lc_fail(LC_EFORMAT, "%s: %s is %lld; it must be 1 to %lld", where, key, (long long)size,
                       (long long)LARGEST_SIZE);
    *out = size;
    return LC_OK;
}

lc_status lc_config_rate(const json_t *config, const char *where, const char *key, double *out) {
    double rate = *out;
    LC_TRY(lc_json_get_double(config, key, where, &rate));
    if (!(rate >= 0 && rate < 1))
        return lc_fail(LC_EFORMAT, "%s: %s is %g; it must be at least 0 and below 1", where, key, rate);
    *out = rate;
    return LC_OK;
}

lc_status lc_config_amount(const json_t *config, const char *where, const char *key, double *out) {
    double amount = *out;
    LC_TRY(lc_json_get_double(config, key, where, &amount));
    if (!(amount >= 0 && amount < INFINITY))
        return lc_fail(LC_EFORMAT, "%s: %s is %g; it must be at least 0", where, key, amount);
    *out = amount;
    return LC_OK;
}

lc_status lc_config_activation(const json_t *config, const char *where, const char *key, lc_activation *out) {
    static const struct {
        const char *name;
        lc_activation act;
    } names[] = {
        {"gelu", LC_ACT_GELU},
        {"gelu_python", LC_ACT_GELU},
        {"gelu_new", LC_ACT_GELU_TANH},
        {"gelu_fast", LC_ACT_GELU_TANH},
        {"gelu_accurate", LC_ACT_GELU_TANH},
        {"gelu_python_tanh", LC_ACT_GELU_TANH},
        {"gelu_pytorch_tanh", LC_ACT_GELU_TANH},
        {"relu", LC_ACT_RELU},
        {"silu", LC_ACT_SILU},
        {"swish", LC_ACT_SILU},
        {"tanh", LC_ACT_TANH},
    };
    const char *name = NULL;
    LC_TRY(lc_json_get_string(config, key, where, &name));
    if (!name) return LC_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i].name)) continue;
        *out = names[i].act;
        return LC_OK;
    }
    return lc_fail(LC_EFORMAT,
                   "%s: %s '%s' is unknown; there is gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu, tanh",
                   where, key, name);
}

lc_status lc_config_padding(const json_t *config, const char *where, int64_t vocabulary, int64_t *out) {
    const json_t *value = json_object_get(config, "pad_token_id");
    if (!value) return LC_OK;
    *out = -1;
    if (json_is_null(value)) return LC_OK;
    int64_t id = 0;
    LC_TRY(lc_json_get_int(config, "pad_token_id", where, &id));
    if (id < -vocabulary || id >= vocabulary)
        return lc_fail(LC_EFORMAT, "%s: pad_token_id %lld is outside the vocabulary of %lld", where, (long long)id,
                       (long long)vocabulary);
    *out = id < 0 ? id + vocabulary : id;
    return LC_OK;
}
