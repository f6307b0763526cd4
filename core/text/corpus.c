/* corpus.c: see corpus.h. */
#include "text/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "io/json.h"

static bool ends_with(const char *text, size_t length, const char *end) {
    size_t n = strlen(end);
    return length >= n && memcmp(text + length - n, end, n) == 0;
}

/* -- finding ----------------------------------------------------------------------------------- */

static const char *const endings[] = {".txt", ".jsonl", ".txt.gz", ".jsonl.gz"};

/* directory/source with the first ending that a file has; NULL in *path when none has. */
static lc_status find_in(const char *directory, const char *source, char **path) {
    for (int i = 0; i < 4 && !*path; i++) {
        lc_strbuf b = {0};
        char *candidate;
        lc_strbuf_printf(&b, "%s/%s%s", directory, source, endings[i]);
        LC_TRY(lc_strbuf_take(&b, &candidate, NULL));
        if (lc_file_exists(candidate) && !lc_is_dir(candidate))
            *path = candidate;
        else
            lc_free(candidate);
    }
    return LC_OK;
}

/* A name is given without its ending: "name/test.txt" would be looked for as name/test.txt.txt. */
static lc_status check_source(const char *source) {
    size_t length = strlen(source);
    for (int i = 4; i-- > 0;) {
        if (!ends_with(source, length, endings[i])) continue;
        return lc_fail(LC_EINVAL,
                       "source = \"%s\": leave the ending off, as in source = \"%.*s\"; a path is given by file",
                       source, (int)(length - strlen(endings[i])), source);
    }
    return LC_OK;
}

lc_status lc_corpus_find(const char *source, char **path) {
    LC_TRY(check_source(source));
    const char *preset = getenv("LACUNA_DATA");
    if (preset && !*preset) preset = NULL;
    char *directory = NULL, *found = NULL;
    LC_TRY(lc_path_expand(preset ? preset : "data", &directory));
    lc_status status = find_in(directory, source, &found);
    if (!status && !found)
        status =
            lc_fail(LC_ENOTFOUND, "no text for \"%s\": put it into %s/%s.txt (or .jsonl, .txt.gz, .jsonl.gz)%s", source,
                    directory, source, preset ? "" : ", or set LACUNA_DATA to the directory that holds it");
    lc_free(directory);
    if (!status) *path = found;
    return status;
}

/* -- building ---------------------------------------------------------------------------------- */

/* A corpus that grows document by document. */
typedef struct builder {
    lc_strbuf text;
    size_t *ends;
    int64_t documents, capacity;
    uint64_t source; /* as lc_corpus */
} builder;

/* What was added to the text since the last call is a document; nothing, if nothing was. */
static lc_status end_document(builder *b) {
    if (b->text.failed) return lc_fail(LC_ENOMEM, "out of memory while reading text");
    if (b->text.length == (b->documents ? b->ends[b->documents - 1] : 0)) return LC_OK;
    if (b->documents == b->capacity) {
        int64_t capacity = lc_max(16, b->capacity * 2);
        size_t *ends = lc_realloc(b->ends, sizeof *ends * (size_t)capacity);
        if (!ends) return LC_ENOMEM;
        b->ends = ends;
        b->capacity = capacity;
    }
    b->ends[b->documents++] = b->text.length;
    return LC_OK;
}

/* Hands the corpus over when `status` is good and there is text; frees the builder in any case. */
static lc_status finish(builder *b, const char *name, lc_status status, lc_corpus *out) {
    if (!status) status = end_document(b);
    if (!status && b->documents == 0) status = lc_fail(LC_EINVAL, "%s: the text is empty", name);
    if (!status) {
        lc_corpus c = {.ends = b->ends, .documents = b->documents, .source = b->source};
        status = lc_strbuf_take(&b->text, &c.text, &c.length);
        if (!status) {
            *out = c;
            return LC_OK;
        }
    }
    lc_strbuf_free(&b->text);
    lc_free(b->ends);
    return status;
}

void lc_corpus_free(lc_corpus *c) {
    lc_free(c->text);
    lc_free(c->ends);
    *c = (lc_corpus){0};
}

/* The line at p: its end without the line feed; *next is where the following one begins. */
static const char *line_end(const char *p, const char *end, const char **next) {
    const char *stop = memchr(p, '\n', (size_t)(end - p));
    *next = stop ? stop + 1 : end;
    return stop ? stop : end;
}

static bool is_blank(const char *p, const char *end) {
    while (p < end && (*p == ' ' || (*p >= '\t' && *p <= '\r'))) p++;
    return p == end;
}

/* -- .txt -------------------------------------------------------------------------------------- */

/* A row that is one space is empty; the others keep their line feed. */
static void add_rows(builder *b, const char *p, const char *end) {
    for (bool first = true; p < end; first = false) {
        const char *next, *stop = line_end(p, end, &next);
        if (!first) lc_strbuf_puts(&b->text, "\n\n");
        if (!(stop - p == 1 && *p == ' ')) lc_strbuf_add(&b->text, p, (size_t)(next - p));
        p = next;
    }
}

static lc_status add_lines(builder *b, const char *p, const char *end) {
    while (p < end) {
        LC_TRY(lc_poll());
        const char *next, *stop = line_end(p, end, &next);
        if (stop > p && stop[-1] == '\r') stop--;
        if (!is_blank(p, stop)) {
            lc_strbuf_add(&b->text, p, (size_t)(stop - p));
            LC_TRY(end_document(b));
        }
        p = next;
    }
    return LC_OK;
}

lc_status lc_corpus_from_text(const char *text, size_t length, const char *name, lc_join join, bool lines,
                              lc_corpus *out) {
    builder b = {.source = lc_hash64(text, length, 0)};
    lc_status status = LC_OK;
    if (join == LC_JOIN_ROWS)
        add_rows(&b, text, text + length);
    else if (lines)
        status = add_lines(&b, text, text + length);
    else
        lc_strbuf_add(&b.text, text, length);
    return finish(&b, name, status, out);
}

/* -- .jsonl ------------------------------------------------------------------------------------ */

/* The string "text" of one line, without checking what else the line has. `row`: one row of many, joined into one text.
 */
static lc_status add_record(builder *b, const char *line, size_t length, const char *name, bool row) {
    json_t *record;
    const char *text = NULL;
    LC_TRY(lc_json_parse(line, length, name, &record));
    lc_status status = json_is_object(record) ? lc_json_require(record, "text", name)
                                              : lc_fail(LC_EFORMAT, "%s: %s, expected an object with \"text\"", name,
                                                        lc_json_kind(record));
    if (!status) status = lc_json_get_string(record, "text", name, &text);
    if (!status) {
        lc_strbuf_puts(&b->text, text);
        if (!row) status = end_document(b);
    }
    json_decref(record);
    return status;
}

static lc_status from_records(const char *text, size_t length, const char *path, lc_join join, lc_corpus *out) {
    builder b = {.source = lc_hash64(text, length, 0)};
    lc_status status = LC_OK;
    const char *p = text, *end = text + length;
    bool rows = join == LC_JOIN_ROWS, first = true;
    for (int64_t number = 1; p < end && !status; number++) {
        const char *next, *stop = line_end(p, end, &next);
        char name[512];
        LC_GOTO(done, lc_poll());
        snprintf(name, sizeof name, "%.480s: line %lld", path, (long long)number);
        if (!is_blank(p, stop)) {
            if (rows && !first) lc_strbuf_puts(&b.text, "\n\n");
            status = add_record(&b, p, (size_t)(stop - p), name, rows);
            first = false;
        }
        p = next;
    }
done:
    return finish(&b, path, status, out);
}

/* -- .gz --------------------------------------------------------------------------------------- */

static void *zlib_alloc(void *unused, unsigned count, unsigned size) {
    (void)unused;
    return lc_calloc(count, size);
}

static void zlib_free(void *unused, void *p) {
    (void)unused;
    lc_free(p);
}

/* One after the other, as `cat a.gz b.gz` makes them; *used counts the bytes of this one. */
static lc_status inflate_member(const char *data, size_t length, const char *path, lc_strbuf *out, size_t *used) {
    z_stream z = {.zalloc = zlib_alloc, .zfree = zlib_free};
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) return lc_fail(LC_ENOMEM, "%s: out of memory", path);
    char buffer[1 << 15];
    size_t fed = 0;
    int code = Z_OK;
    lc_status cancelled = LC_OK;
    while (code == Z_OK && !(cancelled = lc_poll())) {
        if (z.avail_in == 0) {
            z.next_in = (Bytef *)(uintptr_t)(data + fed);
            z.avail_in = (uInt)lc_min((int64_t)(length - fed), 1 << 30);
            fed += z.avail_in;
        }
        z.next_out = (Bytef *)buffer;
        z.avail_out = sizeof buffer;
        code = inflate(&z, Z_NO_FLUSH);
        if (code == Z_OK || code == Z_STREAM_END) lc_strbuf_add(out, buffer, sizeof buffer - z.avail_out);
        if (out->failed) code = Z_MEM_ERROR;
    }
    *used = fed - z.avail_in;
    inflateEnd(&z);
    LC_TRY(cancelled);
    if (code == Z_STREAM_END) return LC_OK;
    if (code == Z_MEM_ERROR) return lc_fail(LC_ENOMEM, "%s: out of memory while unpacking", path);
    return lc_fail(LC_EFORMAT, "%s: %s; fetch it again", path,
                   code == Z_BUF_ERROR ? "the gzip data ends too early: it looks cut off" : "the gzip data is damaged");
}

static lc_status unpack(const char *data, size_t length, const char *path, char **out, size_t *out_length) {
    lc_strbuf b = {0};
    lc_status status = LC_OK;
    for (size_t at = 0, used = 0; (at < length || at == 0) && !status; at += used)
        status = inflate_member(data + at, length - at, path, &b, &used);
    if (status) {
        lc_strbuf_free(&b);
        return status;
    }
    return lc_strbuf_take(&b, out, out_length);
}

/* -- reading ----------------------------------------------------------------------------------- */

lc_status lc_corpus_read(const char *path, lc_join join, bool lines, lc_corpus *out) {
    char *text, *unpacked = NULL;
    size_t length, name_length = strlen(path);
    LC_TRY(lc_file_read(path, 0, &text, &length));
    lc_status status = LC_OK;
    if (ends_with(path, name_length, ".gz")) {
        name_length -= 3;
        status = unpack(text, length, path, &unpacked, &length);
        lc_free(text);
        text = unpacked;
    }
    if (!status)
        status = ends_with(path, name_length, ".jsonl") ? from_records(text, length, path, join, out)
                                                        : lc_corpus_from_text(text, length, path, join, lines, out);
    lc_free(text);
    return status;
}
