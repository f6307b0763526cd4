/* token_cache.c: see token_cache.h. A file is a header, the ids, and the documents' ends, with a hash over all of them;
 * it is written whole or not at all, and read with every number checked. */
#include "text/token_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/strbuf.h"

#define MAGIC "lacuna tokens 1\n"

typedef struct cache_header {
    char magic[16];
    int64_t count, documents;
    uint64_t hash; /* of ids, then of ends */
} cache_header;

void lc_tokens_free(lc_tokens *t) {
    lc_ids_free(&t->ids);
    lc_free(t->ends);
    *t = (lc_tokens){0};
}

static uint64_t payload_hash(const lc_tokens *t) {
    uint64_t seed = lc_hash64(t->ids.data, sizeof *t->ids.data * (size_t)t->ids.count, 0);
    return lc_hash64(t->ends, sizeof *t->ends * (size_t)t->documents, seed);
}

void lc_token_cache_key(const lc_corpus *c, const lc_tokenizer *tokenizer, const char *rule, char out[33]) {
    char text[33], ends[33], all[256];
    lc_hash_hex(c->text, c->length, text);
    lc_hash_hex(c->ends, sizeof *c->ends * (size_t)c->documents, ends);
    int n = snprintf(all, sizeof all, "%s %s %s %s", text, ends, lc_tokenizer_hash(tokenizer), rule);
    lc_hash_hex(all, (size_t)n, out);
}

/* The cache's directory, and the file of `key` in it. LC_ENOTFOUND when there is no home to put it in. */
static lc_status cache_path(const char *key, char **directory, char **path) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    lc_strbuf b = {0};
    if (cache && *cache)
        lc_strbuf_printf(&b, "%s/lacuna/tokens", cache);
    else if (home && *home)
        lc_strbuf_printf(&b, "%s/.cache/lacuna/tokens", home);
    else
        return LC_ENOTFOUND;
    LC_TRY(lc_strbuf_take(&b, directory, NULL));
    *path = lc_path_join(*directory, key);
    if (*path) return LC_OK;
    lc_free(*directory);
    return LC_ENOMEM;
}

static bool is_sound(const lc_tokens *t, int64_t vocabulary) {
    for (int64_t i = 0; i < t->ids.count; i++)
        if (t->ids.data[i] < 0 || t->ids.data[i] >= vocabulary) return false;
    for (int64_t i = 0, last = 0; i < t->documents; last = t->ends[i++])
        if (t->ends[i] < last || t->ends[i] > t->ids.count) return false;
    return t->documents > 0 && t->ends[t->documents - 1] == t->ids.count;
}

static lc_status read_payload(lc_reader *r, const cache_header *h, lc_tokens *t) {
    size_t ids = sizeof *t->ids.data * (size_t)h->count, ends = sizeof *t->ends * (size_t)h->documents;
    LC_TRY(lc_ids_reserve(&t->ids, h->count));
    t->ids.count = h->count;
    t->documents = h->documents;
    if (!(t->ends = lc_alloc(ends))) return LC_ENOMEM;
    LC_TRY(lc_reader_read(r, sizeof *h, t->ids.data, ids));
    return lc_reader_read(r, sizeof *h + ids, t->ends, ends);
}

static bool read_file(const char *path, int64_t vocabulary, lc_tokens *out) {
    lc_reader *r;
    if (lc_reader_open(path, &r)) return false;
    uint64_t size = lc_reader_size(r);
    cache_header h = {0};
    lc_tokens t = {0};
    bool ok = !lc_reader_read(r, 0, &h, sizeof h) && memcmp(h.magic, MAGIC, sizeof h.magic) == 0 && h.count > 0 &&
              h.documents > 0 && (uint64_t)h.count < size && (uint64_t)h.documents < size &&
              size == sizeof h + sizeof *t.ids.data * (uint64_t)h.count + sizeof *t.ends * (uint64_t)h.documents &&
              !read_payload(r, &h, &t) && payload_hash(&t) == h.hash && is_sound(&t, vocabulary);
    lc_reader_close(r);
    if (ok)
        *out = t;
    else
        lc_tokens_free(&t);
    return ok;
}

bool lc_token_cache_read(const char *key, int64_t vocabulary, lc_tokens *out) {
    char *directory, *path;
    if (cache_path(key, &directory, &path)) return false;
    bool ok = lc_file_exists(path) && read_file(path, vocabulary, out);
    lc_free(directory);
    lc_free(path);
    return ok;
}

static lc_status write_file(const char *path, const lc_tokens *t) {
    cache_header h = {.count = t->ids.count, .documents = t->documents, .hash = payload_hash(t)};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    lc_writer *w;
    LC_TRY(lc_writer_open(path, &w));
    lc_status status = lc_writer_write(w, &h, sizeof h);
    if (!status) status = lc_writer_write(w, t->ids.data, sizeof *t->ids.data * (size_t)t->ids.count);
    if (!status) status = lc_writer_write(w, t->ends, sizeof *t->ends * (size_t)t->documents);
    if (!status) return lc_writer_commit(w);
    lc_writer_abandon(w);
    return status;
}

void lc_token_cache_write(const char *key, const lc_tokens *tokens) {
    char *directory, *path;
    if (cache_path(key, &directory, &path)) return;
    if (!lc_make_dirs(directory)) write_file(path, tokens);
    lc_free(directory);
    lc_free(path);
}
