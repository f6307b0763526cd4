/* safetensors_types.h: the format's element types, shared by reading and writing. */
#ifndef LC_SAFETENSORS_TYPES_H
#define LC_SAFETENSORS_TYPES_H

#include "tensor/dtype.h"

typedef struct lc_stored_type {
    const char *name;
    size_t size;    /* bytes of one element */
    lc_dtype dtype; /* LC_DTYPES: known to the format only */
} lc_stored_type;

const lc_stored_type *lc_stored_type_named(const char *name); /* NULL when unknown */
const lc_stored_type *lc_stored_type_of(lc_dtype dtype);

#endif
