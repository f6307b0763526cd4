/* pretokenize.c: see pretokenize.h. */
#include "text/pretokenize.h"

#include <utf8proc.h>

#include "text/unicode.h"
#include "text/utf8.h"

typedef enum char_class { OTHER, LETTER, NUMBER, SPACE } char_class;

static const uint8_t ascii_class[128] = {
    ['\t'] = SPACE, ['\n'] = SPACE,         ['\v'] = SPACE,         ['\f'] = SPACE,         ['\r'] = SPACE,
    [' '] = SPACE,  ['0' ... '9'] = NUMBER, ['A' ... 'Z'] = LETTER, ['a' ... 'z'] = LETTER,
};

/* libutf8proc's tables end with Unicode 15.0. */
static char_class newer_class(uint32_t code) {
    const char *category = lc_newer_category(code);
    return category[0] == 'L' ? LETTER : category[0] == 'N' ? NUMBER : OTHER;
}

static char_class class_of(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    case UTF8PROC_CATEGORY_CN:
        return newer_class(code);
    default:
        return lc_is_space(code) ? SPACE : OTHER;
    }
}

/* Class and length of the character at p. */
static inline char_class class_at(const uint8_t *p, const uint8_t *end, int *length) {
    if (*p < 0x80) {
        *length = 1;
        return ascii_class[*p];
    }
    uint32_t code;
    *length = lc_utf8_next(p, end, &code);
    return class_of(code);
}

/* End of the run of `wanted` that begins at p. */
static const uint8_t *run_end(const uint8_t *p, const uint8_t *end, char_class wanted) {
    int length;
    while (p < end && class_at(p, end, &length) == wanted) p += length;
    return p;
}

/* Length of 's 't 'm 'd 're 've 'll at an apostrophe; 0 for anything else. */
static size_t contraction(const uint8_t *p, const uint8_t *end) {
    if (end - p < 2) return 0;
    uint8_t a = p[1], b = end - p > 2 ? p[2] : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ : a run of blanks leaves its last one to the word behind it, unless it is the only one. */
static size_t blanks(const uint8_t *p, const uint8_t *end) {
    const uint8_t *at = p, *last = p;
    int length;
    while (at < end && class_at(at, end, &length) == SPACE) {
        last = at;
        at += length;
    }
    return (size_t)((at == end || last == p ? at : last) - p);
}

size_t lc_piece_gpt2(const uint8_t *p, const uint8_t *end) {
    int length;
    char_class class = class_at(p, end, &length);
    if (class == SPACE) {
        if (*p != ' ' || end - p < 2) return blanks(p, end);
        int next;
        class = class_at(p + 1, end, &next);
        if (class == SPACE) return blanks(p, end);
        length += next;
    } else if (*p == '\'') {
        size_t n = contraction(p, end);
        if (n) return n;
    }
    return (size_t)(run_end(p + length, end, class) - p);
}
