/* torch.h: what a pickle written by torch.save says of tensors: the few names it may ask for, storages, and the state
 * dict in it. Where storages lie is told by torch_zip.c and torch_legacy.c, the two containers. */
#ifndef LC_TORCH_H
#define LC_TORCH_H

#include "io/pickle.h"
#include "io/safetensors_types.h"
#include "io/weights_format.h"

/* For messages. */
#define LC_TORCH_READABLE "F64 F32 F16 BF16 I64 I32 U8 BOOL"

/* The numbers that tensors are views of. */
typedef struct lc_torch_storage {
    const lc_stored_type *type;
    const char *key; /* its name in the container */
    uint64_t count;  /* elements */
    int64_t part;    /* of a zip archive */
    uint64_t begin;  /* bytes in the part or the file */
} lc_torch_storage;

typedef struct lc_torch {
    const char *path;
    uint64_t bytes; /* of the file, or of what is packed in it */
    lc_arena *arena;
    /* Sets part and begin of a storage, or remembers it to do so after the pickle. */
    lc_status (*place)(struct lc_torch *t, lc_torch_storage *s);
    void *container; /* for place */
} lc_torch;

/* Reads one pickle; *used may be NULL. Names beyond tensors, parameters and OrderedDict are LC_EFORMAT. */
lc_status lc_torch_unpickle(lc_torch *t, const char *bytes, size_t length, size_t *used, lc_pickled **out);
/* Adds the tensors of the state dict in `value`: itself, or what lies under "state_dict", "model_state_dict", "model" or
 * "module" in it. "module." and "_orig_mod." before every name are left out. */
lc_status lc_torch_add(lc_torch *t, lc_weights *w, const lc_pickled *value);

#endif
