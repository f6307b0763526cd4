/* tokenizer.c: what all tokenizers share; see tokenizer.h. Loading, saving and training have their own files. */
#include "text/tokenizer.h"

#include <string.h>

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
    t->bos = t->eos = t->unknown = -1;
    *out = t;
    return LC_OK;
}

lc_status lc_tokenizer_set_byte_level(lc_tokenizer *t, bool add_prefix_space) {
    lc_steps_free(&t->pre_tokenizer);
    t->byte_level = true;
    return lc_steps_add_byte_level(&t->pre_tokenizer, add_prefix_space);
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
    lc_added_set_free(&t->raw);
    lc_added_set_free(&t->normalized);
    lc_steps_free(&t->normalizer);
    lc_steps_free(&t->pre_tokenizer);
    lc_steps_free(&t->decoder);
    for (int i = 0; i < 3; i++) lc_pieces_free(&t->pieces[i]);
    for (int i = 0; i < LC_KEPT_FILES; i++) lc_free(t->files.text[i]);
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

/* The text as the normalizer leaves it, in t->pieces[0]. */
static lc_status normalize(lc_tokenizer *t, const char *text, size_t length) {
    lc_pieces_clear(&t->pieces[0]);
    LC_TRY(lc_pieces_add(&t->pieces[0], text, length));
    return lc_steps_run(&t->normalizer, &t->pieces[0], &t->pieces[1], false);
}

/* What is looked for in normalized text is normalized itself. */
static lc_status list_added(lc_tokenizer *t) {
    const lc_vocabulary *v = &t->vocabulary;
    for (int64_t id = 0; id < v->size; id++) {
        const lc_token *k = &v->tokens[id];
        if (!k->added || k->length == 0) continue;
        if (!k->normalized) {
            LC_TRY(lc_added_set_add(&t->raw, id, lc_vocabulary_text(v, id), k->length));
            continue;
        }
        LC_TRY(normalize(t, lc_vocabulary_text(v, id), k->length));
        const lc_strbuf *text = &t->pieces[0].text;
        if (text->length) LC_TRY(lc_added_set_add(&t->normalized, id, text->data, text->length));
    }
    lc_added_set_sort(&t->raw);
    lc_added_set_sort(&t->normalized);
    return LC_OK;
}

static lc_status take_hash(lc_tokenizer *t) {
    const lc_vocabulary *v = &t->vocabulary;
    lc_strbuf b = {0};
    lc_strbuf_printf(&b, "tokenizer 2 %lld %lld %d %d %d %d\n", (long long)t->bos, (long long)t->unknown, t->byte_level,
                     t->ignore_merges, t->byte_fallback, t->fuse_unknown);
    lc_steps_describe(&t->normalizer, &b);
    lc_steps_describe(&t->pre_tokenizer, &b);
    lc_steps_describe(&t->decoder, &b);
    for (int64_t id = 0; id < v->size; id++) {
        const lc_token *k = &v->tokens[id];
        const char facts[] = {(char)k->used,   (char)k->listed,      (char)k->added,     (char)k->lstrip,
                              (char)k->rstrip, (char)k->single_word, (char)k->normalized};
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
    return t->byte_level && t->merge_count == 0 && !t->ignore_merges && t->normalizer.count == 0 &&
           lc_steps_is_gpt2(&t->pre_tokenizer);
}

/* The token of a byte, -1 for none: the byte itself, or written as SentencePiece does. */
static int64_t byte_token(const lc_tokenizer *t, int byte) {
    char name[8];
    if (t->byte_level) return lc_vocabulary_find(&t->vocabulary, &(char){(char)byte}, 1, true);
    snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
    return lc_vocabulary_find(&t->vocabulary, name, 6, true);
}

lc_status lc_tokenizer_finish(lc_tokenizer *t) {
    for (int byte = 0; byte < 256; byte++) {
        int64_t id = byte_token(t, byte);
        if (id < 0 && is_bytes(t)) return lc_fail(LC_EFORMAT, "the vocabulary has no token for the byte 0x%02x", byte);
        t->byte_ids[byte] = (int32_t)id;
    }
    LC_TRY(list_added(t));
    LC_TRY(lc_bpe_build_pairs(t));
    t->words_apart = !t->byte_level && lc_bpe_words_apart(t);
    return take_hash(t);
}

/* -- encoding ---------------------------------------------------------------------------------- */

/* End of the word that begins at p: the next sign of a blank behind anything else. */
static const uint8_t *word_end(const uint8_t *p, const uint8_t *end) {
    const size_t sign = sizeof LC_BLANK_SIGN - 1;
    bool blank = true; /* p is behind signs alone */
    while (p < end) {
        bool here = (size_t)(end - p) >= sign && memcmp(p, LC_BLANK_SIGN, sign) == 0;
        if (here && !blank) break;
        p += here ? sign : 1;
        blank = here;
    }
    return p;
}

static lc_status encode_piece(lc_tokenizer *t, const uint8_t *p, size_t length, lc_ids *out) {
    const uint8_t *end = p + length;
    for (int64_t i = 1; p < end; i++) {
        const uint8_t *stop = t->words_apart ? word_end(p, end) : end;
        LC_TRY(lc_bpe_piece(t, p, (size_t)(stop - p), out));
        p = stop;
        if (i % PIECES_PER_POLL == 0) LC_TRY(lc_poll());
    }
    return LC_OK;
}

static lc_status encode_gpt2(lc_tokenizer *t, const uint8_t *p, size_t length, lc_ids *out) {
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

/* Normalized text between added tokens. `first`: it begins the document. */
static lc_status encode_normalized(lc_tokenizer *t, const char *text, size_t length, bool first, lc_ids *out) {
    if (length == 0) return LC_OK;
    if (lc_steps_is_gpt2(&t->pre_tokenizer)) return encode_gpt2(t, (const uint8_t *)text, length, out);
    lc_pieces *pieces = &t->pieces[2];
    lc_pieces_clear(pieces);
    LC_TRY(lc_pieces_add(pieces, text, length));
    LC_TRY(lc_steps_run(&t->pre_tokenizer, pieces, &t->pieces[1], first));
    for (int64_t i = 0; i < pieces->count; i++) {
        const char *piece = lc_pieces_at(pieces, i, &length);
        LC_TRY(encode_piece(t, (const uint8_t *)piece, length, out));
        if (i % PIECES_PER_POLL == PIECES_PER_POLL - 1) LC_TRY(lc_poll());
    }
    return LC_OK;
}

/* Text between the added tokens that are looked for before normalization. */
static lc_status encode_span(lc_tokenizer *t, const char *text, size_t length, bool first, lc_ids *out) {
    if (length == 0) return LC_OK;
    if (t->normalizer.count) {
        LC_TRY(normalize(t, text, length));
        text = t->pieces[0].text.data;
        length = t->pieces[0].text.length;
    }
    lc_added_walk w = {.text = text, .length = length};
    size_t at = 0;
    while (lc_added_next(&t->normalized, &t->vocabulary, &w)) {
        LC_TRY(encode_normalized(t, text + at, w.begin - at, first && at == 0, out));
        LC_TRY(push_id(out, w.id));
        at = w.end;
    }
    return encode_normalized(t, text + at, length - at, first && at == 0, out);
}

static lc_status encode_text(lc_tokenizer *t, const char *text, size_t length, lc_ids *out) {
    lc_added_walk w = {.text = text, .length = length};
    size_t at = 0; /* what is before is encoded */
    while (lc_added_next(&t->raw, &t->vocabulary, &w)) {
        LC_TRY(encode_span(t, text + at, w.begin - at, at == 0, out));
        LC_TRY(push_id(out, w.id));
        at = w.end;
    }
    return encode_span(t, text + at, length - at, at == 0, out);
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

/* What the decoder takes for a token: its text; of an added token that is looked for in normalized text, that. */
static const char *decoded_text(const lc_tokenizer *t, int64_t id, size_t *length) {
    const lc_token *k = &t->vocabulary.tokens[id];
    for (int64_t i = 0; k->normalized && i < t->normalized.count; i++) {
        const lc_added *a = &t->normalized.items[i];
        if (a->id != id) continue;
        *length = a->length;
        return t->normalized.text.data + a->offset;
    }
    *length = k->length;
    return lc_vocabulary_text(&t->vocabulary, id);
}

static lc_status token_texts(const lc_tokenizer *t, const int64_t *ids, int64_t count, bool skip_special,
                             lc_pieces *out) {
    for (int64_t i = 0; i < count; i++) {
        if (i % IDS_PER_POLL == 0) LC_TRY(lc_poll());
        if (ids[i] < 0 || ids[i] >= t->vocabulary.size || !t->vocabulary.tokens[ids[i]].used)
            return lc_fail(LC_EINVAL,
                           "tokenizer: no token has the id %lld (number %lld in the list); ids are 0 to %lld",
                           (long long)ids[i], (long long)i + 1, (long long)t->vocabulary.size - 1);
        if (skip_special && t->vocabulary.tokens[ids[i]].special) continue;
        size_t length;
        const char *text = decoded_text(t, ids[i], &length);
        LC_TRY(lc_pieces_add(out, text, length));
    }
    return LC_OK;
}

lc_status lc_tokenizer_decode(const lc_tokenizer *t, const int64_t *ids, int64_t count, bool skip_special, char **out,
                              size_t *length) {
    lc_pieces pieces = {0}, spare = {0};
    char *bytes = NULL, *repaired = NULL;
    size_t n = 0;
    lc_status status = token_texts(t, ids, count, skip_special, &pieces);
    if (!status) status = lc_steps_run(&t->decoder, &pieces, &spare, true);
    if (!status) status = lc_strbuf_take(&pieces.text, &bytes, &n);
    lc_pieces_free(&pieces);
    lc_pieces_free(&spare);
    if (!status && !is_bytes(t)) status = lc_utf8_repair(bytes, n, &repaired, &n);
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
