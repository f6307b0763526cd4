/* pieces.c: see pieces.h. */
#include "text/pieces.h"

#include "base/memory.h"
#include "base/pool.h"

#define MATCHES_PER_POLL 65536

void lc_pieces_free(lc_pieces *p) {
    lc_strbuf_free(&p->text);
    lc_free(p->ends);
    *p = (lc_pieces){0};
}

void lc_pieces_clear(lc_pieces *p) {
    if (p->text.failed) lc_strbuf_free(&p->text);
    if (p->text.data) p->text.data[0] = '\0';
    p->text.length = 0;
    p->count = 0;
}

lc_status lc_pieces_end(lc_pieces *p) {
    if (p->text.failed) return lc_fail(LC_ENOMEM, "out of memory while cutting a text");
    if (p->count == p->capacity) {
        int64_t capacity = lc_max(64, p->capacity * 2);
        size_t *ends = lc_realloc(p->ends, sizeof *ends * (size_t)capacity);
        if (!ends) return LC_ENOMEM;
        p->ends = ends;
        p->capacity = capacity;
    }
    p->ends[p->count++] = p->text.length;
    return LC_OK;
}

lc_status lc_pieces_add(lc_pieces *p, const char *text, size_t length) {
    lc_strbuf_add(&p->text, text, length);
    return lc_pieces_end(p);
}

/* The stretch text[begin .. end) that waits to become a piece: what follows may join it. */
typedef struct pending {
    const char *text;
    size_t begin, end;
    bool match; /* its last part is one */
} pending;

static lc_status flush(pending *p, lc_pieces *out) {
    lc_status status = p->end > p->begin ? lc_pieces_add(out, p->text + p->begin, p->end - p->begin) : LC_OK;
    p->begin = p->end;
    return status;
}

/* A match stays with a stretch before it that is none; a stretch stays with the match before it; like joins like. */
static bool joins(lc_cut cut, bool before, bool match) {
    switch (cut) {
    case LC_CUT_WITH_PREVIOUS:
        return match && !before;
    case LC_CUT_WITH_NEXT:
        return before && !match;
    case LC_CUT_CONTIGUOUS:
        return match == before;
    default:
        return false;
    }
}

/* The next stretch of the text, up to `end`. */
static lc_status stretch(pending *p, lc_cut cut, size_t end, bool match, lc_pieces *out) {
    if (p->end > 0 && !joins(cut, p->match, match)) LC_TRY(flush(p, out));
    p->match = match;
    p->end = end;
    if (cut == LC_CUT_REMOVED && match) p->begin = end;
    return LC_OK;
}

lc_status lc_pieces_cut(lc_pattern *pattern, lc_cut cut, bool invert, const char *text, size_t length, lc_pieces *out) {
    lc_matches m = {.text = text, .length = length};
    pending p = {.text = text};
    bool found;
    for (int64_t i = 1;; i++) {
        LC_TRY(lc_pattern_next(pattern, &m, &found));
        if (!found) break;
        if (m.begin > p.end) LC_TRY(stretch(&p, cut, m.begin, invert, out));
        LC_TRY(stretch(&p, cut, m.end, !invert, out));
        if (i % MATCHES_PER_POLL == 0) LC_TRY(lc_poll());
    }
    if (length > p.end) LC_TRY(stretch(&p, cut, length, invert, out));
    return flush(&p, out);
}
