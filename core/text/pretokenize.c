/* pretokenize.c: see pretokenize.h. */
#include "text/pretokenize.h"

#include <utf8proc.h>

#include "text/utf8.h"

typedef enum char_class { OTHER, LETTER, NUMBER, SPACE } char_class;

static const uint8_t ascii_class[128] = {
    ['\t'] = SPACE, ['\n'] = SPACE,         ['\v'] = SPACE,         ['\f'] = SPACE,         ['\r'] = SPACE,
    [' '] = SPACE,  ['0' ... '9'] = NUMBER, ['A' ... 'Z'] = LETTER, ['a' ... 'z'] = LETTER,
};

/* \s is the property White_Space, which is not a general category. */
static bool is_space(uint32_t code) {
    return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

/* Letters and numbers of Unicode 15.1 and 16, which the `tokenizers` package knows and libutf8proc 2.8 (Unicode 15.0)
 * does not. */
static const struct {
    uint32_t first, last;
    char_class class;
} newer[] = {
    {0x01C89, 0x01C8A, LETTER}, {0x0A7CB, 0x0A7CD, LETTER}, {0x0A7DA, 0x0A7DC, LETTER}, {0x105C0, 0x105F3, LETTER},
    {0x10D40, 0x10D49, NUMBER}, {0x10D4A, 0x10D65, LETTER}, {0x10D6F, 0x10D85, LETTER}, {0x10EC2, 0x10EC4, LETTER},
    {0x11380, 0x11389, LETTER}, {0x1138B, 0x1138B, LETTER}, {0x1138E, 0x1138E, LETTER}, {0x11390, 0x113B5, LETTER},
    {0x113B7, 0x113B7, LETTER}, {0x113D1, 0x113D1, LETTER}, {0x113D3, 0x113D3, LETTER}, {0x116D0, 0x116E3, NUMBER},
    {0x11BC0, 0x11BE0, LETTER}, {0x11BF0, 0x11BF9, NUMBER}, {0x13460, 0x143FA, LETTER}, {0x16100, 0x1611D, LETTER},
    {0x16130, 0x16139, NUMBER}, {0x16D40, 0x16D6C, LETTER}, {0x16D70, 0x16D79, NUMBER}, {0x18CFF, 0x18CFF, LETTER},
    {0x1CCF0, 0x1CCF9, NUMBER}, {0x1E5D0, 0x1E5ED, LETTER}, {0x1E5F0, 0x1E5F0, LETTER}, {0x1E5F1, 0x1E5FA, NUMBER},
    {0x2EBF0, 0x2EE5D, LETTER},
};

static char_class newer_class(uint32_t code) {
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++)
        if (code >= newer[i].first && code <= newer[i].last) return newer[i].class;
    return OTHER;
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
        return is_space(code) ? SPACE : OTHER;
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
