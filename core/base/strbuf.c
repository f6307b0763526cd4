/* strbuf.c: see strbuf.h. */
#include "base/strbuf.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

/* Room for `more` bytes and a NUL. */
static bool reserve(lc_strbuf *b, size_t more) {
    if (b->failed) return false;
    if (b->length + more + 1 <= b->capacity) return true;
    size_t capacity = b->capacity ? b->capacity * 2 : 64;
    while (capacity < b->length + more + 1) capacity *= 2;
    char *grown = lc_realloc(b->data, capacity);
    if (!grown) {
        b->failed = true;
        return false;
    }
    b->data = grown;
    b->capacity = capacity;
    return true;
}

void lc_strbuf_add(lc_strbuf *b, const void *data, size_t length) {
    if (!reserve(b, length)) return;
    if (length) memcpy(b->data + b->length, data, length); /* nothing may come as NULL */
    b->length += length;
    b->data[b->length] = '\0';
}

void lc_strbuf_puts(lc_strbuf *b, const char *text) {
    lc_strbuf_add(b, text, strlen(text));
}

void lc_strbuf_printf(lc_strbuf *b, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n > 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->length, (size_t)n + 1, format, again);
        b->length += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

lc_status lc_strbuf_take(lc_strbuf *b, char **out, size_t *length) {
    if (!b->data && !b->failed) lc_strbuf_add(b, "", 0);
    if (b->failed) {
        lc_strbuf_free(b);
        return lc_fail(LC_ENOMEM, "out of memory while building a text");
    }
    *out = b->data;
    if (length) *length = b->length;
    *b = (lc_strbuf){0};
    return LC_OK;
}

void lc_strbuf_free(lc_strbuf *b) {
    lc_free(b->data);
    *b = (lc_strbuf){0};
}

bool lc_ends_with(const char *text, const char *end) {
    size_t length = strlen(text), n = strlen(end);
    return length >= n && strcmp(text + length - n, end) == 0;
}
