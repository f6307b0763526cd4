/* text.h: tokenizers and datasets as handles, for other bindings. */
#ifndef LCL_TEXT_H
#define LCL_TEXT_H

#include "lcl.h"
#include "text/dataset.h"

extern const lcl_type LCL_TOKENIZER; /* lc_tokenizer *  bindings/tokenizer.c */
extern const lcl_type LCL_DATASET;   /* lc_dataset *    bindings/dataset.c */

/* Pushes a handle for `t` and retains it; nil for NULL. */
void lcl_push_tokenizer(lua_State *L, lc_tokenizer *t);
/* Pushes {ids, labels, attention_mask, token_type_ids} and takes over the tensors. */
void lcl_push_batch(lua_State *L, lc_batch *batch);

/* What a text is used for. */
typedef enum lcl_text_use { LCL_CALIBRATES, LCL_IS_SCORED } lcl_text_use;
/* Remembers it for this process, and warns, once for a text, when the same tokens both calibrate and are scored. */
void lcl_use_text(lua_State *L, const lc_dataset *d, lcl_text_use use);

#endif
