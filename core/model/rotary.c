/* rotary.c: see rotary.h. Frequencies are worked out in double and rounded once. */
#include "model/rotary.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

typedef enum scaling {
    SCALING_DEFAULT,
    SCALING_LINEAR,
    SCALING_DYNAMIC,
    SCALING_YARN,
    SCALING_LONGROPE,
    SCALING_LLAMA3,
    SCALING_PROPORTIONAL,
    SCALINGS
} scaling;

static const char *const scaling_name[SCALINGS] = {"default",  "linear", "dynamic",     "yarn",
                                                   "longrope", "llama3", "proportional"};

struct lc_rotary {
    scaling type;
    double theta, factor;     /* factor: by how much texts are longer than those of the first training */
    double scale;             /* on cosines and sines */
    double share;             /* of a head that is turned */
    int64_t head_size, dims;  /* dims: columns that are turned, before an odd number is rounded up */
    int64_t n;                /* pairs */
    int64_t positions;        /* of the configuration */
    int64_t first_positions;  /* of the first training: "original_max_position_embeddings" */
    double low, high;         /* llama3: low_freq_factor, high_freq_factor; yarn: beta_slow, beta_fast */
    bool truncate;            /* yarn: the ramp begins and ends at whole columns */
    double *brief, *extended; /* longrope: (n) each, short_factor and long_factor */
};

void lc_rotary_free(lc_rotary *r) {
    if (!r) return;
    lc_free(r->brief);
    lc_free(r->extended);
    lc_free(r);
}

/* -- reading ------------------------------------------------------------------------------------ */

/* The object that describes the scaling, or NULL. The older key wins where both are there, as in transformers. */
static lc_status find_parameters(const json_t *config, const char *where, const json_t **out) {
    json_t *older = NULL, *newer = NULL;
    LC_TRY(lc_json_get_object(config, "rope_scaling", where, &older));
    LC_TRY(lc_json_get_object(config, "rope_parameters", where, &newer));
    *out = older && json_object_size(older) ? older : newer;
    if (json_is_object(json_object_get(*out, "full_attention")))
        return lc_fail(LC_EFORMAT, "%s: rope_parameters differ by layer type; only one set for all layers is supported",
                       where);
    return LC_OK;
}

static lc_status read_type(const json_t *parameters, const char *where, scaling *out) {
    const char *name = NULL;
    LC_TRY(lc_json_get_string(parameters, "type", where, &name));
    LC_TRY(lc_json_get_string(parameters, "rope_type", where, &name));
    *out = SCALING_DEFAULT;
    if (!name) return LC_OK;
    for (int i = 0; i < SCALINGS; i++) {
        *out = (scaling)i;
        if (!strcmp(name, scaling_name[i])) return LC_OK;
    }
    return lc_fail(LC_EFORMAT,
                   "%s: rope_type '%s' is unknown; there is default, linear, dynamic, yarn, longrope, llama3, "
                   "proportional",
                   where, name);
}

/* A number above 0. `required`: it has no default. */
static lc_status read_positive(const json_t *object, const char *where, const char *key, bool required, double *out) {
    if (required) LC_TRY(lc_json_require(object, key, where));
    LC_TRY(lc_json_get_double(object, key, where, out));
    if (!(*out > 0 && *out < INFINITY))
        return lc_fail(LC_EFORMAT, "%s: %s is %g; it must be above 0", where, key, *out);
    return LC_OK;
}

static lc_status read_factors(const json_t *parameters, const char *where, const char *key, int64_t n, double **out) {
    json_t *list = NULL;
    LC_TRY(lc_json_require(parameters, key, where));
    LC_TRY(lc_json_get_array(parameters, key, where, &list));
    if ((int64_t)json_array_size(list) != n)
        return lc_fail(LC_EFORMAT, "%s: %s has %zu numbers; these heads turn %lld pairs", where, key,
                       json_array_size(list), (long long)n);
    *out = lc_calloc((size_t)n, sizeof **out);
    if (!*out) return LC_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        (*out)[i] = json_number_value(json_array_get(list, (size_t)i));
        if (!((*out)[i] > 0)) return lc_fail(LC_EFORMAT, "%s: %s must hold numbers above 0", where, key);
    }
    return LC_OK;
}

/* YaRN (Peng et al. 2023), section 3.4: how much sharper attention becomes. */
static double yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static lc_status read_yarn(lc_rotary *r, const json_t *parameters, const char *where) {
    double mscale = 0, mscale_all = 0;
    r->low = 1;
    r->high = 32;
    r->truncate = true;
    LC_TRY(read_positive(parameters, where, "beta_fast", false, &r->high));
    LC_TRY(read_positive(parameters, where, "beta_slow", false, &r->low));
    LC_TRY(lc_json_get_bool(parameters, "truncate", where, &r->truncate));
    LC_TRY(lc_json_get_double(parameters, "mscale", where, &mscale));
    LC_TRY(lc_json_get_double(parameters, "mscale_all_dim", where, &mscale_all));
    bool both = mscale != 0 && mscale_all != 0;
    r->scale = both ? yarn_scale(r->factor, mscale) / yarn_scale(r->factor, mscale_all) : yarn_scale(r->factor, 1);
    return read_positive(parameters, where, "attention_factor", false, &r->scale);
}

/* LongRoPE (Ding et al. 2024), as Phi-3's configurations state it. */
static lc_status read_longrope(lc_rotary *r, const json_t *parameters, const char *where) {
    LC_TRY(read_factors(parameters, where, "short_factor", r->n, &r->brief));
    LC_TRY(read_factors(parameters, where, "long_factor", r->n, &r->extended));
    r->scale = r->factor <= 1 ? 1 : sqrt(1 + log(r->factor) / log((double)r->first_positions));
    return read_positive(parameters, where, "attention_factor", false, &r->scale);
}

static lc_status read_llama3(lc_rotary *r, const json_t *parameters, const char *where) {
    LC_TRY(read_positive(parameters, where, "low_freq_factor", true, &r->low));
    LC_TRY(read_positive(parameters, where, "high_freq_factor", true, &r->high));
    if (r->high <= r->low)
        return lc_fail(LC_EFORMAT, "%s: high_freq_factor %g must be above low_freq_factor %g", where, r->high, r->low);
    return LC_OK;
}

/* The factor and the length of the first training. */
static lc_status read_lengths(lc_rotary *r, const json_t *config, const json_t *parameters, const char *where) {
    r->first_positions = r->positions;
    LC_TRY(lc_json_get_int(parameters, "original_max_position_embeddings", where, &r->first_positions));
    LC_TRY(lc_json_get_int(config, "original_max_position_embeddings", where, &r->first_positions));
    if (r->first_positions < 1)
        return lc_fail(LC_EFORMAT, "%s: original_max_position_embeddings is %lld; it must be at least 1", where,
                       (long long)r->first_positions);
    bool by_ratio = r->type == SCALING_YARN || r->type == SCALING_LONGROPE;
    r->factor = by_ratio ? (double)r->positions / (double)r->first_positions : 1;
    bool required = r->type == SCALING_LINEAR || r->type == SCALING_DYNAMIC || r->type == SCALING_LLAMA3;
    return read_positive(parameters, where, "factor", required, &r->factor);
}

/* Which columns are turned. */
static lc_status read_share(lc_rotary *r, const json_t *config, const json_t *parameters, const char *where,
                            const lc_rotary_keys *keys) {
    r->share = keys->share;
    LC_TRY(read_positive(config, where, keys->partial, false, &r->share));
    LC_TRY(read_positive(parameters, where, "partial_rotary_factor", false, &r->share));
    if (r->share > 1 || (r->share < 1 && !keys->partial_heads && r->type != SCALING_PROPORTIONAL))
        return lc_fail(LC_EFORMAT, "%s: partial_rotary_factor is %g; %s", where, r->share,
                       r->share > 1 ? "it must be at most 1" : "this family turns whole heads");
    r->dims = r->type == SCALING_PROPORTIONAL ? r->head_size : (int64_t)((double)r->head_size * r->share);
    r->n = r->type == SCALING_PROPORTIONAL ? r->head_size / 2 : (r->dims + 1) / 2;
    if (r->n < 1 || 2 * r->n > r->head_size)
        return lc_fail(LC_EFORMAT, "%s: heads of size %lld cannot turn %lld columns in pairs", where,
                       (long long)r->head_size, (long long)r->dims);
    if (r->type == SCALING_DYNAMIC && r->dims <= 2)
        return lc_fail(LC_EFORMAT, "%s: rope_type 'dynamic' needs more than 2 turned columns", where);
    if (r->type == SCALING_YARN && r->dims % 2)
        return lc_fail(LC_EFORMAT, "%s: rope_type 'yarn' needs an even number of turned columns, not %lld", where,
                       (long long)r->dims);
    return LC_OK;
}

static lc_status read_all(lc_rotary *r, const json_t *config, const char *where, const lc_rotary_keys *keys) {
    const json_t *parameters;
    LC_TRY(find_parameters(config, where, &parameters));
    LC_TRY(read_type(parameters, where, &r->type));
    r->theta = 10000;
    r->scale = 1;
    LC_TRY(read_positive(config, where, keys->theta, false, &r->theta));
    LC_TRY(read_positive(parameters, where, "rope_theta", false, &r->theta));
    LC_TRY(read_lengths(r, config, parameters, where));
    LC_TRY(read_share(r, config, parameters, where, keys));
    switch (r->type) {
    case SCALING_YARN:
        return read_yarn(r, parameters, where);
    case SCALING_LONGROPE:
        return read_longrope(r, parameters, where);
    case SCALING_LLAMA3:
        return read_llama3(r, parameters, where);
    default:
        return LC_OK;
    }
}

lc_status lc_rotary_read(const json_t *config, const char *where, const lc_rotary_keys *keys, int64_t head_size,
                         int64_t positions, lc_rotary **out) {
    lc_rotary *r = lc_calloc(1, sizeof *r);
    if (!r) return LC_ENOMEM;
    r->head_size = head_size;
    r->positions = positions;
    lc_status status = read_all(r, config, where, keys);
    if (status)
        lc_rotary_free(r);
    else
        *out = r;
    return status;
}

/* -- frequencies -------------------------------------------------------------------------------- */

/* No text comes near: a damaged factor must not overflow. */
#define LONGEST_TEXT 0x1p40

int64_t lc_rotary_reach(const lc_rotary *r) {
    if (r->type != SCALING_DYNAMIC) return r->positions;
    return (int64_t)fmin(fmax(r->factor, 1) * (double)r->positions, LONGEST_TEXT);
}

double lc_rotary_scale(const lc_rotary *r) {
    return r->scale;
}

/* theta^(-2i / dims), what pair i turns by from one token to the next. */
static double plain(const lc_rotary *r, double theta, int64_t i) {
    return pow(theta, -2 * (double)i / (double)r->dims);
}

/* Neural tangent kernel scaling: a larger base for texts beyond `positions`. */
static double dynamic(const lc_rotary *r, int64_t length, int64_t i) {
    double longer = (double)lc_max(length, r->positions) / (double)r->positions, dims = (double)r->dims;
    return plain(r, r->theta * pow(r->factor * longer - (r->factor - 1), dims / (dims - 2)), i);
}

/* The column at which a pair turns `turns` times within the first training's length. */
static double yarn_column(const lc_rotary *r, double turns) {
    return (double)r->dims * log((double)r->first_positions / (turns * 2 * M_PI)) / (2 * log(r->theta));
}

/* YaRN, section 3.2: fast pairs stay, slow ones are interpolated, with a ramp between. */
static double yarn(const lc_rotary *r, int64_t i) {
    double begin = yarn_column(r, r->high), end = yarn_column(r, r->low);
    if (r->truncate) {
        begin = floor(begin);
        end = ceil(end);
    }
    begin = fmax(begin, 0);
    end = fmin(end, (double)r->dims - 1);
    if (begin == end) end += 0.001;
    double interpolated = fmin(fmax(((double)i - begin) / (end - begin), 0), 1), frequency = plain(r, r->theta, i);
    return frequency / r->factor * interpolated + frequency * (1 - interpolated);
}

/* Llama 3.1: waves that fit the first training's length often stay, long ones are stretched, with a ramp between. */
static double llama3(const lc_rotary *r, int64_t i) {
    double frequency = plain(r, r->theta, i), waves = (double)r->first_positions * frequency / (2 * M_PI);
    if (waves > r->high) return frequency;
    if (waves < r->low) return frequency / r->factor;
    double kept = (waves - r->low) / (r->high - r->low);
    return (1 - kept) * frequency / r->factor + kept * frequency;
}

static double frequency(const lc_rotary *r, int64_t length, int64_t i) {
    switch (r->type) {
    case SCALING_LINEAR:
        return plain(r, r->theta, i) / r->factor;
    case SCALING_DYNAMIC:
        return dynamic(r, length, i);
    case SCALING_YARN:
        return yarn(r, i);
    case SCALING_LONGROPE:
        return plain(r, r->theta, i) / (length > r->first_positions ? r->extended : r->brief)[i];
    case SCALING_LLAMA3:
        return llama3(r, i);
    case SCALING_PROPORTIONAL: /* the first share of the pairs turns, the rest stands still */
        return i < (int64_t)floor(r->share * (double)r->head_size / 2) ? plain(r, r->theta, i) / r->factor : 0;
    default:
        return plain(r, r->theta, i);
    }
}

lc_status lc_rotary_frequencies(const lc_rotary *r, int64_t length, lc_dtype dtype, lc_tensor **inv_freq) {
    LC_TRY(lc_tensor_new(dtype, 1, &r->n, LC_CPU, inv_freq));
    for (int64_t i = 0; i < r->n; i++) lc_set_f64(*inv_freq, i, frequency(r, length, i));
    return LC_OK;
}
