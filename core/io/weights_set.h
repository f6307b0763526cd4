/* weights_set.h: the inside of a set of tensors, for weights.c and weights_read.c alone. */
#ifndef LC_WEIGHTS_SET_H
#define LC_WEIGHTS_SET_H

#include "io/weights_format.h"

struct lc_weights {
    int64_t refs;
    char *path; /* of the index, or of the one file */
    int32_t file_count;
    lc_weights_file *files;
    char **paths; /* of the files; in the arena */
    int64_t count, capacity;
    lc_stored *entries;       /* file after file */
    const lc_stored **sorted; /* the same by name, for lookup */
    int64_t metadata_count, metadata_capacity;
    lc_metadata *metadata; /* file after file */
    lc_arena arena;        /* names and paths */
};

#endif
