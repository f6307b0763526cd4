/* pickle.h: Python's pickles, read without Python: a stack machine that builds plain values and nothing else. Depends on
 * base.
 *
 * None, booleans, integers of 64 bits, floats, strings, bytes, tuples, lists and dicts. Whatever a pickle asks for by
 * name (classes, functions, calls) goes to the reader's own functions, which know a few names and refuse the rest: no
 * code runs. The machine has no recursion, and what it builds is bounded by a small multiple of the pickle's length. */
#ifndef LC_PICKLE_H
#define LC_PICKLE_H

#include "base/arena.h"

#define LC_PICKLE_MAX_BYTES ((size_t)16 << 20) /* of one pickle */

typedef enum lc_pickle_kind {
    LC_PICKLE_NONE,
    LC_PICKLE_BOOL,
    LC_PICKLE_INT,
    LC_PICKLE_FLOAT,
    LC_PICKLE_STRING, /* str and bytes */
    LC_PICKLE_TUPLE,
    LC_PICKLE_LIST,
    LC_PICKLE_DICT,
    LC_PICKLE_OBJECT /* made by the reader's functions */
} lc_pickle_kind;

typedef struct lc_pickled {
    lc_pickle_kind kind;
    uint32_t tag;  /* OBJECT: whatever its maker says */
    int64_t count; /* of items, pairs or bytes */
    union {
        bool yes;
        int64_t integer;
        double number;
        const char *text;          /* STRING: not NUL-terminated, points into the pickle */
        struct lc_pickled **items; /* TUPLE, LIST; DICT: key, value, key, value in the order they were set */
        void *object;
    };
    int64_t capacity; /* of items */
} lc_pickled;

typedef struct lc_pickle_reader {
    const char *name; /* begins messages: the file's path */
    lc_arena *arena;  /* owns all values */
    void *context;
    /* The value for a name such as "collections", "OrderedDict". */
    lc_status (*global)(void *context, const char *module, const char *name, lc_pickled **out);
    /* callable(*arguments); `callable` came from `global`, `arguments` is a tuple. */
    lc_status (*call)(void *context, const lc_pickled *callable, const lc_pickled *arguments, lc_pickled **out);
    /* What stands outside of the pickle under this id. */
    lc_status (*persistent)(void *context, const lc_pickled *id, lc_pickled **out);
} lc_pickle_reader;

/* Runs one pickle that begins at `bytes`; *used (may be NULL) is its length, up to and with its STOP. The bytes must
 * live as long as the values. LC_EFORMAT says at which byte and why. */
lc_status lc_pickle_read(const lc_pickle_reader *reader, const char *bytes, size_t length, size_t *used,
                         lc_pickled **out);

/* A fresh value, zeroed but for its kind; NULL when out of memory. */
lc_pickled *lc_pickle_new(lc_arena *arena, lc_pickle_kind kind);
/* The value of a dict's last pair with this key; NULL when there is none. */
const lc_pickled *lc_pickle_get(const lc_pickled *dict, const char *key);
bool lc_pickle_is(const lc_pickled *string, const char *text);
/* "a tuple", "a number", ...: for messages. */
const char *lc_pickle_describe(const lc_pickled *value);

#endif
