/* config.h: reading a model's config.json: sizes, rates and activations, with transformers' defaults already in place.
 */
#ifndef LC_CONFIG_H
#define LC_CONFIG_H

#include "io/json.h"
#include "ops/op.h"

/* A size of at least 1, under one of two names (`other` may be NULL). Missing or null leaves *out as it is. */
lc_status lc_config_size(const json_t *config, const char *where, int64_t *out, const char *key, const char *other);
/* A share in 0..1, 1 excluded. */
lc_status lc_config_rate(const json_t *config, const char *where, const char *key, double *out);
/* A finite number of at least 0. */
lc_status lc_config_amount(const json_t *config, const char *where, const char *key, double *out);
/* transformers' names: gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu, swish. LC_EFORMAT lists them. */
lc_status lc_config_activation(const json_t *config, const char *where, const char *key, lc_activation *out);
/* "pad_token_id", an id of the vocabulary, counted from its end when negative; -1 = none. Missing leaves *out as it is,
 * null is none. */
lc_status lc_config_padding(const json_t *config, const char *where, int64_t vocabulary, int64_t *out);

#endif
