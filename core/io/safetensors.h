/* safetensors.h: writing named tensors as safetensors: 8 bytes of header length, a JSON header, then the data. Reading is
 * weights.h's. Depends on json, tensor, ops (casts). */
#ifndef LC_SAFETENSORS_H
#define LC_SAFETENSORS_H

#include "tensor/bits.h"

/* One tensor to write. */
typedef struct lc_named {
    const char *name;
    lc_tensor *tensor; /* any strides: views and transposes are written as what they show */
    lc_dtype dtype;    /* cast on the way; LC_DTYPES = the tensor's own */
    lc_bits *bits;     /* in place of a tensor: written as bool */
} lc_named;
typedef struct lc_pair {
    const char *key, *value;
} lc_pair;

/* Writes one file, whole or not at all. Data lies by descending element size, then by name, so the same tensors give
 * the same bytes, and is aligned to 8 bytes. `metadata` may be NULL. LC_EINVAL for a name given twice or empty. */
lc_status lc_safetensors_write(const char *path, const lc_named *tensors, int64_t count, const lc_pair *metadata,
                               int64_t pairs);

#endif
