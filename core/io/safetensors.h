/* safetensors.h: named tensors in files: 8 bytes of header length, a JSON header, then the data. Depends on json,
 * tensor, ops (casts).
 *
 * The header is validated whole when a file is opened: lengths, dtypes, shapes against byte ranges, gaps, overlaps,
 * duplicates and the file's end. Data is read when asked for, by pread, so that nothing is mapped and a file that
 * shrinks is an error and not a crash. */
#ifndef LC_SAFETENSORS_H
#define LC_SAFETENSORS_H

#include "tensor/tensor.h"

/* What the header says of one tensor. */
typedef struct lc_stored {
    const char *name;
    const char *type; /* as in the file: "F32", "BF16", "I8" */
    lc_dtype dtype;   /* LC_DTYPES when lacuna has no such type: listed, but not readable */
    int ndim;
    int64_t shape[LC_MAX_DIMS];
    uint64_t begin, end; /* bytes in the file */
    int32_t file;        /* which shard */
} lc_stored;

/* One file, or the shards of one index, seen as one set of tensors. Counted. */
typedef struct lc_safetensors lc_safetensors;

/* `path` is a .safetensors file, a model.safetensors.index.json, or a directory that holds model.safetensors or the
 * index (the single file first). LC_ENOTFOUND, LC_EIO, LC_EFORMAT. */
lc_status lc_safetensors_open(const char *path, lc_safetensors **out);
lc_safetensors *lc_safetensors_retain(lc_safetensors *s);
void lc_safetensors_release(lc_safetensors *s); /* NULL is fine */

/* Tensors in the order of their data, shard after shard. */
int64_t lc_safetensors_count(const lc_safetensors *s);
const lc_stored *lc_safetensors_at(const lc_safetensors *s, int64_t index);
const lc_stored *lc_safetensors_find(const lc_safetensors *s, const char *name); /* NULL when there is none */
/* Value of the header's __metadata__ (of the first shard that has the key); NULL when absent. */
const char *lc_safetensors_metadata(const lc_safetensors *s, const char *key);
/* The metadata by number, first shard only; false past the end. */
bool lc_safetensors_metadata_at(const lc_safetensors *s, int64_t index, const char **key, const char **value);

/* A fresh contiguous tensor of `dtype`, or of the stored dtype when that is LC_DTYPES. A cast goes through chunks of
 * bounded size. LC_ENOTFOUND names what the file has near that name; LC_EDTYPE for types lacuna does not have. */
lc_status lc_safetensors_read(lc_safetensors *s, const char *name, lc_dtype dtype, lc_tensor **out);
/* Into a tensor that exists, any strides and dtype; shapes must be equal. */
lc_status lc_safetensors_read_into(lc_safetensors *s, const char *name, lc_tensor *into);

/* One tensor to write. */
typedef struct lc_named {
    const char *name;
    lc_tensor *tensor; /* any strides: views and transposes are written as what they show */
    lc_dtype dtype;    /* cast on the way; LC_DTYPES = the tensor's own */
} lc_named;
typedef struct lc_pair {
    const char *key, *value;
} lc_pair;

/* Writes one file, whole or not at all. Data lies by descending element size, then by name, so the same tensors give
 * the same bytes, and is aligned to 8 bytes. `metadata` may be NULL. LC_EINVAL for a name given twice or empty. */
lc_status lc_safetensors_write(const char *path, const lc_named *tensors, int64_t count, const lc_pair *metadata,
                               int64_t pairs);

#endif
