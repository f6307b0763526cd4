/* tokenizer.c: what all tokenizers share; see tokenizer.h. Loading, saving and training have their own files. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/pool.h"
#include "text/bpe.h"
#include "text/pretokenize.h"
#include "text/utf8.h"

#define PIECES_PER_POLL 65536
#define IDS_PER_POLL 100000

/* -- ids --------------------------------------------------------------------------------------- */

lc_status lc_ids_reserve(lc_ids *ids, int64_t more) {
    if (ids->count + more <= ids->capacity) return LC_OK;
    int64_t capacity = lc_max(ids->count + more, ids->capacity * 2);
    int32_t *data = lc_realloc(ids->data, sizeof *data * (size_t)capacity);
    if (!data) return LC_ENOMEM;
    ids->data = data;
    ids->capacity = capacity;
    return LC_OK;
}

void lc_ids_free(lc_ids *ids) {
    lc_free(ids->data);
    *ids = (lc_ids){0};
}

static lc_status push_id(lc_ids *ids, int64_t id) {
    LC_TRY(lc_ids_reserve(ids, 1));
    ids->data[ids->count++] = (int32_t)id;
    return LC_OK;
}

/* -- making one -------------------------------------------------------------------------------- */

lc_status lc_tokenizer_new(lc_tokenizer **out) {
    lc_tokenizer *t = lc_calloc(1, sizeof *t);
    if (!t) return LC_ENOMEM;
    t->refs = 1;
    t->bos = t->eos = -1;
    *out = t;
    return LC_OK;
}

lc_tokenizer *lc_tokenizer_retain(lc_tokenizer *t) {
    t->refs++;
    return t;
}

void lc_tokenizer_release(lc_tokenizer *t) {
    if (!t || --t->refs > 0) return;
    lc_vocabulary_free(&t->vocabulary);
    lc_free(t->merges);
    lc_free(t->pairs);
    lc_free(t->cache);
    lc_free(t->added);
    lc_free(t);
}

lc_status lc_tokenizer_add_bytes(lc_tokenizer *t, int64_t first) {
    for (uint32_t character = 0, id = 0; id < 256; character++) {
        for (int byte = 0; byte < 256; byte++) {
            if (lc_alphabet((uint8_t)byte) != character) continue;
            LC_TRY(lc_vocabulary_add(&t->vocabulary, first + id++, &(char){(char)byte}, 1, true));
        }
    }
    return LC_OK;
}

lc_status lc_tokenizer_add_special(lc_tokenizer *t, const char *text, size_t length, int64_t *id) {
    int64_t at = lc_tokenizer_id(t, text, length);
    if (at < 0) {
        at = t->vocabulary.size;
        LC_TRY(lc_vocabulary_add(&t->vocabulary, at, text, length, false));
    }
    t->vocabulary.tokens[at].added = t->vocabulary.tokens[at].special = true;
    if (id) *id = at;
    return LC_OK;
}

/* Longest text first, so that of two added tokens at one place the longer is taken; then by id. */
static int by_length_then_id(const void *a, const void *b) {
    const lc_added *x = a, *y = b;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static lc_status list_added(lc_tokenizer *t) {
    const lc_vocabulary *v = &t->vocabulary;
    t->added = lc_alloc(sizeof *t->added * (size_t)(v->size + 1));
    if (!t->added) return LC_ENOMEM;
    for (int64_t id = 0; id < v->size; id++) {
        const lc_token *k = &v->tokens[id];
        if (!k->added || k->length == 0) continue;
        t->added[t->added_count++] = (lc_added){(int32_t)id, k->length};
        t->added_first[(uint8_t)lc_vocabulary_text(v, id)[0]] = true;
    }
    qsort(t->added, (size_t)t->added_count, sizeof *t->added, by_length_then_id);
    return LC_OK;
}

static lc_status take_hash(lc_tokenizer *t) {
    const lc_vocabulary *v = &t->vocabulary;
    lc_strbuf b = {0};
    lc_strbuf_printf(&b, "tokenizer 1 %lld %d %d\n", (long long)t->bos, t->add_prefix_space, t->compose);
    for (int64_t id = 0; id < v->size; id++) {
        const lc_token *k = &v->tokens[id];
        const char facts[] = {(char)k->used, (char)k->listed, (char)k->added, (char)k->lstrip, (char)k->rstrip};
        lc_strbuf_add(&b, facts, sizeof facts);
        lc_strbuf_add(&b, &k->length, sizeof k->length);
        lc_strbuf_add(&b, v->text.data + k->offset, k->length);
    }
    if (t->merge_count) lc_strbuf_add(&b, t->merges, sizeof *t->merges * (size_t)t->merge_count);
    if (!b.failed) lc_hash_hex(b.data, b.length, t->hash);
    lc_status status = b.failed ? lc_fail(LC_ENOMEM, "out of memory while hashing a vocabulary") : LC_OK;
    lc_strbuf_free(&b);
    return status;
}

/* Without merges every token is a byte, and any bytes are text. */
static bool is_bytes(const lc_tokenizer *t) {
    return t->merge_count == 0;
}

/* Bytes that no UTF-8 text has. */
static bool never_in_utf8(int byte) {
    return byte == 0xC0 || byte == 0xC1 || byte >= 0xF5;
}

lc_status lc_tokenizer_finish(lc_tokenizer *t) {
    for (int byte = 0; byte < 256; byte++) {
        int64_t id = lc_vocabulary_find(&t->vocabulary, &(char){(char)byte}, 1, true);
        if (id < 0 && (is_bytes(t) || !never_in_utf8(byte)))
            return lc_fail(LC_EFORMAT, "the vocabulary has no token for the byte 0x%02x", byte);
        t->byte_ids[byte] = (int32_t)id;
    }
    LC_TRY(list_added(t));
    LC_TRY(lc_bpe_build_pairs(t));
    return take_hash(t);
}

/* -- encoding ---------------------------------------------------------------------------------- */

static lc_status encode_pieces(lc_tokenizer *t, const uint8_t *p, size_t length, lc_ids *out) {
    const uint8_t *end = p + length;
    if (is_bytes(t)) {
        LC_TRY(lc_ids_reserve(out, (int64_t)length));
        while (p < end) out->data[out->count++] = t->byte_ids[*p++];
    }
    for (int64_t i = 1; p < end; i++) {
        size_t n = lc_piece_gpt2(p, end);
        LC_TRY(lc_bpe_piece(t, p, n, out));
        p += n;
        if (i % PIECES_PER_POLL == 0) LC_TRY(lc_poll());
    }
    return LC_OK;
}

static bool is_ascii(const char *text, size_t length) {
    uint8_t all = 0;
    for (size_t i = 0; i < length; i++) all |= (uint8_t)text[i];
    return all < 0x80;
}

/* Normalization form C, into fresh memory. */
static lc_status compose(const char *text, size_t length, char **out, size_t *out_length) {
    const utf8proc_uint8_t *from = (const utf8proc_uint8_t *)text;
    utf8proc_option_t options = UTF8PROC_COMPOSE | UTF8PROC_STABLE;
    utf8proc_ssize_t room = utf8proc_decompose(from, (utf8proc_ssize_t)length, NULL, 0, options);
    if (room < 0) return lc_fail(LC_EFORMAT, "text cannot be normalized: %s", utf8proc_errmsg(room));
    utf8proc_int32_t *codes = lc_alloc(sizeof *codes * ((size_t)room + 1));
    if (!codes) return LC_ENOMEM;
    utf8proc_ssize_t n = utf8proc_decompose(from, (utf8proc_ssize_t)length, codes, room, options);
    n = n < 0 ? n : utf8proc_reencode(codes, n, options); /* in place, with a NUL */
    if (n < 0) {
        lc_free(codes);
        return lc_fail(LC_EFORMAT, "text cannot be normalized: %s", utf8proc_errmsg(n));
    }
    *out = (char *)codes;
    *out_length = (size_t)n;
    return LC_OK;
}

/* Text between added tokens. */
static lc_status encode_span(lc_tokenizer *t, const char *text, size_t length, lc_ids *out) {
    char *composed = NULL, *prefixed = NULL;
    lc_status status = LC_OK;
    if (length == 0) return LC_OK;
    if (t->compose && !is_ascii(text, length)) {
        LC_TRY(compose(text, length, &composed, &length));
        text = composed;
    }
    if (t->add_prefix_space && text[0] != ' ') {
        lc_strbuf b = {0};
        lc_strbuf_puts(&b, " ");
        lc_strbuf_add(&b, text, length);
        status = lc_strbuf_take(&b, &prefixed, &length);
        text = prefixed;
    }
    if (!status) status = encode_pieces(t, (const uint8_t *)text, length, out);
    lc_free(prefixed);
    lc_free(composed);
    return status;
}

/* The added token that begins at `p`; -1 when none does. */
static int64_t added_at(const lc_tokenizer *t, const char *p, const char *end) {
    if (!t->added_first[(uint8_t)*p]) return -1;
    for (int64_t i = 0; i < t->added_count; i++) {
        const lc_added *a = &t->added[i];
        if (a->length <= (size_t)(end - p) && memcmp(p, lc_vocabulary_text(&t->vocabulary, a->id), a->length) == 0)
            return a->id;
    }
    return -1;
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static lc_status encode_text(lc_tokenizer *t, const char *text, size_t length, lc_ids *out) {
    const char *p = text, *start = text, *end = text + length; /* start: what is not encoded yet */
    while (p < end) {
        int64_t id = added_at(t, p, end);
        if (id < 0) {
            p++;
            continue;
        }
        const lc_token *k = &t->vocabulary.tokens[id];
        const char *stop = p, *after = p + k->length;
        while (k->lstrip && stop > start && is_blank(stop[-1])) stop--;
        while (k->rstrip && after < end && is_blank(*after)) after++;
        LC_TRY(encode_span(t, start, (size_t)(stop - start), out));
        LC_TRY(push_id(out, id));
        p = start = after;
    }
    return encode_span(t, start, (size_t)(end - start), out);
}

lc_status lc_tokenizer_encode(lc_tokenizer *t, const char *text, size_t length, bool bos, lc_ids *out) {
    if (bos && t->bos >= 0) LC_TRY(push_id(out, t->bos));
    char *repaired = NULL;
    if (!is_bytes(t)) LC_TRY(lc_utf8_repair(text, length, &repaired, &length));
    lc_status status = encode_text(t, repaired ? repaired : text, length, out);
    lc_free(repaired);
    return status;
}

/* -- decoding ---------------------------------------------------------------------------------- */

lc_status lc_tokenizer_decode(const lc_tokenizer *t, const int64_t *ids, int64_t count, bool skip_special, char **out,
                              size_t *length) {
    lc_strbuf b = {0};
    for (int64_t i = 0; i < count; i++) {
        lc_status stop = i % IDS_PER_POLL == 0 ? lc_poll() : LC_OK;
        if (stop) {
            lc_strbuf_free(&b);
            return stop;
        }
        if (ids[i] < 0 || ids[i] >= t->vocabulary.size || !t->vocabulary.tokens[ids[i]].used) {
            lc_strbuf_free(&b);
            return lc_fail(LC_EINVAL,
                           "tokenizer: no token has the id %lld (number %lld in the list); ids are 0 to %lld",
                           (long long)ids[i], (long long)i + 1, (long long)t->vocabulary.size - 1);
        }
        const lc_token *k = &t->vocabulary.tokens[ids[i]];
        if (!(skip_special && k->special)) lc_strbuf_add(&b, t->vocabulary.text.data + k->offset, k->length);
    }
    char *bytes, *repaired = NULL;
    size_t n;
    LC_TRY(lc_strbuf_take(&b, &bytes, &n));
    lc_status status = is_bytes(t) ? LC_OK : lc_utf8_repair(bytes, n, &repaired, &n);
    if (status || repaired) lc_free(bytes);
    if (status) return status;
    *out = repaired ? repaired : bytes;
    *length = n;
    return LC_OK;
}

/* -- questions --------------------------------------------------------------------------------- */

int64_t lc_tokenizer_size(const lc_tokenizer *t) {
    return t->vocabulary.size;
}

int64_t lc_tokenizer_id(const lc_tokenizer *t, const char *token, size_t length) {
    int64_t id = lc_vocabulary_find(&t->vocabulary, token, length, true);
    return id >= 0 ? id : lc_vocabulary_find(&t->vocabulary, token, length, false);
}

const char *lc_tokenizer_token(const lc_tokenizer *t, int64_t id, size_t *length) {
    if (id < 0 || id >= t->vocabulary.size || !t->vocabulary.tokens[id].used) return NULL;
    *length = t->vocabulary.tokens[id].length;
    return lc_vocabulary_text(&t->vocabulary, id);
}

int64_t lc_tokenizer_bos(const lc_tokenizer *t) {
    return t->bos;
}

int64_t lc_tokenizer_eos(const lc_tokenizer *t) {
    return t->eos;
}

const char *lc_tokenizer_hash(const lc_tokenizer *t) {
    return t->hash;
}
