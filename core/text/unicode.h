/* unicode.h: white space, and the characters that are newer than our libraries' tables. Depends on base.
 *
 * The `tokenizers` package knows Unicode 16; libutf8proc 2.8 knows 15.0 and PCRE2 10.42 knows 14. What came later is
 * listed here; a library that knows it too says the same. */
#ifndef LC_UNICODE_H
#define LC_UNICODE_H

#include "base/status.h"

/* Characters first .. last, all of one general category. */
typedef struct lc_newer_range {
    uint32_t first, last;
    char category[3]; /* "Lu", "Nd", ... */
} lc_newer_range;

/* In order of code points. */
const lc_newer_range *lc_newer_ranges(size_t *count);
/* Category of a character that came after Unicode 14; "" for any other. */
const char *lc_newer_category(uint32_t code);

/* Characters that came after Unicode 9 and that normalization would change or reorder: the `tokenizers` package, whose
 * normalization is that old, leaves them as they are and where they are. */
bool lc_is_never_normalized(uint32_t code);

/* The property White_Space, which is not a general category. */
bool lc_is_space(uint32_t code);
/* Bytes of white space that text[0 .. length) ends, or begins, with. Text is UTF-8. */
size_t lc_spaces_at_end(const char *text, size_t length);
size_t lc_spaces_at_start(const char *text, size_t length);
/* \w of the `regex` crate: letters, marks, numbers' digits, connectors. */
bool lc_is_word(uint32_t code);

#endif
