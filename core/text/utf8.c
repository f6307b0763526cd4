/* utf8.c: see utf8.h. */
#include "text/utf8.h"

#include "base/strbuf.h"

/* Length of the longest valid beginning. */
static size_t valid_prefix(const uint8_t *text, size_t length) {
    const uint8_t *p = text, *end = text + length;
    while (p < end) {
        uint32_t code;
        int n = lc_utf8_next(p, end, &code);
        if (code == LC_UTF8_BROKEN && !(n == 3 && p[0] == 0xEF && p[1] == 0xBF && p[2] == 0xBD)) break;
        p += n;
    }
    return (size_t)(p - text);
}

lc_status lc_utf8_repair(const char *text, size_t length, char **out, size_t *out_length) {
    size_t good = valid_prefix((const uint8_t *)text, length);
    if (good == length) {
        *out = NULL;
        return LC_OK;
    }
    lc_strbuf b = {0};
    const uint8_t *p = (const uint8_t *)text, *end = p + length;
    for (;;) {
        lc_strbuf_add(&b, p, good);
        p += good;
        if (p == end) break;
        uint32_t code;
        p += lc_utf8_next(p, end, &code);
        lc_strbuf_puts(&b, "\xEF\xBF\xBD");
        good = valid_prefix(p, (size_t)(end - p));
    }
    return lc_strbuf_take(&b, out, out_length);
}
