/* added.c: see added.h. */
#define _GNU_SOURCE
#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/unicode.h"
#include "text/utf8.h"

lc_status lc_added_set_add(lc_added_set *set, int64_t id, const char *text, size_t length) {
    if (set->count == set->capacity) {
        int64_t capacity = lc_max(32, set->capacity * 2);
        lc_added *items = lc_realloc(set->items, sizeof *items * (size_t)capacity);
        if (!items) return LC_ENOMEM;
        set->items = items;
        set->capacity = capacity;
    }
    size_t offset = set->text.length;
    lc_strbuf_add(&set->text, text, length);
    if (set->text.failed) return lc_fail(LC_ENOMEM, "out of memory while reading added tokens");
    set->items[set->count++] = (lc_added){(int32_t)id, (uint32_t)offset, (uint32_t)length};
    return LC_OK;
}

void lc_added_set_free(lc_added_set *set) {
    lc_strbuf_free(&set->text);
    lc_free(set->items);
    *set = (lc_added_set){0};
}

static uint8_t first_byte(const lc_added_set *set, const lc_added *a) {
    return (uint8_t)set->text.data[a->offset];
}

static int by_first_length_id(const void *a, const void *b, void *set) {
    const lc_added *x = a, *y = b;
    int difference = first_byte(set, x) - first_byte(set, y);
    if (difference) return difference;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

void lc_added_set_sort(lc_added_set *set) {
    if (set->count) qsort_r(set->items, (size_t)set->count, sizeof *set->items, by_first_length_id, set);
    int64_t i = 0;
    for (int byte = 0; byte <= 256; byte++) {
        while (i < set->count && first_byte(set, &set->items[i]) < byte) i++;
        set->begin[byte] = (int32_t)i;
    }
}

/* The longest one at `p`; NULL when none begins there. */
static const lc_added *added_at(const lc_added_set *set, const char *p, const char *end) {
    uint8_t byte = (uint8_t)*p;
    size_t room = (size_t)(end - p);
    for (int32_t i = set->begin[byte]; i < set->begin[byte + 1]; i++) {
        const lc_added *a = &set->items[i];
        const char *text = set->text.data + a->offset;
        if (a->length <= room && text[a->length - 1] == p[a->length - 1] && memcmp(text, p, a->length) == 0) return a;
    }
    return NULL;
}

/* Whether a letter, digit or such stands right before or behind text[begin .. end). */
static bool inside_word(const lc_added_walk *w, size_t begin, size_t end) {
    const uint8_t *text = (const uint8_t *)w->text, *p = text + begin;
    uint32_t code;
    if (end < w->length) {
        lc_utf8_next(text + end, text + w->length, &code);
        if (lc_is_word(code)) return true;
    }
    if (begin == 0) return false;
    do p--;
    while (p > text && (*p & 0xC0) == 0x80);
    lc_utf8_next(p, text + begin, &code);
    return lc_is_word(code);
}

bool lc_added_next(const lc_added_set *set, const lc_vocabulary *v, lc_added_walk *w) {
    if (!set->count) return false;
    while (w->from < w->length) {
        size_t begin = w->from, end;
        const lc_added *a = added_at(set, w->text + begin, w->text + w->length);
        w->from += a ? a->length : 1;
        if (!a) continue;
        end = w->from;
        const lc_token *k = &v->tokens[a->id];
        if (k->single_word && inside_word(w, begin, end)) continue;
        if (k->lstrip) begin -= lc_spaces_at_end(w->text, begin);
        if (k->rstrip) end += lc_spaces_at_start(w->text + end, w->length - end);
        w->begin = (size_t)lc_max((int64_t)begin, (int64_t)w->done);
        w->end = end;
        w->done = w->end;
        w->id = a->id;
        return true;
    }
    return false;
}
