/* family.h: what a family of transformers adds to what all share. A family is one file and one row in build.c. */
#ifndef LC_FAMILY_H
#define LC_FAMILY_H

#include "model/model.h"

struct lc_family {
    const char *name;         /* config.json's "model_type" */
    const char *prefix;       /* of all names but the head's: "transformer."; files may have it or not */
    const char *architecture; /* transformers' class with the language-modelling head */
    const char *other_head;   /* what some files call the head's weight; NULL = nothing else */
    const char *const *keys;  /* what a configuration may say; NULL-terminated */
    const char *initializer;  /* the configuration's key for the deviation of fresh weights */
    bool scales_residual;     /* fresh attention.out and mlp.down are divided by sqrt(2 layers) */
    bool causal;              /* the loss shifts labels, perplexity and generation make sense */
    bool positions_by_mask;   /* positions count the tokens that are not padding; else every place counts */
    /* Reads m->config, sets m->sizes, makes every part with the functions below; weights are not drawn yet. */
    lc_status (*build)(lc_model *m);
    lc_status (*embed)(lc_model *m, const lc_pass *pass, lc_tensor **x);
    lc_status (*finish)(lc_model *m, const lc_pass *pass, lc_tensor *x, lc_tensor **hidden); /* the last norm */
    /* A tensor of older files that is not a parameter ("h.0.attn.bias": the causal mask) and is passed over. Name
     * without prefix. */
    bool (*is_buffer)(const char *name);
};

/* LC_ENOTFOUND lists the families there are. */
lc_status lc_family_find(const char *name, const lc_family **out);

extern const lc_family lc_family_gpt2, lc_family_llama, lc_family_qwen2, lc_family_gpt_neox, lc_family_opt;

/* The parts of a model with this configuration (copied); weights are not drawn. For lc_model_new, load and clone. */
lc_status lc_model_build(json_t *config, lc_dtype dtype, lc_model **out);

/* -- passes ------------------------------------------------------------------------------------- */
/* LC_EINVAL, LC_ESHAPE or LC_EDTYPE for a batch that this model cannot take. */
lc_status lc_batch_check(lc_model *m, const lc_batch *batch);
/* A pass over this batch, which is checked first. lc_pass_close it. */
lc_status lc_pass_open(lc_model *m, const lc_batch *batch, bool train, lc_pass *out);
/* Says where the pass's tokens stand: positions (T) or (B, T) from 0, and the length of the text, one more than the
 * largest of them. */
lc_status lc_pass_place(lc_model *m, lc_tensor *positions, int64_t length, lc_pass *pass);
void lc_pass_close(lc_pass *pass); /* an empty one is fine */
/* Through all blocks: (B, T, C) after the last norm. Held zeros are enforced first. */
lc_status lc_model_pass(lc_model *m, const lc_pass *pass, lc_tensor **hidden);
/* lc_block_forward, done again in the backward pass: only x is kept until then. */
lc_status lc_block_recomputed(lc_model *m, const lc_block *block, const lc_pass *pass, lc_tensor *x, lc_tensor **y);

/* -- for build: each adds to the model, which owns what it gives -------------------------------- */
/* A parameter of the given shape. Names are formatted whole, prefix included. */
lc_status lc_build_param(lc_model *m, const char *role, int block, int ndim, const int64_t *shape, bool transposed,
                         lc_param **out, const char *name, ...) LC_PRINTF(8, 9);
/* A linear layer with weight "<name>.weight" (O, I), in the file (I, O) with `transposed`, and bias "<name>.bias" if
 * wanted. */
lc_status lc_build_linear(lc_model *m, const char *role, int block, int64_t outputs, int64_t inputs, bool transposed,
                          bool bias, lc_layer **out, const char *name, ...) LC_PRINTF(9, 10);
/* Norm with "<name>.weight" and, unless rms, "<name>.bias". */
lc_status lc_build_norm(lc_model *m, int block, int64_t width, double eps, bool rms, lc_norm *out, const char *name,
                        ...) LC_PRINTF(7, 8);
lc_status lc_build_block(lc_model *m, lc_block **out, const char *name, ...) LC_PRINTF(3, 4);
/* The head: tied to `embedding`, or its own weight "lm_head.weight". */
lc_status lc_build_head(lc_model *m, lc_param *embedding, bool tied, const char *name);

#endif
