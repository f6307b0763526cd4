/* pattern.h: the regular expressions of tokenizer.json, written for Oniguruma (Ruby's syntax), run by PCRE2 with its
 * just-in-time compiler. Depends on base, libpcre2.
 *
 * A pattern is rewritten so that both read it alike: \p{...} gets the characters that are newer than PCRE2's tables, \s
 * is the property White_Space, a script's name means the script and not its extensions, a class inside a class joins
 * it. What has another meaning there, or none, is refused by name: \w, \b, back references, possessive {n,m}+, classes
 * that intersect, options in the middle. Without case ((?i:...)), a character that folds to several, such as U+00DF,
 * matches only itself. */
#ifndef LC_PATTERN_H
#define LC_PATTERN_H

#include "base/status.h"

typedef struct lc_pattern lc_pattern;

/* `literal`: the text itself and no expression. LC_EFORMAT says what is wrong with it. */
lc_status lc_pattern_new(const char *text, size_t length, bool literal, lc_pattern **out);
void lc_pattern_free(lc_pattern *p); /* NULL is fine */

/* A walk over the matches in one text. Starts as {.text, .length}. */
typedef struct lc_matches {
    const char *text; /* UTF-8 */
    size_t length;
    size_t begin, end; /* the match */
    size_t from;       /* where the search goes on */
    bool any;          /* there was one: an empty match right behind it does not count */
} lc_matches;

/* The next match; *found = false after the last. LC_EINVAL when the search takes too long. */
lc_status lc_pattern_next(lc_pattern *p, lc_matches *m, bool *found);

#endif
