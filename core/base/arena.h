/* arena.h: many small objects that live and die together, such as what a file's header says. Given back at once; single
 * objects are never freed. */
#ifndef LC_ARENA_H
#define LC_ARENA_H

#include "base/status.h"

typedef struct lc_arena {
    struct lc_arena_block *blocks; /* newest first */
} lc_arena;                        /* starts as {0} */

/* Aligned for any type, content undefined. NULL on failure, with the message set (LC_ENOMEM). */
void *lc_arena_alloc(lc_arena *a, size_t bytes);
/* A copy with a NUL behind it. */
char *lc_arena_strndup(lc_arena *a, const char *text, size_t length);
void lc_arena_free(lc_arena *a); /* leaves it empty */

#endif
