/* pieces.h: a text cut into pieces, and ways to cut it. Depends on pattern. */
#ifndef LC_PIECES_H
#define LC_PIECES_H

#include "base/strbuf.h"
#include "text/pattern.h"

/* Piece i is text[ends[i - 1] .. ends[i]). Starts as {0}. */
typedef struct lc_pieces {
    lc_strbuf text;
    size_t *ends;
    int64_t count, capacity;
} lc_pieces;

void lc_pieces_free(lc_pieces *p);
void lc_pieces_clear(lc_pieces *p); /* keeps the memory */
/* Puts one more piece at the end. */
lc_status lc_pieces_add(lc_pieces *p, const char *text, size_t length);
/* Ends a piece with what was put into `text` since the last one. */
lc_status lc_pieces_end(lc_pieces *p);
static inline const char *lc_pieces_at(const lc_pieces *p, int64_t i, size_t *length) {
    size_t begin = i ? p->ends[i - 1] : 0;
    *length = p->ends[i] - begin;
    return p->text.data ? p->text.data + begin : "";
}

/* What becomes of a match of the pattern: a piece of its own, nothing, the end of the piece before it, the beginning
 * of the one behind it, or one piece with the matches beside it. */
typedef enum lc_cut {
    LC_CUT_ISOLATED,
    LC_CUT_REMOVED,
    LC_CUT_WITH_PREVIOUS,
    LC_CUT_WITH_NEXT,
    LC_CUT_CONTIGUOUS
} lc_cut;

/* Appends the non-empty pieces of `text` to `out`; `invert`: what lies between matches counts as the matches. */
lc_status lc_pieces_cut(lc_pattern *pattern, lc_cut cut, bool invert, const char *text, size_t length, lc_pieces *out);

#endif
