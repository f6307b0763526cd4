/* import.h: where a model is read from. A directory in the layout of Hugging Face is one source; files of other
 * programs are made to look like one: a configuration in the words of transformers' config.json, and tensors under its
 * names. */
#ifndef LC_IMPORT_H
#define LC_IMPORT_H

#include "io/json.h"
#include "io/weights.h"
#include "text/tokenizer.h"

/* How the rows of a stored matrix (or a bias) are put back: seen as (a, b, c), and read in this order of dimensions. */
typedef struct lc_row_order {
    int64_t shape[3];
    int order[3];
} lc_row_order;

typedef struct lc_source {
    json_t *config;
    lc_weights *weights;
    lc_tokenizer *tokenizer; /* NULL = none came with it */
    const char *note;        /* as lc_model's; NULL = nothing */
    char *directory;         /* has further files of Hugging Face's layout; NULL = there are none */
    bool whole;              /* the weights are the directory's own: what it holds of masks belongs to them */
    bool by_outputs;         /* weights of linear layers are (O, I), where the family's own files may have (I, O) */
    /* Whether the rows of this parameter are stored in another order; NULL = none are. */
    bool (*reordered)(const struct lc_source *s, const char *name, lc_row_order *out);
} lc_source;

/* `path` is a directory with config.json and weights, which may be a .pt or .pth of any name, or such a file beside a
 * config.json; a GGUF file, or a directory with one; a .bin of llama2.c, or a directory with one. On failure *out is
 * empty. */
lc_status lc_source_open(const char *path, lc_source *out);
void lc_source_close(lc_source *s); /* an empty one is fine */

/* GGUF (llama.cpp) of the architectures llama, qwen2, gpt2 and gptneox. */
lc_status lc_import_gguf(const char *path, lc_source *out);
/* A .bin of llama2.c (version 0), with its tokenizer where tok<vocabulary>.bin or tokenizer.bin stands beside it. */
lc_status lc_import_llama2c(const char *path, lc_source *out);

/* In those files the rows of q and k are stored as the original Llama had them: the two columns that a rotation mixes
 * side by side, (heads, D/2, 2). transformers has (heads, 2, D/2). For `reordered` of a source whose configuration is
 * llama's. */
bool lc_rotary_rows(const lc_source *s, const char *name, lc_row_order *out);

#endif
