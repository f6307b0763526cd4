/* model.h: a transformer: parameters, linear layers and blocks, and the passes through them.
 *
 * A family (GPT-2, OPT, ...) is one file and one row of the table in build.c: it builds the parts from a config.json
 * and runs embed, block and finish from the pieces in blocks.h. Everything else here is common to all families.
 *
 * Shapes: ids (B, T), hidden (B, T, C), logits (B, T, V). */
#ifndef LC_MODEL_H
#define LC_MODEL_H

#include "io/json.h"
#include "model/blocks.h"
#include "model/rotary.h"
#include "text/dataset.h"

typedef struct lc_family lc_family;

/* The sizes that every family has; the rest stays in the configuration and in what the family built. */
typedef struct lc_sizes {
    int64_t vocabulary, positions, width, layers; /* positions: the longest input */
} lc_sizes;

struct lc_model {
    int64_t refs;
    const lc_family *family;
    json_t *config;          /* config.json, every key kept: saved again as it was */
    json_t *generation;      /* generation_config.json as read; NULL = none */
    lc_tokenizer *tokenizer; /* retained; NULL = none */
    lc_dtype dtype;          /* what it computes in: f32 or f64 */
    lc_sizes sizes;
    const char *note; /* what a person should know of how it was loaded; NULL = nothing */

    int64_t n_params, n_linears, n_blocks;
    lc_param **params;  /* in file order; a tied head has none of its own */
    lc_layer **linears; /* in forward order, the head last */
    lc_block **blocks;
    lc_layer *head;
    void *parts;        /* the family's own: embeddings, final norm */
    lc_rotary *rotary;  /* owned; NULL = heads are not turned by their positions */
    int64_t padding_id; /* its embedding begins as 0 and is not learned; -1 = none */

    lc_clock clock;
    uint64_t
        dropout_seed; /* with the number of training passes: where dropout's streams stand. A checkpoint stores both */
    uint64_t dropout_pass;
    const void *stepping; /* the trainer whose step is between begin and update; NULL = none */
    bool recompute;       /* gradient checkpointing: blocks keep their input only, and run again in the backward pass */
};

/* -- making ------------------------------------------------------------------------------------- */
/* A fresh model, its weights drawn as transformers draws them, one named stream per parameter. `config` is retained and
 * needs "model_type"; keys that it leaves out have transformers' defaults. dtype f32 or f64. */
lc_status lc_model_new(json_t *config, uint64_t seed, lc_dtype dtype, lc_model **out);
/* From a directory in the layout of Hugging Face (config.json, and safetensors or pytorch_model.bin), a GGUF file or a
 * .bin of llama2.c; the tokenizer too where its files are there. Held masks come back from lacuna.safetensors.
 * A head that the configuration ties to the embedding and the file has with other numbers is used, untied, with a note.
 * LC_EFORMAT lists missing, unexpected and misshapen tensors by name. */
lc_status lc_model_load(const char *path, lc_dtype dtype, lc_model **out);
/* The layout that transformers loads, in f32 (f64 models too), and lacuna.safetensors where masks are held. Files that
 * stand there are replaced whole or not at all. */
lc_status lc_model_save(lc_model *m, const char *directory);
lc_model *lc_model_retain(lc_model *m);
void lc_model_release(lc_model *m);
/* A copy with its own weights and held masks. LC_ESTATE when a method is installed: its functions belong to one model.
 */
lc_status lc_model_clone(lc_model *m, lc_model **out);

/* -- passes ------------------------------------------------------------------------------------- */
/* Of a batch only ids (B, T) is required. labels NULL = ids, padding and what follows it left out; attention_mask: bool
 * or integers, 0 = padding. All are (B, T), i64 or i32. Causal families shift labels inside. */
typedef struct lc_loss_options {
    bool train;         /* dropout on */
    double divisor;     /* of the sum over labelled tokens; 0 = their number */
    lc_tensor **logits; /* when not NULL, logits too: they are then made whole */
} lc_loss_options;

/* (B, T, C) after the last norm. */
lc_status lc_model_hidden(lc_model *m, const lc_batch *batch, bool train, lc_tensor **hidden);
lc_status lc_model_logits(lc_model *m, const lc_batch *batch, bool train, lc_tensor **logits);
/* Mean cross-entropy of the next token over what is labelled; without `logits` they never exist whole. options may be
 * NULL. */
lc_status lc_model_loss(lc_model *m, const lc_batch *batch, const lc_loss_options *options, lc_tensor **loss);
/* Labels as the loss sees them, shifted to the token before (B, T) i64, and how many are not -100. `count` may be NULL.
 */
lc_status lc_model_labels(lc_model *m, const lc_batch *batch, lc_tensor **labels, int64_t *count);

/* -- parts -------------------------------------------------------------------------------------- */
lc_param *lc_model_param(lc_model *m,
                         const char *name); /* NULL when there is none; a tied head's name gives the embedding */
/* Calls fn for every trained tensor, those of installed methods after the model's own; stops at the first failure. */
lc_status lc_model_each_param(lc_model *m, lc_status (*fn)(void *context, lc_param *p), void *context);
/* Calls fn for every method that is installed, in layer order, transforms before the product. */
lc_status lc_model_each_installed(lc_model *m, lc_status (*fn)(void *context, lc_installed *installed), void *context);
/* Every weight with a held mask is zero where pruned, from here to the next write. Each pass does this itself. */
lc_status lc_model_enforce(lc_model *m);
/* Share of zeros in the weights of the linear layers inside blocks. */
lc_status lc_model_sparsity(lc_model *m, double *out);
lc_status lc_model_clear_grads(lc_model *m);
/* A page for the prompt: sizes, roles, what is held and installed. Fresh memory (lc_free). */
lc_status lc_model_text(lc_model *m, char **out);

/* -- snapshots: the weights as they are now, and the trained tensors of installed methods ------- */
typedef struct lc_snapshot lc_snapshot;
lc_status lc_model_snapshot(lc_model *m, lc_snapshot **out);
/* Weights back as they were; what the masks held *now* prune stays zero. LC_EINVAL for a snapshot of a model with other
 * parts; then nothing has changed. */
lc_status lc_model_restore(lc_model *m, const lc_snapshot *s);
/* The parameter of that name as it was, borrowed; NULL when there is none. */
lc_tensor *lc_snapshot_find(const lc_snapshot *s, const char *name);
void lc_snapshot_release(lc_snapshot *s);
int64_t lc_snapshot_tensors(const lc_snapshot *s);
int64_t lc_snapshot_numbers(const lc_snapshot *s); /* in all of them */

/* -- generation --------------------------------------------------------------------------------- */
typedef struct lc_generate_options {
    int64_t tokens;     /* most new tokens per prompt */
    double temperature; /* 0 = greedy */
    int64_t top_k;      /* 0 = off */
    double top_p;       /* 1 = off */
    uint64_t seed;
    int64_t end; /* stop at this id; -1 = never */
} lc_generate_options;

/* prompts[b] is i64 (T_b); continuations[b] gets a fresh i64 tensor (n_b), n_b <= tokens. Prompts of unequal length run
 * as one batch, padded on the left. */
lc_status lc_model_generate(lc_model *m, lc_tensor *const *prompts, int64_t n, const lc_generate_options *options,
                            lc_tensor **continuations);

/* -- evaluation --------------------------------------------------------------------------------- */
/* Adds the negative log-likelihoods of what is labelled in the batch to *sum, and how many there are to *count. No
 * graph. */
lc_status lc_model_score(lc_model *m, const lc_batch *batch, double *sum, int64_t *count);

typedef enum lc_protocol { LC_PERPLEXITY_WINDOWS, LC_PERPLEXITY_STRIDED } lc_protocol;
typedef struct lc_perplexity_options {
    lc_protocol protocol;
    int64_t window;  /* tokens; 0 = the model's positions, at most 2048 */
    int64_t stride;  /* strided only; 0 = half the window */
    int64_t windows; /* only that many from the beginning; 0 = all */
} lc_perplexity_options;
typedef struct lc_perplexity_result {
    double perplexity;
    int64_t tokens; /* targets scored */
    int64_t windows;
} lc_perplexity_result;

/* The n tokens of the joined text, with its beginning-of-text token. WINDOWS: windows side by side, the tail dropped,
 * exp of the mean over windows of each one's mean loss. STRIDED: windows overlap by window - stride, the tail is kept,
 * every target is scored once with at least window - stride tokens before it where the text has them, and weighs the
 * same. No graph. LC_EINVAL when the text is too short. */
lc_status lc_model_perplexity(lc_model *m, const int32_t *tokens, int64_t n, const lc_perplexity_options *options,
                              lc_perplexity_result *out);

#endif
