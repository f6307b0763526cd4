/* vocabulary.c: see vocabulary.h. */
#include "text/vocabulary.h"

#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "text/utf8.h"

void lc_vocabulary_free(lc_vocabulary *v) {
    lc_free(v->tokens);
    lc_free(v->slots);
    lc_strbuf_free(&v->text);
    *v = (lc_vocabulary){0};
}

/* The slot that holds this token, or the empty one where it belongs. */
static int64_t slot_of(const lc_vocabulary *v, const char *text, size_t length, bool listed) {
    int64_t mask = v->slot_count - 1, slot = (int64_t)lc_hash64(text, length, 0) & mask;
    while (v->slots[slot] >= 0) {
        const lc_token *t = &v->tokens[v->slots[slot]];
        if (t->listed == listed && t->length == length && memcmp(v->text.data + t->offset, text, length) == 0) break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

int64_t lc_vocabulary_find(const lc_vocabulary *v, const char *text, size_t length, bool listed) {
    return v->slot_count ? v->slots[slot_of(v, text, length, listed)] : -1;
}

/* Keeps the table at most half full. */
static lc_status grow_slots(lc_vocabulary *v) {
    if (v->used * 2 < v->slot_count) return LC_OK;
    int64_t count = v->slot_count ? v->slot_count * 2 : 1024;
    int32_t *slots = lc_alloc(sizeof *slots * (size_t)count);
    if (!slots) return LC_ENOMEM;
    memset(slots, 0xFF, sizeof *slots * (size_t)count);
    lc_free(v->slots);
    v->slots = slots;
    v->slot_count = count;
    for (int64_t id = 0; id < v->size; id++)
        if (v->tokens[id].used)
            slots[slot_of(v, lc_vocabulary_text(v, id), v->tokens[id].length, v->tokens[id].listed)] = (int32_t)id;
    return LC_OK;
}

static lc_status grow_tokens(lc_vocabulary *v, int64_t size) {
    if (size <= v->capacity) return LC_OK;
    int64_t capacity = lc_max(size, v->capacity * 2);
    lc_token *tokens = lc_realloc(v->tokens, sizeof *tokens * (size_t)capacity);
    if (!tokens) return LC_ENOMEM;
    memset(tokens + v->capacity, 0, sizeof *tokens * (size_t)(capacity - v->capacity));
    v->tokens = tokens;
    v->capacity = capacity;
    return LC_OK;
}

lc_status lc_vocabulary_add(lc_vocabulary *v, int64_t id, const char *text, size_t length, bool listed) {
    if (id < v->size && v->tokens[id].used)
        return lc_fail(LC_EFORMAT, "two tokens, %.*s and %.*s, have the id %lld", (int)v->tokens[id].length,
                       lc_vocabulary_text(v, id), (int)length, text, (long long)id);
    LC_TRY(grow_slots(v));
    LC_TRY(grow_tokens(v, id + 1));
    int64_t slot = slot_of(v, text, length, listed);
    if (v->slots[slot] >= 0)
        return lc_fail(LC_EFORMAT, "the token %.*s has two ids, %d and %lld", (int)length, text, v->slots[slot],
                       (long long)id);
    size_t offset = v->text.length;
    if (offset + length > UINT32_MAX) return lc_fail(LC_EFORMAT, "the vocabulary has more than 4 GiB of text");
    lc_strbuf_add(&v->text, text, length);
    if (v->text.failed) return lc_fail(LC_ENOMEM, "out of memory while reading a vocabulary");
    v->tokens[id] = (lc_token){.offset = (uint32_t)offset, .length = (uint32_t)length, .used = true, .listed = listed};
    v->size = lc_max(v->size, id + 1);
    v->slots[slot] = (int32_t)id;
    v->used++;
    return LC_OK;
}

/* -- the alphabet ------------------------------------------------------------------------------ */

/* The bytes that stand for themselves: ! to ~ and the printable half of Latin-1, without the soft hyphen. */
static bool prints(uint32_t byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* The others are numbered from U+0100 in order: 0..32, 127..160, 173. */
uint32_t lc_alphabet(uint8_t byte) {
    if (prints(byte)) return byte;
    return 0x100 + (byte <= 32 ? byte : byte == 173 ? 67 : byte - (127 - 33));
}

static int byte_of(uint32_t character) {
    if (character < 0x100) return prints(character) ? (int)character : -1;
    uint32_t n = character - 0x100;
    return n > 67 ? -1 : n <= 32 ? (int)n : n == 67 ? 173 : (int)(n - 33 + 127);
}

void lc_alphabet_write(lc_strbuf *out, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        uint32_t c = lc_alphabet((uint8_t)bytes[i]);
        char two[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        if (c < 0x80)
            lc_strbuf_add(out, &bytes[i], 1);
        else
            lc_strbuf_add(out, two, 2);
    }
}

bool lc_alphabet_read(lc_strbuf *out, const char *text, size_t length) {
    const uint8_t *p = (const uint8_t *)text, *end = p + length;
    size_t start = out->length;
    while (p < end) {
        uint32_t code;
        p += lc_utf8_next(p, end, &code);
        int byte = byte_of(code);
        if (byte < 0) {
            out->length = start;
            return false;
        }
        lc_strbuf_add(out, &(char){(char)byte}, 1);
    }
    return true;
}
