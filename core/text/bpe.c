/* bpe.c: a piece's first symbols, its bytes or its characters, and the merge loop: of all adjacent pairs the one with the
 * lowest rank is merged, the leftmost first, until none has a rank. Short pieces search all pairs each time; long ones
 * keep them in a heap, so that time stays n log n on a text without blanks. */
#include "text/bpe.h"

#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "text/utf8.h"

#define SHORT_PIECE 64 /* bytes */
#define STEPS_PER_POLL (1 << 14)
#define CACHE_SLOTS 65536
#define NO_RANK INT32_MAX

/* -- the pair table ---------------------------------------------------------------------------- */

static inline uint64_t mix(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;
    return x ^ x >> 29;
}

/* The slot of (left, right), or the empty one where it belongs. */
static inline lc_pair_slot *pair_slot(const lc_tokenizer *t, int32_t left, int32_t right) {
    uint64_t mask = (uint64_t)t->pair_slots - 1, at = mix((uint64_t)left << 32 | (uint32_t)right) & mask;
    while (t->pairs[at].rank >= 0 && (t->pairs[at].left != left || t->pairs[at].right != right)) at = (at + 1) & mask;
    return &t->pairs[at];
}

lc_status lc_bpe_build_pairs(lc_tokenizer *t) {
    int64_t count = 16;
    while (count < t->merge_count * 2) count *= 2;
    lc_pair_slot *slots = lc_alloc(sizeof *slots * (size_t)count);
    if (!slots) return LC_ENOMEM;
    memset(slots, 0xFF, sizeof *slots * (size_t)count);
    lc_free(t->pairs);
    t->pairs = slots;
    t->pair_slots = count;
    for (int64_t i = 0; i < t->merge_count; i++) {
        const lc_merge *m = &t->merges[i];
        lc_pair_slot *slot = pair_slot(t, m->left, m->right);
        *slot =
            (lc_pair_slot){m->left, m->right, (int32_t)i, m->result}; /* of a pair given twice the later rank counts */
    }
    return LC_OK;
}

lc_status lc_bpe_add_merge(lc_tokenizer *t, int32_t left, int32_t right) {
    lc_strbuf b = {0};
    const lc_vocabulary *v = &t->vocabulary;
    lc_strbuf_add(&b, lc_vocabulary_text(v, left), v->tokens[left].length);
    lc_strbuf_add(&b, lc_vocabulary_text(v, right), v->tokens[right].length);
    if (b.failed) {
        lc_strbuf_free(&b);
        return LC_ENOMEM;
    }
    int64_t result = lc_vocabulary_find(v, b.data, b.length, true);
    lc_status status = LC_OK;
    if (result < 0) status = lc_fail(LC_EFORMAT, "the result of a merge, \"%s\", is not in the vocabulary", b.data);
    lc_strbuf_free(&b);
    if (status) return status;
    if ((t->merge_count & (t->merge_count - 1)) == 0) { /* full at each power of two */
        lc_merge *merges = lc_realloc(t->merges, sizeof *merges * (size_t)lc_max(64, t->merge_count * 2));
        if (!merges) return LC_ENOMEM;
        t->merges = merges;
    }
    t->merges[t->merge_count++] = (lc_merge){left, right, (int32_t)result};
    return LC_OK;
}

/* -- short pieces ------------------------------------------------------------------------------ */

/* Merges ids[0..n) in place; returns how many are left. */
static int merge_short(const lc_tokenizer *t, int32_t *ids, int n) {
    int32_t ranks[SHORT_PIECE], results[SHORT_PIECE]; /* of the pair (i, i + 1) */
    for (int i = 0; i + 1 < n; i++) {
        const lc_pair_slot *pair = pair_slot(t, ids[i], ids[i + 1]);
        ranks[i] = pair->rank < 0 ? NO_RANK : pair->rank;
        results[i] = pair->result;
    }
    while (n > 1) {
        int best = 0;
        for (int i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == NO_RANK) break;
        ids[best] = results[best];
        for (int i = best + 1; i + 1 < n; i++) {
            ids[i] = ids[i + 1];
            ranks[i] = ranks[i + 1];
            results[i] = results[i + 1];
        }
        n--;
        for (int i = best > 0 ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const lc_pair_slot *pair = pair_slot(t, ids[i], ids[i + 1]);
            ranks[i] = pair->rank < 0 ? NO_RANK : pair->rank;
            results[i] = pair->result;
        }
    }
    return n;
}

/* -- long pieces ------------------------------------------------------------------------------- */

typedef struct symbol {
    int32_t id;         /* -1 when merged into the symbol before it */
    int32_t prev, next; /* -1 at the ends */
} symbol;

/* A pair that could be merged; out of date when its symbols have changed since. */
typedef struct candidate {
    int32_t rank, at, left, right;
} candidate;

typedef struct heap {
    candidate *items;
    int64_t count;
} heap;

static inline bool before(const candidate *a, const candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(heap *h, candidate c) {
    int64_t i = h->count++;
    while (i > 0 && before(&c, &h->items[(i - 1) / 2])) {
        h->items[i] = h->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->items[i] = c;
}

static candidate heap_pop(heap *h) {
    candidate top = h->items[0], last = h->items[--h->count];
    int64_t i = 0;
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && before(&h->items[child + 1], &h->items[child])) child++;
        if (!before(&h->items[child], &last)) break;
        h->items[i] = h->items[child];
        i = child;
    }
    h->items[i] = last;
    return top;
}

/* Offers the pair that begins at symbol `at`, if there is one and it has a rank. */
static void offer(const lc_tokenizer *t, heap *h, const symbol *symbols, int32_t at) {
    int32_t next = at < 0 ? -1 : symbols[at].next;
    if (next < 0) return;
    const lc_pair_slot *pair = pair_slot(t, symbols[at].id, symbols[next].id);
    if (pair->rank >= 0) heap_push(h, (candidate){pair->rank, at, symbols[at].id, symbols[next].id});
}

static lc_status merge_symbols(const lc_tokenizer *t, symbol *symbols, int32_t n, heap *h) {
    for (int32_t i = 0; i < n; i++) {
        if (i % STEPS_PER_POLL == 0) LC_TRY(lc_poll());
        offer(t, h, symbols, i);
    }
    for (int64_t step = 0; h->count; step++) {
        if (step % STEPS_PER_POLL == 0) LC_TRY(lc_poll());
        candidate c = heap_pop(h);
        symbol *left = &symbols[c.at];
        if (left->id != c.left || left->next < 0 || symbols[left->next].id != c.right) continue;
        symbol *right = &symbols[left->next];
        left->id = pair_slot(t, c.left, c.right)->result;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0) symbols[left->next].prev = c.at;
        offer(t, h, symbols, left->prev);
        offer(t, h, symbols, c.at);
    }
    return LC_OK;
}

static lc_status merge_long(const lc_tokenizer *t, int32_t *ids, int32_t *count) {
    int32_t n = *count;
    symbol *symbols = lc_alloc(sizeof *symbols * (size_t)n);
    /* n - 1 pairs at first, and each of at most n - 1 merges takes one candidate out before it offers two. */
    heap h = {.items = lc_alloc(sizeof *h.items * (size_t)n * 2)};
    lc_status status = symbols && h.items ? LC_OK : LC_ENOMEM;
    if (!status && n > 0) {
        for (int32_t i = 0; i < n; i++) symbols[i] = (symbol){ids[i], i - 1, i + 1 < n ? i + 1 : -1};
        status = merge_symbols(t, symbols, n, &h);
        *count = 0;
        for (int32_t i = 0; i >= 0; i = symbols[i].next) ids[(*count)++] = symbols[i].id;
    }
    lc_free(symbols);
    lc_free(h.items);
    return status;
}

/* -- first symbols ----------------------------------------------------------------------------- */

/* The tokens of a character's bytes; 0 when one has none. */
static int32_t byte_symbols(const lc_tokenizer *t, const uint8_t *p, int n, int32_t *ids) {
    for (int i = 0; i < n; i++)
        if ((ids[i] = t->byte_ids[p[i]]) < 0) return 0;
    return n;
}

/* Symbols without a token become the unknown one, or nothing; `unknown`: the symbol before was such a one. */
static int32_t missing_symbol(const lc_tokenizer *t, bool unknown, int32_t *ids) {
    if (t->unknown < 0 || (unknown && t->fuse_unknown)) return 0;
    *ids = (int32_t)t->unknown;
    return 1;
}

/* Characters that are tokens, else their bytes. */
static int32_t character_symbols(const lc_tokenizer *t, const uint8_t *p, size_t length, int32_t *ids) {
    const uint8_t *end = p + length;
    int32_t count = 0;
    bool unknown = false;
    for (int n; p < end; p += n) {
        uint32_t code;
        n = lc_utf8_next(p, end, &code);
        int64_t id = lc_vocabulary_find(&t->vocabulary, (const char *)p, (size_t)n, true);
        int32_t bytes = id < 0 && t->byte_fallback ? byte_symbols(t, p, n, ids + count) : 0;
        bool missing = id < 0 && !bytes;
        if (missing) bytes = missing_symbol(t, unknown, ids + count);
        if (id >= 0) ids[count] = (int32_t)id;
        count += id >= 0 ? 1 : bytes;
        unknown = missing;
    }
    return count;
}

/* Writes at most `length` ids. */
static int32_t first_symbols(const lc_tokenizer *t, const uint8_t *piece, size_t length, int32_t *ids) {
    if (!t->byte_level) return character_symbols(t, piece, length, ids);
    int32_t count = 0;
    bool unknown = false;
    for (size_t i = 0; i < length; i++) {
        ids[count] = t->byte_ids[piece[i]];
        bool missing = ids[count] < 0;
        count += missing ? missing_symbol(t, unknown, ids + count) : 1;
        unknown = missing;
    }
    return count;
}

/* -- pieces ------------------------------------------------------------------------------------ */

static inline lc_cached cache_key(const uint8_t *piece, size_t length) {
    lc_cached key = {0};
    memcpy(key.key, piece, length);
    key.key[1] |= (uint64_t)length << 56;
    return key;
}

/* Into ids[0..length). */
static lc_status merge_piece(const lc_tokenizer *t, const uint8_t *piece, size_t length, int32_t *ids, int32_t *count) {
    int64_t whole = t->ignore_merges ? lc_vocabulary_find(&t->vocabulary, (const char *)piece, length, true) : -1;
    if (whole >= 0) {
        ids[0] = (int32_t)whole;
        *count = 1;
        return LC_OK;
    }
    *count = first_symbols(t, piece, length, ids);
    if (length > SHORT_PIECE) return merge_long(t, ids, count);
    *count = merge_short(t, ids, *count);
    return LC_OK;
}

lc_status lc_bpe_piece(lc_tokenizer *t, const uint8_t *piece, size_t length, lc_ids *out) {
    if (length > INT32_MAX) return lc_fail(LC_EINVAL, "tokenizer: a word of %zu bytes; at most 2 GiB", length);
    LC_TRY(lc_ids_reserve(out, lc_max((int64_t)length, LC_CACHE_IDS)));
    if (!t->cache && !(t->cache = lc_calloc(CACHE_SLOTS, sizeof *t->cache))) return LC_ENOMEM;
    int32_t *ids = out->data + out->count, count;
    lc_cached key, *cached = NULL;
    if (length <= LC_CACHE_BYTES) {
        key = cache_key(piece, length);
        cached = &t->cache[mix(key.key[0] ^ mix(key.key[1])) % CACHE_SLOTS];
        if (cached->key[0] == key.key[0] && cached->key[1] == key.key[1]) {
            memcpy(ids, cached->ids, sizeof cached->ids);
            out->count += cached->count;
            return LC_OK;
        }
    }
    LC_TRY(merge_piece(t, piece, length, ids, &count));
    out->count += count;
    if (cached && count <= LC_CACHE_IDS) {
        memcpy(key.ids, ids, sizeof *ids * (size_t)count);
        key.count = count;
        *cached = key;
    }
    return LC_OK;
}

bool lc_bpe_words_apart(const lc_tokenizer *t) {
    const size_t sign = sizeof LC_BLANK_SIGN - 1;
    const lc_vocabulary *v = &t->vocabulary;
    if (t->ignore_merges || lc_vocabulary_find(v, LC_BLANK_SIGN, sign, true) < 0) return false;
    for (int64_t i = 0; i < t->merge_count; i++) {
        const lc_token *left = &v->tokens[t->merges[i].left], *right = &v->tokens[t->merges[i].right];
        const char *end = v->text.data + left->offset + left->length, *begin = v->text.data + right->offset;
        bool behind = left->length < sign || memcmp(end - sign, LC_BLANK_SIGN, sign) != 0;
        if (behind && right->length >= sign && memcmp(begin, LC_BLANK_SIGN, sign) == 0) return false;
    }
    return true;
}
