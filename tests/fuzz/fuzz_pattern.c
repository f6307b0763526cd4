/* fuzz_pattern.c: a regular expression, a zero byte, and a text to cut with it. The first byte chooses what becomes of
 * the matches. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/pieces.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Unless matches are removed, the pieces side by side are the text. */
static void cut(lc_pattern *pattern, lc_cut how, bool invert, const char *text, size_t length) {
    lc_pieces pieces = {0};
    if (!lc_pieces_cut(pattern, how, invert, text, length, &pieces) && how != LC_CUT_REMOVED) {
        if (pieces.text.length != length) abort();
        if (length && memcmp(pieces.text.data, text, length) != 0) abort();
    }
    for (int64_t i = 0; i < pieces.count; i++) {
        lc_pieces_at(&pieces, i, &length);
        if (!length) abort();
    }
    lc_pieces_free(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size > 1 ? memchr(data + 1, 0, size - 1) : NULL;
    if (!zero) return 0;
    lc_pattern *pattern = NULL;
    char *expression = NULL, *text = NULL;
    size_t expression_length = (size_t)(zero - data - 1), length = (size_t)(data + size - zero - 1);
    if (lc_utf8_repair((const char *)data + 1, expression_length, &expression, &expression_length)) abort();
    if (lc_utf8_repair((const char *)zero + 1, length, &text, &length)) abort();
    if (!lc_pattern_new(expression ? expression : (const char *)data + 1, expression_length, data[0] & 16, &pattern))
        cut(pattern, data[0] % 5, data[0] & 32, text ? text : (const char *)zero + 1, length);
    lc_pattern_free(pattern);
    lc_free(expression);
    lc_free(text);
    return 0;
}
