/* dataset.c: see dataset.h. The loader is in loader.c. */
#include "text/dataset.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/random.h"
#include "text/token_cache.h"

#define CACHED_FROM ((size_t)64 << 10)    /* bytes of text; less is encoded faster than a file is opened */
#define LONGEST_SAMPLE (INT64_C(1) << 48) /* tokens; sizes in bytes stay far from overflow */

/* Tokens that a dataset and its splits share. */
typedef struct store {
    int64_t refs;
    lc_tokenizer *tokenizer;
    lc_tokens tokens;
    uint64_t source;        /* of the corpus */
    lc_dataset *drawn_from; /* retained; NULL: the tokens are a text's */
} store;

/* Examples are regular: window i begins at token first + i * stride, or document i is number first + i. */
struct lc_dataset {
    int64_t refs;
    store *store;
    lc_per per;
    int64_t length, stride;
    int64_t first, last; /* tokens, or documents, that belong to this dataset */
    int64_t count;
};

/* -- tokens ------------------------------------------------------------------------------------ */

static lc_status store_new(lc_tokenizer *tokenizer, store **out) {
    store *s = lc_calloc(1, sizeof *s);
    if (!s) return LC_ENOMEM;
    s->refs = 1;
    s->tokenizer = lc_tokenizer_retain(tokenizer);
    *out = s;
    return LC_OK;
}

static void store_release(store *s) {
    if (!s || --s->refs > 0) return;
    lc_tokenizer_release(s->tokenizer);
    lc_tokens_free(&s->tokens);
    lc_dataset_release(s->drawn_from);
    lc_free(s);
}

/* Each document begins as the tokenizer begins texts when examples are documents; else the whole text does, once, and
 * an end of text stands between documents. */
static lc_status encode_documents(lc_tokenizer *tokenizer, const lc_corpus *c, lc_per per, lc_tokens *t) {
    t->ends = lc_alloc(sizeof *t->ends * (size_t)c->documents);
    if (!t->ends) return LC_ENOMEM;
    int64_t eos = lc_tokenizer_eos(tokenizer);
    for (int64_t i = 0; i < c->documents; i++) {
        size_t begin = i ? c->ends[i - 1] : 0;
        if (per == LC_PER_WINDOW && i > 0 && eos >= 0) {
            LC_TRY(lc_ids_reserve(&t->ids, 1));
            t->ids.data[t->ids.count++] = (int32_t)eos;
        }
        bool bos = per == LC_PER_DOCUMENT || i == 0;
        LC_TRY(lc_tokenizer_encode(tokenizer, c->text + begin, c->ends[i] - begin, bos, &t->ids));
        t->ends[t->documents++] = t->ids.count;
    }
    return LC_OK;
}

static lc_status fill_store(store *s, const lc_corpus *c, const lc_dataset_options *o) {
    bool cached = !o->no_cache && c->length >= CACHED_FROM;
    char key[33];
    if (cached) {
        lc_token_cache_key(c, s->tokenizer, o->per == LC_PER_DOCUMENT ? "documents" : "windows", key);
        if (lc_token_cache_read(key, lc_tokenizer_size(s->tokenizer), &s->tokens)) return LC_OK;
    }
    LC_TRY(encode_documents(s->tokenizer, c, o->per, &s->tokens));
    if (cached) lc_token_cache_write(key, &s->tokens);
    return LC_OK;
}

static lc_status read_corpus(const lc_dataset_options *o, lc_corpus *out) {
    bool lines = o->per == LC_PER_DOCUMENT;
    if (o->text) return lc_corpus_from_text(o->text, o->text_length, "text", o->join, lines, out);
    if (o->file) return lc_corpus_read(o->file, o->join, lines, out);
    char *path;
    LC_TRY(lc_corpus_find(o->source, &path));
    lc_status status = lc_corpus_read(path, o->join, lines, out);
    lc_free(path);
    return status;
}

/* -- making ------------------------------------------------------------------------------------ */

/* The examples of tokens (documents) first..last. Takes over the store, also on failure. */
static lc_status make(store *s, lc_per per, int64_t length, int64_t stride, int64_t first, int64_t last,
                      lc_dataset **out) {
    int64_t span = last - first, count = per == LC_PER_DOCUMENT ? span
                                         : span < length        ? 0
                                                                : (span - length) / stride + 1;
    lc_status status = LC_OK;
    if (count == 0 && per == LC_PER_WINDOW)
        status = lc_fail(LC_EINVAL,
                         "the text has %lld tokens, fewer than one window of length = %lld; set a smaller length or "
                         "use more text",
                         (long long)span, (long long)length);
    else if (count == 0)
        status = lc_fail(LC_EINVAL, "no document is left");
    lc_dataset *d = status ? NULL : lc_alloc(sizeof *d);
    if (!d) {
        store_release(s);
        return status ? status : LC_ENOMEM;
    }
    *d = (lc_dataset){1, s, per, length, stride, first, last, count};
    *out = d;
    return LC_OK;
}

static lc_status check_options(const lc_dataset_options *o) {
    if (!o->tokenizer) return lc_fail(LC_EINVAL, "no tokenizer");
    if (!!o->source + !!o->file + !!o->text != 1)
        return lc_fail(LC_EINVAL, "give one of source, file and text, not %d of them",
                       !!o->source + !!o->file + !!o->text);
    if (o->length < 1) return lc_fail(LC_EINVAL, "length is %lld tokens; at least 1", (long long)o->length);
    if (o->stride < 0) return lc_fail(LC_EINVAL, "stride is %lld tokens; at least 1", (long long)o->stride);
    if (o->per == LC_PER_DOCUMENT && o->stride)
        return lc_fail(LC_EINVAL, "stride is between windows; with per = \"document\" each document is one example");
    if (o->per == LC_PER_DOCUMENT && o->join == LC_JOIN_ROWS)
        return lc_fail(LC_EINVAL, "join = \"rows\" makes one text of all rows; it does not go with per = \"document\"");
    return LC_OK;
}

static lc_status new_dataset(const lc_dataset_options *o, lc_dataset **out) {
    LC_TRY(check_options(o));
    lc_corpus corpus;
    LC_TRY(read_corpus(o, &corpus));
    store *s = NULL;
    lc_status status = store_new(o->tokenizer, &s);
    if (!status) status = fill_store(s, &corpus, o);
    if (!status) s->source = corpus.source;
    lc_corpus_free(&corpus);
    if (status) {
        store_release(s);
        return status;
    }
    int64_t last = o->per == LC_PER_DOCUMENT ? s->tokens.documents : s->tokens.ids.count;
    return make(s, o->per, o->length, o->stride ? o->stride : o->length, 0, last, out);
}

lc_status lc_dataset_new(const lc_dataset_options *options, lc_dataset **out) {
    lc_status status = new_dataset(options, out);
    return status && status != LC_ECANCEL ? lc_fail_within(status, "dataset") : status;
}

lc_dataset *lc_dataset_retain(lc_dataset *d) {
    d->refs++;
    return d;
}

void lc_dataset_release(lc_dataset *d) {
    if (!d || --d->refs > 0) return;
    store_release(d->store);
    lc_free(d);
}

/* -- questions --------------------------------------------------------------------------------- */

int64_t lc_dataset_count(const lc_dataset *d) {
    return d->count;
}

int64_t lc_dataset_length(const lc_dataset *d) {
    return d->length;
}

lc_per lc_dataset_per(const lc_dataset *d) {
    return d->per;
}

int64_t lc_dataset_stride(const lc_dataset *d) {
    return d->stride;
}

lc_tokenizer *lc_dataset_tokenizer(const lc_dataset *d) {
    return d->store->tokenizer;
}

static int64_t document_begin(const lc_dataset *d, int64_t number) {
    return number ? d->store->tokens.ends[number - 1] : 0;
}

const int32_t *lc_dataset_tokens(const lc_dataset *d, int64_t *count) {
    bool documents = d->per == LC_PER_DOCUMENT;
    int64_t begin = documents ? document_begin(d, d->first) : d->first;
    *count = (documents ? document_begin(d, d->last) : d->last) - begin;
    return d->store->tokens.ids.data + begin;
}

void lc_dataset_hash(const lc_dataset *d, char out[33]) {
    int64_t count;
    const int32_t *tokens = lc_dataset_tokens(d, &count);
    uint64_t ends = 0;
    if (d->per == LC_PER_DOCUMENT)
        for (int64_t i = d->first; i < d->last; i++) {
            int64_t length = document_begin(d, i + 1) - document_begin(d, i);
            ends = lc_hash64(&length, sizeof length, ends);
        }
    char all[160];
    int n = snprintf(all, sizeof all, "%d %lld %lld %lld %llx %llx", d->per, (long long)d->length, (long long)d->stride,
                     (long long)d->count, (unsigned long long)ends,
                     (unsigned long long)lc_hash64(tokens, sizeof *tokens * (size_t)count, 0));
    lc_hash_hex(all, (size_t)n, out);
}

lc_origin lc_dataset_origin(const lc_dataset *d) {
    while (d->store->drawn_from) d = d->store->drawn_from;
    int64_t count;
    const int32_t *all = d->store->tokens.ids.data, *own = lc_dataset_tokens(d, &count);
    int64_t total = d->store->tokens.ids.count;
    uint64_t text = lc_hash64(all, (size_t)total * sizeof *all, 0);
    return (lc_origin){d->store->source, text, own - all, own - all + count, total};
}

/* -- batches ----------------------------------------------------------------------------------- */

void lc_batch_release(lc_batch *b) {
    lc_tensor_release(b->ids);
    lc_tensor_release(b->labels);
    lc_tensor_release(b->attention_mask);
    lc_tensor_release(b->token_type_ids);
    *b = (lc_batch){0};
}

/* First token of example i, and in *count how many it has. */
static const int32_t *example(const lc_dataset *d, int64_t i, int64_t *count) {
    int64_t begin = d->first + i * d->stride;
    *count = d->length;
    if (d->per == LC_PER_DOCUMENT) {
        begin = document_begin(d, d->first + i);
        *count = lc_min(d->length, document_begin(d, d->first + i + 1) - begin);
    }
    return d->store->tokens.ids.data + begin;
}

/* Row `row` of each tensor, T wide. */
static void fill_row(const lc_dataset *d, int64_t i, const lc_batch *b, int64_t row, int64_t T, int64_t padding) {
    int64_t count, *ids = LC_DATA(int64_t, b->ids) + row * T, *labels = LC_DATA(int64_t, b->labels) + row * T;
    int64_t *mask = LC_DATA(int64_t, b->attention_mask) + row * T;
    const int32_t *tokens = example(d, i, &count);
    for (int64_t t = 0; t < T; t++) {
        ids[t] = t < count ? tokens[t] : padding;
        labels[t] = t < count ? tokens[t] : LC_IGNORE_LABEL;
        mask[t] = t < count;
    }
}

lc_status lc_dataset_batch(lc_dataset *d, const int64_t *indices, int64_t count, lc_batch *out) {
    int64_t shape[2] = {count, d->per == LC_PER_WINDOW ? d->length : 1};
    for (int64_t row = 0; row < count; row++) {
        int64_t tokens;
        if (indices[row] < 0 || indices[row] >= d->count)
            return lc_fail(LC_EINVAL, "dataset: no example %lld; there are %lld", (long long)indices[row],
                           (long long)d->count);
        example(d, indices[row], &tokens);
        shape[1] = lc_max(shape[1], tokens);
    }
    lc_batch b = {0};
    lc_status status = lc_tensor_new(LC_I64, 2, shape, LC_CPU, &b.ids);
    if (!status) status = lc_tensor_new(LC_I64, 2, shape, LC_CPU, &b.labels);
    if (!status) status = lc_tensor_new(LC_I64, 2, shape, LC_CPU, &b.attention_mask);
    if (status) {
        lc_batch_release(&b);
        return status;
    }
    int64_t padding = lc_max(0, lc_tokenizer_eos(d->store->tokenizer));
    for (int64_t row = 0; row < count; row++) fill_row(d, indices[row], &b, row, shape[1], padding);
    *out = b;
    return LC_OK;
}

/* -- parts ------------------------------------------------------------------------------------- */

static lc_status part(lc_dataset *d, int64_t first, int64_t last, const char *which, lc_dataset **out) {
    d->store->refs++;
    lc_status status = make(d->store, d->per, d->length, d->stride, first, last, out);
    return status ? lc_fail_within(status, "split: %s", which) : LC_OK;
}

lc_status lc_dataset_split(lc_dataset *d, double share, lc_dataset **first, lc_dataset **rest) {
    if (!(share > 0 && share < 1)) return lc_fail(LC_EINVAL, "split: the share is %g; between 0 and 1", share);
    int64_t cut = d->first + (int64_t)floor(share * (double)(d->last - d->first));
    lc_dataset *a, *b;
    LC_TRY(part(d, d->first, cut, "first part", &a));
    lc_status status = part(d, cut, d->last, "second part", &b);
    if (status) {
        lc_dataset_release(a);
        return status;
    }
    *first = a;
    *rest = b;
    return LC_OK;
}

/* Appends one document's (window's) tokens. */
static lc_status append(lc_tokens *t, const int32_t *tokens, int64_t count) {
    LC_TRY(lc_ids_reserve(&t->ids, count));
    memcpy(t->ids.data + t->ids.count, tokens, sizeof *tokens * (size_t)count);
    t->ids.count += count;
    t->ends[t->documents++] = t->ids.count;
    return LC_OK;
}

static lc_status sample_windows(const lc_dataset *d, int64_t n, lc_stream *stream, lc_tokens *t) {
    uint64_t starts = (uint64_t)(d->last - d->first - d->length + 1);
    LC_TRY(lc_ids_reserve(&t->ids, n * d->length)); /* all at once: too many are refused before memory fills up */
    for (int64_t i = 0; i < n; i++) {
        int64_t start = d->first + (int64_t)lc_stream_below(stream, starts);
        LC_TRY(append(t, d->store->tokens.ids.data + start, d->length));
    }
    return LC_OK;
}

static lc_status sample_documents(const lc_dataset *d, int64_t n, lc_stream *stream, lc_tokens *t) {
    int64_t *order = lc_alloc(sizeof *order * (size_t)d->count);
    if (!order) return LC_ENOMEM;
    lc_stream_permutation(stream, order, d->count);
    lc_status status = LC_OK;
    for (int64_t i = 0; i < n && !status; i++) {
        int64_t begin = document_begin(d, d->first + order[i]);
        int64_t end = document_begin(d, d->first + order[i] + 1);
        status = append(t, d->store->tokens.ids.data + begin, end - begin);
    }
    lc_free(order);
    return status;
}

lc_status lc_dataset_sample(lc_dataset *d, int64_t n, uint64_t seed, lc_dataset **out) {
    bool documents = d->per == LC_PER_DOCUMENT;
    if (n < 1) return lc_fail(LC_EINVAL, "sample: %lld examples were asked for; at least 1", (long long)n);
    if (n > LONGEST_SAMPLE / d->length)
        return lc_fail(LC_EINVAL, "sample: %lld examples of %lld tokens do not fit in memory", (long long)n,
                       (long long)d->length);
    if (documents && n > d->count)
        return lc_fail(LC_EINVAL, "sample: %lld documents were asked for, and there are %lld", (long long)n,
                       (long long)d->count);
    store *s;
    LC_TRY(store_new(d->store->tokenizer, &s));
    s->drawn_from = lc_dataset_retain(d);
    lc_stream stream = lc_stream_make(seed, "sample");
    s->tokens.ends = lc_alloc(sizeof *s->tokens.ends * (size_t)n);
    lc_status status = s->tokens.ends ? LC_OK : LC_ENOMEM;
    if (!status)
        status = documents ? sample_documents(d, n, &stream, &s->tokens) : sample_windows(d, n, &stream, &s->tokens);
    if (status) {
        store_release(s);
        return status;
    }
    return make(s, d->per, d->length, d->length, 0, documents ? n : n * d->length, out);
}
