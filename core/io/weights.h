/* weights.h: named tensors in files, whatever the format: safetensors, what torch.save wrote, GGUF; one file, or the
 * shards of an index. Depends on the formats, tensor, ops (casts).
 *
 * A file's header is validated whole when it is opened. Data is read when asked for, by pread, so that nothing is mapped
 * and a file that shrinks is an error and not a crash. */
#ifndef LC_WEIGHTS_H
#define LC_WEIGHTS_H

#include "tensor/tensor.h"

/* What the header says of one tensor. */
typedef struct lc_stored {
    const char *name;
    const char *type; /* as in the file: "F32", "BF16", "I8", "Q4_0" */
    lc_dtype dtype;   /* once read, quantised types f32; LC_DTYPES when lacuna has no such type: listed, not readable */
    int ndim;
    int64_t shape[LC_MAX_DIMS];
    bool strided;                 /* elements lie as `strides` say, not row by row */
    int64_t strides[LC_MAX_DIMS]; /* in elements, when strided */
    uint64_t begin, end;          /* bytes in the file, or in its part */
    int64_t part;                 /* which entry of a zip archive; 0 elsewhere */
    int32_t file;                 /* which shard */
} lc_stored;

/* What the header says beside tensors, one entry. */
typedef enum lc_metadata_kind {
    LC_METADATA_TEXT,
    LC_METADATA_INTEGER,
    LC_METADATA_NUMBER,
    LC_METADATA_BOOL
} lc_metadata_kind;

typedef struct lc_metadata {
    const char *key;
    lc_metadata_kind kind;
    union {
        const char *text; /* `length` bytes, and a NUL behind them */
        int64_t integer;
        double number;
        bool yes;
    };
    size_t length;
} lc_metadata;

/* One file, or the shards of one index, seen as one set of tensors. Counted. */
typedef struct lc_weights lc_weights;

/* `path` is a file (its format is told by its first bytes), an index (*.json with "weight_map"), or a directory that
 * holds model.safetensors, its index, pytorch_model.bin, or its index: the first of these. LC_ENOTFOUND, LC_EIO,
 * LC_EFORMAT. */
lc_status lc_weights_open(const char *path, lc_weights **out);
/* Whether a directory holds one of those. */
lc_status lc_weights_present(const char *directory, bool *out);
/* Row-major tensors that lie in `path` without a header; `entries` (name, type, dtype, shape, begin, end) are copied.
 * LC_EFORMAT when one ends past the file. */
lc_status lc_weights_open_plain(const char *path, const lc_stored *entries, int64_t count, lc_weights **out);
lc_weights *lc_weights_retain(lc_weights *w);
void lc_weights_release(lc_weights *w); /* NULL is fine */

/* Tensors in the order of the files, shard after shard. */
int64_t lc_weights_count(const lc_weights *w);
const lc_stored *lc_weights_at(const lc_weights *w, int64_t index);
const lc_stored *lc_weights_find(const lc_weights *w, const char *name); /* NULL when there is none */
/* Calls `rename` for every tensor, with its name in `name` (room bytes) for it to change. LC_EFORMAT when two get one
 * name. */
lc_status lc_weights_rename(lc_weights *w, lc_status (*rename)(void *context, char *name, size_t room), void *context);
/* Value of a text in the header (of the first shard that has the key); NULL when absent. */
const char *lc_weights_metadata(const lc_weights *w, const char *key);
/* Everything in the headers, shard after shard. Lists of GGUF are left out: gguf.h has them. */
int64_t lc_weights_metadata_count(const lc_weights *w);
const lc_metadata *lc_weights_metadata_at(const lc_weights *w, int64_t index);

/* A fresh contiguous tensor of `dtype`, or of the stored dtype when that is LC_DTYPES. A cast goes through chunks of
 * bounded size. LC_ENOTFOUND names what the file has near that name; LC_EDTYPE for types lacuna does not have. */
lc_status lc_weights_read(lc_weights *w, const char *name, lc_dtype dtype, lc_tensor **out);
/* Whether a stored tensor has the shape of `t` (contiguous) and, read as its dtype, the same numbers, bit for bit. */
lc_status lc_weights_matches(lc_weights *w, const char *name, const lc_tensor *t, bool *out);
/* Into a tensor that exists, any strides and dtype; shapes must be equal. */
lc_status lc_weights_read_into(lc_weights *w, const char *name, lc_tensor *into);

#endif
