/* bpe_train.c: learning merges (Sennrich et al. 2016): the pair of tokens that occurs most often becomes a token, again
 * and again. The text is cut into pieces once; equal pieces are one word with a count. Merging a pair changes only the
 * words that hold it, so each pair knows where it occurs, and a heap gives the most frequent one. Choices and ties as
 * in the BpeTrainer of `tokenizers`. */
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/pool.h"
#include "text/bpe.h"
#include "text/pretokenize.h"
#include "text/utf8.h"

/* A distinct piece of the text: symbols[begin .. begin + length), shrinking as its tokens merge. */
typedef struct word {
    uint32_t offset, bytes; /* in the text */
    int64_t begin, count;   /* of symbols; how often the word occurs */
    int32_t length;
} word;

/* A pair of tokens that was seen, at its place in the table. Counts stay when it is merged, as they do there. */
typedef struct pair {
    uint64_t key; /* left << 32 | right; 0 with used = false means an empty slot */
    int64_t count;
    int32_t *words; /* where it came up since it was last put into the heap */
    int32_t word_count, word_capacity;
    bool used;
} pair;

/* A pair in the heap, with the words where it came up. */
typedef struct entry {
    int64_t count;
    uint64_t key;
    int32_t *words;
    int32_t word_count;
} entry;

typedef struct trainer {
    lc_tokenizer *tokenizer;
    const uint8_t *text;
    word *words;
    int64_t word_count, word_capacity;
    int32_t *word_slots; /* open addressing; -1 = empty */
    int64_t word_slot_count;
    int32_t *symbols;
    pair *pairs; /* open addressing */
    int64_t pair_count, pair_slots;
    uint64_t *touched; /* pairs that came up in this round */
    int64_t touched_count, touched_capacity;
    entry *heap;
    int64_t heap_count, heap_capacity;
} trainer;

/* Doubles an array of `size` bytes an element when it is full. */
static lc_status make_room(void **data, int64_t count, int64_t *capacity, size_t size) {
    if (count < *capacity) return LC_OK;
    int64_t grown = lc_max(256, *capacity * 2);
    void *moved = lc_realloc(*data, size * (size_t)grown);
    if (!moved) return LC_ENOMEM;
    *data = moved;
    *capacity = grown;
    return LC_OK;
}

/* -- words ------------------------------------------------------------------------------------- */

static lc_status grow_word_slots(trainer *t) {
    if (t->word_count * 2 < t->word_slot_count) return LC_OK;
    int64_t count = t->word_slot_count ? t->word_slot_count * 2 : 4096;
    int32_t *slots = lc_alloc(sizeof *slots * (size_t)count);
    if (!slots) return LC_ENOMEM;
    memset(slots, 0xFF, sizeof *slots * (size_t)count);
    for (int64_t i = 0; i < t->word_count; i++) {
        const word *w = &t->words[i];
        int64_t slot = (int64_t)lc_hash64(t->text + w->offset, w->bytes, 0) & (count - 1);
        while (slots[slot] >= 0) slot = (slot + 1) & (count - 1);
        slots[slot] = (int32_t)i;
    }
    lc_free(t->word_slots);
    t->word_slots = slots;
    t->word_slot_count = count;
    return LC_OK;
}

static lc_status count_word(trainer *t, size_t offset, size_t bytes) {
    LC_TRY(grow_word_slots(t));
    int64_t mask = t->word_slot_count - 1, slot = (int64_t)lc_hash64(t->text + offset, bytes, 0) & mask;
    for (; t->word_slots[slot] >= 0; slot = (slot + 1) & mask) {
        word *w = &t->words[t->word_slots[slot]];
        if (w->bytes == bytes && memcmp(t->text + w->offset, t->text + offset, bytes) == 0) {
            w->count++;
            return LC_OK;
        }
    }
    LC_TRY(make_room((void **)&t->words, t->word_count, &t->word_capacity, sizeof *t->words));
    t->word_slots[slot] = (int32_t)t->word_count;
    t->words[t->word_count++] = (word){.offset = (uint32_t)offset, .bytes = (uint32_t)bytes, .count = 1};
    return LC_OK;
}

static lc_status count_words(trainer *t, size_t length) {
    const uint8_t *end = t->text + length;
    for (const uint8_t *p = t->text; p < end;) {
        LC_TRY(lc_poll());
        size_t n = lc_piece_gpt2(p, end);
        LC_TRY(count_word(t, (size_t)(p - t->text), n));
        p += n;
    }
    int64_t total = 0;
    for (int64_t i = 0; i < t->word_count; i++) total += t->words[i].bytes;
    t->symbols = lc_alloc(sizeof *t->symbols * (size_t)total);
    if (!t->symbols) return LC_ENOMEM;
    int64_t at = 0;
    for (int64_t i = 0; i < t->word_count; i++) {
        word *w = &t->words[i];
        w->begin = at;
        w->length = (int32_t)w->bytes;
        for (uint32_t k = 0; k < w->bytes; k++)
            t->symbols[at++] =
                (int32_t)lc_vocabulary_find(&t->tokenizer->vocabulary, (const char *)t->text + w->offset + k, 1, true);
    }
    return LC_OK;
}

/* -- pairs ------------------------------------------------------------------------------------- */

static inline uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot of `key`, or the empty one where it belongs. */
static pair *find_pair(const trainer *t, uint64_t key) {
    uint64_t mask = (uint64_t)t->pair_slots - 1, slot = key * 0x9E3779B97F4A7C15u;
    slot = (slot ^ slot >> 29) & mask;
    while (t->pairs[slot].used && t->pairs[slot].key != key) slot = (slot + 1) & mask;
    return &t->pairs[slot];
}

static lc_status grow_pairs(trainer *t) {
    if (t->pair_count * 2 < t->pair_slots) return LC_OK;
    pair *old = t->pairs;
    int64_t old_slots = t->pair_slots, slots = old_slots ? old_slots * 2 : 16384;
    pair *grown = lc_calloc((size_t)slots, sizeof *grown);
    if (!grown) return LC_ENOMEM;
    t->pairs = grown;
    t->pair_slots = slots;
    for (int64_t i = 0; i < old_slots; i++)
        if (old[i].used) *find_pair(t, old[i].key) = old[i];
    lc_free(old);
    return LC_OK;
}

/* Adds `change` to the pair's count. A pair that came up in word `where` remembers it; `where` < 0 for one that went
 * away. */
static lc_status count_pair(trainer *t, uint64_t key, int64_t change, int32_t where) {
    LC_TRY(grow_pairs(t));
    pair *p = find_pair(t, key);
    if (!p->used) {
        *p = (pair){.key = key, .used = true};
        t->pair_count++;
    }
    p->count += change;
    if (where < 0 || (p->word_count && p->words[p->word_count - 1] == where)) return LC_OK;
    if (p->word_count == 0) {
        LC_TRY(make_room((void **)&t->touched, t->touched_count, &t->touched_capacity, sizeof *t->touched));
        t->touched[t->touched_count++] = key;
    }
    if (p->word_count == p->word_capacity) {
        int32_t capacity = p->word_capacity ? p->word_capacity * 2 : 4;
        int32_t *words = lc_realloc(p->words, sizeof *words * (size_t)capacity);
        if (!words) return LC_ENOMEM;
        p->words = words;
        p->word_capacity = capacity;
    }
    p->words[p->word_count++] = where;
    return LC_OK;
}

/* -- the heap ---------------------------------------------------------------------------------- */

static inline bool before(const entry *a, const entry *b) {
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static lc_status push(trainer *t, entry e) {
    LC_TRY(make_room((void **)&t->heap, t->heap_count, &t->heap_capacity, sizeof *t->heap));
    int64_t i = t->heap_count++;
    for (; i > 0 && before(&e, &t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = e;
    return LC_OK;
}

static entry pop(trainer *t) {
    entry top = t->heap[0], last = t->heap[--t->heap_count];
    int64_t i = 0;
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= t->heap_count) break;
        if (child + 1 < t->heap_count && before(&t->heap[child + 1], &t->heap[child])) child++;
        if (!before(&t->heap[child], &last)) break;
        t->heap[i] = t->heap[child];
        i = child;
    }
    t->heap[i] = last;
    return top;
}

/* The pairs that came up in this round enter the heap, and hand over their words. */
static lc_status push_touched(trainer *t) {
    while (t->touched_count) {
        pair *p = find_pair(t, t->touched[t->touched_count - 1]);
        if (p->count > 0) {
            LC_TRY(push(t, (entry){p->count, p->key, p->words, p->word_count}));
            p->words = NULL;
            p->word_capacity = 0;
        }
        p->word_count = 0;
        t->touched_count--;
    }
    return LC_OK;
}

/* -- merging ----------------------------------------------------------------------------------- */

/* left right -> result, everywhere in word number `n`; counts the pairs that go and come. */
static lc_status merge_word(trainer *t, int32_t n, int32_t left, int32_t right, int32_t result) {
    word *w = &t->words[n];
    int32_t *s = t->symbols + w->begin, length = 0; /* s[0..length) is done */
    for (int32_t i = 0; i < w->length; i++) {
        bool here = s[i] == left && i + 1 < w->length && s[i + 1] == right;
        if (!here) {
            s[length++] = s[i];
            continue;
        }
        if (length > 0) {
            LC_TRY(count_pair(t, pair_key(s[length - 1], left), -w->count, -1));
            LC_TRY(count_pair(t, pair_key(s[length - 1], result), w->count, n));
        }
        i++;
        if (i + 1 < w->length) {
            LC_TRY(count_pair(t, pair_key(right, s[i + 1]), -w->count, -1));
            LC_TRY(count_pair(t, pair_key(result, s[i + 1]), w->count, n));
        }
        s[length++] = result;
    }
    w->length = length;
    return LC_OK;
}

/* The token of left + right: a new one, unless other merges made it before. */
static lc_status merged_token(lc_tokenizer *t, int32_t left, int32_t right, int32_t *result) {
    lc_strbuf b = {0};
    lc_vocabulary *v = &t->vocabulary;
    lc_strbuf_add(&b, lc_vocabulary_text(v, left), v->tokens[left].length);
    lc_strbuf_add(&b, lc_vocabulary_text(v, right), v->tokens[right].length);
    lc_status status = b.failed ? LC_ENOMEM : LC_OK;
    int64_t id = status ? -1 : lc_vocabulary_find(v, b.data, b.length, true);
    if (!status && id < 0) {
        id = v->size;
        status = lc_vocabulary_add(v, id, b.data, b.length, true);
    }
    lc_strbuf_free(&b);
    *result = (int32_t)id;
    return status;
}

static lc_status learn_merges(trainer *t, const lc_bpe_options *o) {
    while (t->tokenizer->vocabulary.size < o->vocab_size && t->heap_count) {
        LC_TRY(lc_poll());
        entry top = pop(t);
        int64_t count = find_pair(t, top.key)->count;
        lc_status status = LC_OK;
        if (top.count != count) { /* it became rarer since: it waits for its turn */
            top.count = count;
            status = push(t, top);
            if (status) lc_free(top.words);
            LC_TRY(status);
            continue;
        }
        bool enough = count >= 1 && count >= o->min_frequency;
        int32_t left = (int32_t)(top.key >> 32), right = (int32_t)top.key, result = 0;
        if (enough) status = merged_token(t->tokenizer, left, right, &result);
        if (enough && !status) status = lc_bpe_add_merge(t->tokenizer, left, right);
        for (int32_t i = 0; enough && !status && i < top.word_count; i++)
            status = merge_word(t, top.words[i], left, right, result);
        lc_free(top.words);
        LC_TRY(status);
        if (!enough) return LC_OK;
        LC_TRY(push_touched(t));
    }
    return LC_OK;
}

/* -- training ---------------------------------------------------------------------------------- */

static lc_status add_first_tokens(lc_tokenizer *t, const lc_bpe_options *o) {
    for (int64_t i = 0; i < o->special_count; i++) {
        size_t length = strlen(o->specials[i]);
        if (length < 2)
            return lc_fail(LC_EINVAL, "special token \"%s\" is too short; at least 2 bytes", o->specials[i]);
        LC_TRY(lc_vocabulary_add(&t->vocabulary, i, o->specials[i], length, true));
        LC_TRY(lc_tokenizer_add_special(t, o->specials[i], length, i == 0 ? &t->eos : NULL));
    }
    return lc_tokenizer_add_bytes(t, o->special_count);
}

static lc_status train(trainer *t, size_t length, const lc_bpe_options *o) {
    LC_TRY(lc_tokenizer_set_byte_level(t->tokenizer, false));
    LC_TRY(add_first_tokens(t->tokenizer, o));
    LC_TRY(count_words(t, length));
    for (int64_t n = 0; n < t->word_count; n++) {
        const word *w = &t->words[n];
        const int32_t *s = t->symbols + w->begin;
        for (int32_t i = 0; i + 1 < w->length; i++)
            LC_TRY(count_pair(t, pair_key(s[i], s[i + 1]), w->count, (int32_t)n));
    }
    LC_TRY(push_touched(t));
    LC_TRY(learn_merges(t, o));
    return lc_tokenizer_finish(t->tokenizer);
}

static void free_trainer(trainer *t) {
    for (int64_t i = 0; i < t->pair_slots; i++) lc_free(t->pairs[i].words);
    for (int64_t i = 0; i < t->heap_count; i++) lc_free(t->heap[i].words);
    lc_free(t->pairs);
    lc_free(t->heap);
    lc_free(t->touched);
    lc_free(t->symbols);
    lc_free(t->word_slots);
    lc_free(t->words);
}

lc_status lc_tokenizer_train(const char *text, size_t length, const lc_bpe_options *options, lc_tokenizer **out) {
    int64_t least = 256 + options->special_count;
    if (options->vocab_size < least)
        return lc_fail(LC_EINVAL, "tokenizer.train: vocab_size is %lld; the bytes and special tokens are %lld already",
                       (long long)options->vocab_size, (long long)least);
    if (length == 0) return lc_fail(LC_EINVAL, "tokenizer.train: the text is empty");
    if (length > UINT32_MAX)
        return lc_fail(LC_EINVAL, "tokenizer.train: %zu bytes of text; at most 4 GiB, so train on a part", length);
    char *repaired = NULL;
    LC_TRY(lc_utf8_repair(text, length, &repaired, &length));
    trainer t = {.text = (const uint8_t *)(repaired ? repaired : text)};
    lc_status status = lc_tokenizer_new(&t.tokenizer);
    if (!status) status = train(&t, length, options);
    free_trainer(&t);
    lc_free(repaired);
    if (status) {
        lc_tokenizer_release(t.tokenizer);
        return status;
    }
    *out = t.tokenizer;
    return LC_OK;
}
