/* gguf.h: the header of a GGUF file (llama.cpp's format, versions 2 and 3): metadata by key, and where each tensor lies.
 * Depends on base.
 *
 * Everything is checked when the file is opened: counts and lengths against the bytes that are left, before anything of
 * that size is allocated; types, shapes, alignment and each tensor's end. Data is read through weights.h. */
#ifndef LC_GGUF_H
#define LC_GGUF_H

#include "base/file.h"
#include "io/gguf_blocks.h"

/* Numbers as in the file. */
typedef enum lc_gguf_kind {
    LC_GGUF_U8,
    LC_GGUF_I8,
    LC_GGUF_U16,
    LC_GGUF_I16,
    LC_GGUF_U32,
    LC_GGUF_I32,
    LC_GGUF_F32,
    LC_GGUF_BOOL,
    LC_GGUF_STRING,
    LC_GGUF_ARRAY,
    LC_GGUF_U64,
    LC_GGUF_I64,
    LC_GGUF_F64,
    LC_GGUF_KINDS
} lc_gguf_kind;

typedef struct lc_gguf_string {
    const char *text; /* a NUL stands behind the last byte; any bytes may stand before it */
    size_t length;
} lc_gguf_string;

/* One entry of the metadata. */
typedef struct lc_gguf_value {
    const char *key;
    lc_gguf_kind kind; /* of the value, or of each element when `is_array` */
    bool is_array;
    int64_t count;    /* elements; 1 when not an array */
    const void *data; /* count elements of the kind's C type: uint8_t (also BOOL: 0 or 1) ... double, lc_gguf_string */
} lc_gguf_value;

typedef struct lc_gguf_tensor {
    const char *name;
    uint32_t type;               /* number in the file */
    const lc_gguf_block *block;  /* how that type stores elements */
    int ndim;                    /* at most 4 */
    int64_t shape[LC_GGUF_DIMS]; /* row-major, as everywhere in lacuna: the file has them the other way round */
    uint64_t begin, end;         /* bytes in the file */
} lc_gguf_tensor;

typedef struct lc_gguf lc_gguf;

/* LC_EFORMAT for what is not GGUF 2 or 3 or is damaged: the message says where. */
lc_status lc_gguf_open(const char *path, lc_gguf **out);
void lc_gguf_close(lc_gguf *g); /* NULL is fine */
const char *lc_gguf_path(const lc_gguf *g);
lc_reader *lc_gguf_reader(lc_gguf *g); /* borrowed */

int64_t lc_gguf_value_count(const lc_gguf *g);
const lc_gguf_value *lc_gguf_value_at(const lc_gguf *g, int64_t index);
const lc_gguf_value *lc_gguf_find(const lc_gguf *g, const char *key); /* NULL when there is none */
int64_t lc_gguf_tensor_count(const lc_gguf *g);
const lc_gguf_tensor *lc_gguf_tensor_at(const lc_gguf *g, int64_t index);

/* Typed getters. A missing key leaves *out as it was (its default); another kind is LC_EFORMAT, "<path>: metadata
 * general.alignment is a string, expected an integer". */
lc_status lc_gguf_get_int(const lc_gguf *g, const char *key, int64_t *out);   /* any integer kind that fits */
lc_status lc_gguf_get_double(const lc_gguf *g, const char *key, double *out); /* integers too */
lc_status lc_gguf_get_bool(const lc_gguf *g, const char *key, bool *out);
lc_status lc_gguf_get_string(const lc_gguf *g, const char *key,
                             const char **out); /* borrowed; LC_EFORMAT with a NUL inside */
/* An array whose elements are of that kind; borrowed. */
lc_status lc_gguf_get_array(const lc_gguf *g, const char *key, lc_gguf_kind kind, const lc_gguf_value **out);
/* LC_EFORMAT when the key is missing. */
lc_status lc_gguf_require(const lc_gguf *g, const char *key);
/* "an array of strings", "a 32-bit integer": for messages. */
const char *lc_gguf_describe(const lc_gguf_value *v);

#endif
