/* checkpoint.h: what a killed run goes on from: tensors and a JSON document in one file, written whole or not at all.
 *
 * The file is a safetensors file; its metadata has lacuna_format = "1" and the document. Names begin with what they
 * belong to: "model.weight.<parameter>", "optim.m.<tensor>". Numbers come back bit for bit: weights are stored (O, I)
 * in the dtype that they are trained in. */
#ifndef LC_CHECKPOINT_H
#define LC_CHECKPOINT_H

#include "io/json.h"
#include "run/trainer.h"

#define LC_CHECKPOINT_FORMAT 1

typedef struct lc_checkpoint lc_checkpoint;

/* An empty one, to be filled and written. */
lc_status lc_checkpoint_new(lc_checkpoint **out);
/* One that was written. LC_EFORMAT when it is something else, or of a later format. */
lc_status lc_checkpoint_open(const char *path, lc_checkpoint **out);
lc_status lc_checkpoint_write(const lc_checkpoint *c, const char *path);
void lc_checkpoint_free(lc_checkpoint *c); /* NULL is fine */

/* The document: an object, borrowed, written and read with jansson. */
json_t *lc_checkpoint_document(lc_checkpoint *c);
/* Adds a tensor (retained: its content at the time of writing is what is stored); the name is formatted. */
lc_status lc_checkpoint_add(lc_checkpoint *c, lc_tensor *t, const char *name, ...) LC_PRINTF(3, 4);
/* The same for bits, which are stored as a bool tensor. */
lc_status lc_checkpoint_add_bits(lc_checkpoint *c, lc_bits *bits, const char *name, ...) LC_PRINTF(3, 4);
/* A fresh tensor of the dtype stored. LC_ENOTFOUND. */
lc_status lc_checkpoint_get(const lc_checkpoint *c, const char *name, lc_tensor **out);
bool lc_checkpoint_has(const lc_checkpoint *c, const char *name);

/* All of a model that changes: weights, held masks, what is frozen, the tensors of installed methods, where dropout's
 * streams stand. `prefix` tells several models apart. Putting it back needs a model with the same parameters and the
 * same methods installed: LC_EINVAL names the first difference. */
lc_status lc_checkpoint_add_model(lc_checkpoint *c, const char *prefix, lc_model *m);
lc_status lc_checkpoint_get_model(lc_checkpoint *c, const char *prefix, lc_model *m);

/* Moments and update counts, the step, the place in the data, and the options that decide the numbers. Putting it back
 * is for a trainer made with the same options and data, before its first step: LC_EINVAL names what differs, with both
 * values. */
lc_status lc_checkpoint_add_trainer(lc_checkpoint *c, lc_trainer *t);
lc_status lc_checkpoint_get_trainer(lc_checkpoint *c, lc_trainer *t);

#endif
