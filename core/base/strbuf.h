/* strbuf.h: a growing text buffer, and what is asked of texts. After a failed allocation a buffer stays valid, ignores
 * what follows, and lc_strbuf_take reports it, so that building a text needs one check at its end. */
#ifndef LC_STRBUF_H
#define LC_STRBUF_H

#include "base/status.h"

typedef struct lc_strbuf {
    char *data; /* NUL-terminated once anything was added; NULL before */
    size_t length, capacity;
    bool failed;
} lc_strbuf; /* starts as {0} */

void lc_strbuf_add(lc_strbuf *b, const void *data, size_t length);
void lc_strbuf_puts(lc_strbuf *b, const char *text);
void lc_strbuf_printf(lc_strbuf *b, const char *format, ...) LC_PRINTF(2, 3);
/* Hands the text over (lc_free) and empties the buffer; LC_ENOMEM when an addition had failed. */
lc_status lc_strbuf_take(lc_strbuf *b, char **out, size_t *length);
void lc_strbuf_free(lc_strbuf *b);

bool lc_ends_with(const char *text, const char *end);

#endif
