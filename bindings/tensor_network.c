/* tensor_network.c: the pieces of networks. Shapes: B batch, T tokens, C width, H heads, D head size, V classes. */
#include <math.h>

#include "tensor.h"

/* -- rows -- */

/* softmax over another dimension than the last: moved behind, and back. */
static int softmax(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int last = x->ndim - 1, dim = lcl_optional_dim(L, 2, x->ndim, last);
    if (dim == last) return lcl_apply(L, lcl_op(L), NULL, &x, 1, 1);
    lc_tensor **moved = lcl_push(L, &LCL_TENSOR), **back = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_transpose(x, dim, last, moved), 0);
    lcl_apply(L, lcl_op(L), NULL, moved, 1, 1);
    lcl_done(L, lc_transpose(lcl_tensor(L, -1), dim, last, back), 0);
    lua_pop(L, 1);
    return 1;
}

static lc_tensor *optional_tensor(lua_State *L, int arg) {
    return lua_isnoneornil(L, arg) ? NULL : lcl_tensor(L, arg);
}

static const lcl_option layer_norm_rows[] = {
    {"eps", LCL_NUMBER, offsetof(lc_attr, a), .min = 0, .max = INFINITY, .fallback = "1e-5",
     .doc = "added to the variance"},
    {0},
};
static const lcl_option_set layer_norm_set = {"layer_norm", layer_norm_rows};

static int layer_norm(lua_State *L) {
    lc_tensor *in[3] = {lcl_tensor(L, 1), optional_tensor(L, 2), optional_tensor(L, 3)};
    lc_attr attr = {0};
    lcl_options(L, 4, &layer_norm_set, &attr);
    return lcl_apply(L, LC_OP_LAYER_NORM, &attr, in, 3, 1);
}

static const lcl_option rms_norm_rows[] = {
    {"eps", LCL_NUMBER, offsetof(lc_attr, a), .min = 0, .max = INFINITY, .fallback = "1e-6",
     .doc = "added to the mean square"},
    {0},
};
static const lcl_option_set rms_norm_set = {"rms_norm", rms_norm_rows};

static int rms_norm(lua_State *L) {
    lc_tensor *in[2] = {lcl_tensor(L, 1), optional_tensor(L, 2)};
    lc_attr attr = {0};
    lcl_options(L, 3, &rms_norm_set, &attr);
    return lcl_apply(L, LC_OP_RMS_NORM, &attr, in, 2, 1);
}

/* -- layers -- */

static const char *const activations[] = {"none", "relu", "gelu", "gelu_tanh", "silu", "tanh", NULL};
static const lcl_option linear_rows[] = {
    {"act", LCL_CHOICE, 0, .choices = activations, .fallback = "'none'",
     .doc = "activation, computed together with the product"},
    {0},
};
static const lcl_option_set linear_set = {"linear", linear_rows};

static int linear(lua_State *L) {
    lc_tensor *in[3] = {lcl_tensor(L, 1), lcl_tensor(L, 2), optional_tensor(L, 3)};
    int act = LC_ACT_NONE; /* choices are in lc_activation's order */
    lcl_options(L, 4, &linear_set, &act);
    lc_tensor **y = lcl_push(L, &LCL_TENSOR);
    lc_status status = lc_linear(in[0], in[1], in[2], (lc_activation)act, y);
    if (status == LC_ENOMEM) {
        lcl_collect_all(L);
        status = lc_linear(in[0], in[1], in[2], (lc_activation)act, y);
    }
    return lcl_done(L, status, 1);
}

static int embedding(lua_State *L) {
    lc_tensor *in[2] = {lcl_tensor(L, 1), lcl_ids(L, 2)};
    return lcl_apply(L, LC_OP_EMBEDDING, NULL, in, 2, 1);
}

/* Draws come from the stream "dropout", of which each call takes as many blocks as it needs. */
static int dropout(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_stream *stream = lcl_stream(L, "dropout");
    lc_attr attr = {.a = lcl_number(L, 2), .key = stream->key, .counter = stream->counter};
    lcl_apply(L, LC_OP_DROPOUT, &attr, &x, 1, 1);
    stream->counter += (uint64_t)(lc_numel(x) + 3) / 4;
    return 1;
}

/* -- attention -- */

static const lcl_option rotary_rows[] = {
    {"scale", LCL_NUMBER, offsetof(lc_attr, a), .fallback = "1", .doc = "factor on what is turned"},
    {0},
};
static const lcl_option_set rotary_set = {"rotary", rotary_rows};

/* x:rotary(positions, inv_freq, {scale}) */
static int rotary(lua_State *L) {
    lua_settop(L, 4);
    lc_tensor *in[3] = {lcl_tensor(L, 1), lcl_ids(L, 2), lcl_tensor(L, 3)};
    lc_attr attr = {0};
    lcl_options(L, 4, &rotary_set, &attr);
    return lcl_apply(L, LC_OP_ROTARY, &attr, in, 3, 1);
}

typedef struct attention_options {
    bool causal;
    double scale;
} attention_options;

static const lcl_option attention_rows[] = {
    {"causal", LCL_BOOL, offsetof(attention_options, causal), .fallback = "false",
     .doc = "a query sees no later key; the last query sees all"},
    {"mask", LCL_ANY, .doc = "(B, S) booleans: keys that may be seen"},
    {"scale", LCL_NUMBER, offsetof(attention_options, scale),
     .doc = "factor on the products of queries and keys; 1 / sqrt(D) when nil"},
    {0},
};
static const lcl_option_set attention_set = {"attention", attention_rows};

/* lc.attention(q, k, v, {causal, mask, scale}) */
static int attention(lua_State *L) {
    lc_tensor *in[4] = {lcl_tensor(L, 1), lcl_tensor(L, 2), lcl_tensor(L, 3)};
    attention_options o = {.scale = 0};
    lua_settop(L, 4);
    lcl_options(L, 4, &attention_set, &o);
    if (lcl_field(L, 4, "mask") != LUA_TNIL) {
        in[3] = lcl_test(L, -1, &LCL_TENSOR);
        if (!in[3]) lcl_error(L, "attention: option 'mask' must be a tensor of booleans, got %s", lcl_describe(L, -1));
    }
    if (lcl_field(L, 4, "scale") == LUA_TNIL && in[0]->ndim == 4) o.scale = 1 / sqrt((double)in[0]->shape[3]);
    lc_attr attr = {.a = o.scale, .causal = o.causal};
    return lcl_apply(L, LC_OP_ATTENTION, &attr, in, 4, 1);
}

/* -- losses -- */

/* Pushes x with all dimensions but the last `kept` made one. */
static lc_tensor *push_rows(lua_State *L, lc_tensor *x, int kept) {
    int64_t shape[2] = {1};
    for (int i = 0; i < x->ndim - kept; i++) shape[0] *= x->shape[i];
    if (kept) shape[1] = x->shape[x->ndim - 1];
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_reshape(x, 1 + kept, shape, slot), 0);
    return *slot;
}

/* logits (..., V), labels (...): the mean over the labels that are not -100. */
static int cross_entropy(lua_State *L) {
    lc_tensor *logits = lcl_tensor(L, 1), *labels = lcl_ids(L, 2);
    if (logits->ndim < 1 || labels->ndim != logits->ndim - 1)
        lcl_error(L, "cross_entropy: labels %s do not go with logits %s (..., classes)", LC_SHAPE(labels),
                  LC_SHAPE(logits));
    lc_tensor *in[2] = {push_rows(L, logits, 1), push_rows(L, labels, 0)};
    lc_attr attr = {0};
    return lcl_apply(L, LC_OP_CROSS_ENTROPY, &attr, in, 2, 1);
}

const lcl_function lcl_network_functions[] = {
    {"softmax", softmax, "x:softmax([dim = -1]) -> tensor", "exp(x) over its sum along a dimension.", NULL,
     LC_OP_SOFTMAX},
    {"log_softmax", softmax, "x:log_softmax([dim = -1]) -> tensor", "The logarithm of softmax, exact far from 0.", NULL,
     LC_OP_LOG_SOFTMAX},
    {"layer_norm", layer_norm, "x:layer_norm([w, b], {eps = 1e-5}) -> tensor",
     "Rows (..., C) with mean 0 and variance 1, times w (C), plus b (C).", &layer_norm_set},
    {"rms_norm", rms_norm, "x:rms_norm([w], {eps = 1e-6}) -> tensor",
     "Rows (..., C) over the root of their mean square, times w (C).", &rms_norm_set},
    {"linear", linear, "x:linear(w [, b], {act}) -> tensor",
     "x w^T + b: x (..., I), w (O, I), b (O); with an activation on it when asked.", &linear_set},
    {"embedding", embedding, "x:embedding(ids) -> tensor",
     "The rows of x (V, C) that ids (from 0, any shape) name: (..., C)."},
    {"dropout", dropout, "x:dropout(rate) -> tensor",
     "Zeroes a share of the entries at random and divides the rest by 1 - rate. Draws from the stream \"dropout\"."},
    {"rotary", rotary, "x:rotary(positions, inv_freq, {scale = 1}) -> tensor",
     "Rotary positions: x (B, T, H, D); columns i and n + i of each head are turned by the angle position inv_freq[i]; "
     "positions (T) or (B, T) from 0, inv_freq (n), 2n <= D.",
     &rotary_set},
    {"attention", attention, "lc.attention(q, k, v, {causal, mask, scale}) -> tensor",
     "Softmax attention: q (B, T, H, D), k and v (B, S, G, D), where G divides H (grouped queries) -> (B, T, H, D).",
     &attention_set},
    {"cross_entropy", cross_entropy, "x:cross_entropy(labels) -> scalar",
     "Mean of -log softmax(x)[label] over the labels that are not -100: logits x (..., V), labels (...) from 0."},
    {0},
};
