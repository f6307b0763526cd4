/* utf8.h: reading characters of UTF-8, and repairing text that is not UTF-8. Depends on base. */
#ifndef LC_UTF8_H
#define LC_UTF8_H

#include "base/status.h"

#define LC_UTF8_BROKEN 0xFFFD

/* The character at p (p < end) and its length in bytes. At a broken sequence: LC_UTF8_BROKEN, and the length of its
 * maximal part that could have begun a character, at least 1 (Unicode 15, section 3.9, "substitution of maximal
 * subparts"). */
static inline int lc_utf8_next(const uint8_t *p, const uint8_t *end, uint32_t *code) {
    uint8_t lead = p[0];
    if (lead < 0x80) {
        *code = lead;
        return 1;
    }
    int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    uint32_t value = lead & (0x3F >> more);
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;  /* bounds of the second byte: no overlong forms, */
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF; /* no surrogates, nothing past U+10FFFF */
    *code = LC_UTF8_BROKEN;
    if (lead < 0xC2 || lead > 0xF4) return 1;
    for (int i = 1; i <= more; i++) {
        if (p + i == end || p[i] < low || p[i] > high) return i;
        value = value << 6 | (p[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *code = value;
    return more + 1;
}

/* A copy of `text` with U+FFFD for each broken part; *out is NULL when nothing is broken. */
lc_status lc_utf8_repair(const char *text, size_t length, char **out, size_t *out_length);

#endif
