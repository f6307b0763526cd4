/* added.h: added tokens, which are found in the text before anything else: the leftmost first, of several at one place
 * the longest. Depends on vocabulary, unicode. */
#ifndef LC_ADDED_H
#define LC_ADDED_H

#include "text/vocabulary.h"

typedef struct lc_added {
    int32_t id;
    uint32_t offset, length; /* what is looked for, in lc_added_set.text */
} lc_added;

/* Starts as {0}. */
typedef struct lc_added_set {
    lc_strbuf text;
    lc_added *items; /* after lc_added_set_sort: by first byte, then the longest first */
    int64_t count, capacity;
    int32_t begin[257]; /* items that begin with the byte b: begin[b] .. begin[b + 1] */
} lc_added_set;

/* `text` is not empty. */
lc_status lc_added_set_add(lc_added_set *set, int64_t id, const char *text, size_t length);
void lc_added_set_sort(lc_added_set *set);
void lc_added_set_free(lc_added_set *set);

/* A walk over the added tokens of one text. Starts as {.text, .length}. */
typedef struct lc_added_walk {
    const char *text;
    size_t length;
    size_t begin, end; /* the token, with the white space that it takes; one in the white space that the token before
                          it took comes too, and gives back what is behind it */
    int64_t id;
    size_t from; /* where the search goes on */
    size_t done; /* end of the token before */
} lc_added_walk;

/* The next token; false after the last. */
bool lc_added_next(const lc_added_set *set, const lc_vocabulary *v, lc_added_walk *w);

#endif
