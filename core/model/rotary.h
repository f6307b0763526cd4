/* rotary.h: rotary positions (Su et al. 2021, "RoFormer") as a configuration describes them: the frequencies of the
 * turned pairs of columns, under every scaling for longer texts that transformers knows.
 *
 * A configuration names the scaling in "rope_parameters" {rope_type, rope_theta, ...}, or as older files do in
 * "rope_scaling" {type, ...} beside "rope_theta". Column i of a head is turned against column i + n. */
#ifndef LC_ROTARY_H
#define LC_ROTARY_H

#include "io/json.h"
#include "tensor/tensor.h"

typedef struct lc_rotary lc_rotary;

/* What a family's configuration calls things, and what it may ask for. */
typedef struct lc_rotary_keys {
    const char *theta;   /* the older key of the base: "rope_theta" */
    const char *partial; /* the older key of the share of a head that is turned: "rotary_pct" */
    double share;        /* of a head, when the configuration says nothing */
    bool partial_heads;  /* shares below 1 are possible */
} lc_rotary_keys;

/* `positions` is the configuration's max_position_embeddings. LC_EFORMAT for an unknown type (the known ones are
 * listed), a missing or impossible number. */
lc_status lc_rotary_read(const json_t *config, const char *where, const lc_rotary_keys *keys, int64_t head_size,
                         int64_t positions, lc_rotary **out);
void lc_rotary_free(lc_rotary *r); /* NULL is fine */

/* The longest text that it is meant for: `positions`, for "dynamic" times its factor. */
int64_t lc_rotary_reach(const lc_rotary *r);
/* What turned columns are multiplied by. */
double lc_rotary_scale(const lc_rotary *r);
/* Frequencies (n) for a text of `length` tokens; only "dynamic" and "longrope" depend on the length. */
lc_status lc_rotary_frequencies(const lc_rotary *r, int64_t length, lc_dtype dtype, lc_tensor **inv_freq);

#endif
