/* test_tokenizer.c: UTF-8, the splitter, the merge loop against a plain one, training, saving, corpora, datasets, the
 * token cache. */
#define _GNU_SOURCE
#include "tensors.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/strbuf.h"
#include "text/bpe.h"
#include "text/dataset.h"
#include "text/pretokenize.h"
#include "text/utf8.h"

static char directory[64];

/* A path in the test's directory; good until 16 more were asked for. */
static const char *in_directory(const char *name) {
    static char paths[16][256];
    static int next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

/* -- text -------------------------------------------------------------------------------------- */

static bool repairs_to(const char *text, const char *wanted) {
    char *out = NULL;
    size_t length = strlen(text);
    CHECK_OK(lc_utf8_repair(text, length, &out, &length));
    bool same = strcmp(out ? out : text, wanted) == 0;
    lc_free(out);
    return same;
}

/* As Python 3's bytes.decode("utf-8", "replace"). */
static void test_repair(void) {
#define BAD "\xEF\xBF\xBD"
    CHECK(repairs_to("plain \xC3\xA9 \xF0\x9F\x99\x82", "plain \xC3\xA9 \xF0\x9F\x99\x82"));
    CHECK(repairs_to(BAD, BAD));
    CHECK(repairs_to("a\xFF"
                     "b",
                     "a" BAD "b"));
    CHECK(repairs_to("\xC0\x80", BAD BAD));                 /* overlong */
    CHECK(repairs_to("\xED\xA0\x80", BAD BAD BAD));         /* surrogate */
    CHECK(repairs_to("\xF4\x90\x80\x80", BAD BAD BAD BAD)); /* past U+10FFFF */
    CHECK(repairs_to("\xE2\x82", BAD));                     /* cut off: one maximal part */
    CHECK(repairs_to("\xF0\x9F\x99", BAD));
    CHECK(repairs_to("\xE2\x82x\xE2\x28\xA1", BAD "x" BAD "(" BAD));
}

/* Pieces of `text`, separated by '|'. */
static bool splits_into(const char *text, const char *wanted) {
    char joined[256];
    size_t at = 0;
    const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);
    while (p < end) {
        size_t n = lc_piece_gpt2(p, end);
        if (at) joined[at++] = '|';
        memcpy(joined + at, p, n);
        at += n;
        p += n;
    }
    joined[at] = '\0';
    if (strcmp(joined, wanted) != 0) fprintf(stderr, "    got %s\n", joined);
    return strcmp(joined, wanted) == 0;
}

static void test_splitter(void) {
    CHECK(splits_into("Hello, my dog's 3rd.", "Hello|,| my| dog|'s| 3|rd|."));
    CHECK(splits_into("we'll they've 'tis 'S it're'd", "we|'ll| they|'ve| '|tis| '|S| it|'re|'d"));
    CHECK(splits_into("a  b", "a| | b"));
    CHECK(splits_into("a \n b", "a| \n| b"));
    CHECK(splits_into("a\n\nb", "a|\n|\n|b"));
    CHECK(splits_into("a   ", "a|   "));
    CHECK(splits_into("a\tb", "a|\t|b"));
    CHECK(splits_into(" '", " '"));
    CHECK(splits_into("'", "'"));
    CHECK(splits_into(" ", " "));
    CHECK(
        splits_into("\xC3\xA9t\xC3\xA9 \xC2\xB2x", "\xC3\xA9t\xC3\xA9| \xC2\xB2|x")); /* superscript two is a number */
    CHECK(splits_into("a\xC2\xA0\xC2\xA0"
                      "b",
                      "a|\xC2\xA0|\xC2\xA0|b"));                  /* no-break spaces are blanks */
    CHECK(splits_into("a\xF0\x93\x91\xA0", "a\xF0\x93\x91\xA0")); /* U+13460, new in Unicode 16 */
}

static void test_alphabet(void) {
    char bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = (char)i;
    lc_strbuf written = {0}, back = {0};
    lc_alphabet_write(&written, bytes, 256);
    CHECK(lc_alphabet_read(&back, written.data, written.length));
    CHECK(back.length == 256 && memcmp(back.data, bytes, 256) == 0);
    CHECK(lc_alphabet(' ') == 0x120 && lc_alphabet('\n') == 0x10A && lc_alphabet('a') == 'a' &&
          lc_alphabet(173) == 0x143);
    CHECK(!lc_alphabet_read(&back, "a b", 3));
    CHECK(back.length == 256);
    lc_strbuf_free(&written);
    lc_strbuf_free(&back);
}

/* -- byte-level BPE ---------------------------------------------------------------------------- */

/* Sentences with repeated words, rare words, numbers and other scripts. */
static char *sample_text(size_t length) {
    static const char *const words[] = {"the",
                                        " cat",
                                        " sat",
                                        " on",
                                        " mat",
                                        "\n",
                                        " dogs",
                                        "'s",
                                        " 12",
                                        " caf\xC3\xA9",
                                        " \xE6\x97\xA5\xE6\x9C\xAC",
                                        ".",
                                        " catalogue",
                                        "  ",
                                        " unusually",
                                        " a"};
    lc_stream stream = lc_stream_make(3, "text");
    lc_strbuf b = {0};
    while (b.length < length) {
        uint64_t a = lc_stream_below(&stream, 16), c = lc_stream_below(&stream, 16);
        lc_strbuf_puts(&b, words[a < c ? a : c]);
    }
    char *text = NULL;
    CHECK_OK(lc_strbuf_take(&b, &text, NULL));
    return text;
}

static lc_tokenizer *trained(int64_t size) {
    lc_tokenizer *t = NULL;
    char *text = sample_text(20000);
    const char *specials[] = {"<|endoftext|>"};
    lc_bpe_options o = {.vocab_size = size, .min_frequency = 2, .specials = specials, .special_count = 1};
    CHECK_OK(lc_tokenizer_train(text, strlen(text), &o, &t));
    lc_free(text);
    return t;
}

/* The definition: merge the leftmost pair of lowest rank until there is none. */
static int plain_merge(const lc_tokenizer *t, int32_t *ids, int n) {
    for (;;) {
        int64_t best = t->merge_count;
        int at = -1;
        for (int i = 0; i + 1 < n; i++)
            for (int64_t r = 0; r < best; r++)
                if (t->merges[r].left == ids[i] && t->merges[r].right == ids[i + 1]) best = r, at = i;
        if (at < 0) return n;
        ids[at] = t->merges[best].result;
        memmove(ids + at + 1, ids + at + 2, sizeof *ids * (size_t)(n - at - 2));
        n--;
    }
}

static void test_merging(void) {
    lc_tokenizer *t = trained(330);
    lc_stream stream = lc_stream_make(5, "words");
    static const int lengths[] = {1, 2, 3, 7, 15, 16, 63, 64, 65, 200, 700};
    bool equal = true;
    for (int round = 0; round < 88; round++) {
        int n = lengths[round % 11];
        uint8_t word[700];
        int32_t wanted[700];
        for (int i = 0; i < n; i++) word[i] = (uint8_t) "acotdgsuenl"[lc_stream_below(&stream, 11)];
        for (int i = 0; i < n; i++) wanted[i] = t->byte_ids[word[i]];
        int count = plain_merge(t, wanted, n);
        for (int again = 0; again < 2; again++) { /* the second time from the cache */
            lc_ids ids = {0};
            CHECK_OK(lc_bpe_piece(t, word, (size_t)n, &ids));
            equal &= ids.count == count && memcmp(ids.data, wanted, sizeof *wanted * (size_t)count) == 0;
            lc_ids_free(&ids);
        }
    }
    CHECK(equal);
    lc_tokenizer_release(t);
}

/* A text without blanks takes n log n, not n^2: 2 MB here would take hours. */
static void test_long_words(void) {
    lc_tokenizer *t = trained(300);
    size_t length = 2 << 20;
    char *text = lc_alloc(length);
    lc_stream stream = lc_stream_make(6, "long");
    for (size_t i = 0; i < length; i++) text[i] = "catsondog"[lc_stream_below(&stream, 9)];
    lc_ids ids = {0};
    CHECK_OK(lc_tokenizer_encode(t, text, length, false, &ids));
    CHECK(ids.count > 1000 && ids.count < (int64_t)length);
    lc_ids_free(&ids);
    lc_free(text);
    lc_tokenizer_release(t);
}

static char *decoded(const lc_tokenizer *t, const lc_ids *ids, bool skip_special, size_t *length) {
    int64_t *wide = lc_alloc(sizeof *wide * (size_t)(ids->count + 1));
    for (int64_t i = 0; i < ids->count; i++) wide[i] = ids->data[i];
    char *text = NULL;
    CHECK_OK(lc_tokenizer_decode(t, wide, ids->count, skip_special, &text, length));
    lc_free(wide);
    return text;
}

static void test_decoding(void) {
    lc_tokenizer *t = trained(300), *bytes = NULL;
    const char *text = "the caf\xC3\xA9<|endoftext|> \xE6\x97\xA5 cat's\n";
    lc_ids ids = {0};
    size_t length;
    CHECK_OK(lc_tokenizer_encode(t, text, strlen(text), true, &ids));
    char *back = decoded(t, &ids, false, &length);
    CHECK(strcmp(back, text) == 0);
    lc_free(back);
    back = decoded(t, &ids, true, &length);
    CHECK(strcmp(back, "the caf\xC3\xA9 \xE6\x97\xA5 cat's\n") == 0);
    lc_free(back);
    ids.count = 0;
    CHECK_OK(lc_tokenizer_encode(t, "x\xE6\x97", 3, false, &ids));
    back = decoded(t, &ids, false, &length);
    CHECK(strcmp(back, "x" BAD) == 0);
    lc_free(back);
    CHECK_MESSAGE(lc_tokenizer_decode(t, (int64_t[]){5, 300}, 2, false, &back, &length), LC_EINVAL,
                  "no token has the id 300 (number 2 in the list); ids are 0 to 299");
    CHECK(lc_tokenizer_eos(t) == 0 && lc_tokenizer_bos(t) == -1);

    CHECK_OK(lc_tokenizer_bytes(&bytes));
    ids.count = 0;
    CHECK_OK(lc_tokenizer_encode(bytes, "\xFF\x00z<|endoftext|>", 16, false, &ids));
    CHECK(ids.count == 4 && ids.data[0] == 255 && ids.data[1] == 0 && ids.data[2] == 'z' && ids.data[3] == 256);
    back = decoded(bytes, &ids, false, &length);
    CHECK(length == 16 && memcmp(back, "\xFF\x00z<|endoftext|>", 16) == 0);
    lc_free(back);
    lc_ids_free(&ids);
    lc_tokenizer_release(bytes);
    lc_tokenizer_release(t);
}

static void write_text(const char *path, const char *text) {
    CHECK_OK(lc_file_write(path, text, strlen(text)));
}

static void test_saving(void) {
    lc_tokenizer *made[2] = {trained(400), NULL}, *back = NULL;
    CHECK_OK(lc_tokenizer_bytes(&made[1]));
    for (int i = 0; i < 2; i++) {
        const char *path = in_directory("saved");
        CHECK_OK(lc_tokenizer_save(made[i], path));
        CHECK_OK(lc_tokenizer_load(path, &back));
        CHECK(strcmp(lc_tokenizer_hash(back), lc_tokenizer_hash(made[i])) == 0);
        CHECK(lc_tokenizer_eos(back) == lc_tokenizer_eos(made[i]));
        lc_tokenizer_release(back);
        if (i == 0) { /* the older pair of files says the same */
            CHECK_OK(lc_remove_tree(in_directory("saved/tokenizer.json")));
            CHECK_OK(lc_tokenizer_load(path, &back));
            CHECK(strcmp(lc_tokenizer_hash(back), lc_tokenizer_hash(made[i])) == 0);
            lc_tokenizer_release(back);
        }
        CHECK_OK(lc_remove_tree(path));
        lc_tokenizer_release(made[i]);
    }
    CHECK_OK(lc_make_dirs(in_directory("saved")));
    CHECK_MESSAGE(lc_tokenizer_load(in_directory("saved"), &back), LC_ENOTFOUND,
                  "no tokenizer.json, and no vocab.json");
    write_text(in_directory("saved/vocab.json"), "{\"a\": 0, \"b\": 0}");
    write_text(in_directory("saved/merges.txt"), "#version: 0.2\na b\n");
    CHECK_MESSAGE(lc_tokenizer_load(in_directory("saved"), &back), LC_EFORMAT, "two tokens, a and b, have the id 0");
    write_text(in_directory("saved/vocab.json"), "{\"a\": 0, \"b\": 1}");
    CHECK_MESSAGE(lc_tokenizer_load(in_directory("saved"), &back), LC_EFORMAT,
                  "merges.txt: line 2: the result of a merge");
    write_text(in_directory("saved/merges.txt"), "a c\n");
    CHECK_MESSAGE(lc_tokenizer_load(in_directory("saved"), &back), LC_EFORMAT, "line 1: the merge part \"c\" is not");
    write_text(in_directory("saved/vocab.json"), "{\"a\": 9999999999}");
    CHECK_MESSAGE(lc_tokenizer_load(in_directory("saved"), &back), LC_EFORMAT, "its id is not a number from 0 to");
    write_text(in_directory("saved/vocab.json"), "{\"a\": 0}");
    write_text(in_directory("saved/merges.txt"), "");
    CHECK_MESSAGE(lc_tokenizer_load(in_directory("saved"), &back), LC_EFORMAT, "has no token for the byte 0x00");
    write_text(in_directory("saved/tokenizer.json"), "{\"model\": {\"type\": \"WordPiece\"}}");
    CHECK_MESSAGE(lc_tokenizer_load(in_directory("saved"), &back), LC_EFORMAT, "model WordPiece is not supported");
    CHECK_OK(lc_remove_tree(in_directory("saved")));
}

static void test_training(void) {
    lc_tokenizer *t = NULL;
    lc_bpe_options o = {.vocab_size = 259, .min_frequency = 1};
    /* "ab" 4 times, "abc" 2: ab, then abc; then nothing is left to merge. */
    CHECK_OK(lc_tokenizer_train("ab ab abc abc ab ab", 19, &o, &t));
    CHECK(lc_tokenizer_size(t) == 259);
    CHECK(t->merge_count == 3);
    size_t length;
    CHECK(strncmp(lc_tokenizer_token(t, 256, &length), "ab", 2) == 0 && length == 2);
    CHECK(strncmp(lc_tokenizer_token(t, 257, &length), " ab", 3) == 0 && length == 3);
    lc_tokenizer_release(t);
    o.vocab_size = 255;
    CHECK_MESSAGE(lc_tokenizer_train("ab", 2, &o, &t), LC_EINVAL,
                  "vocab_size is 255; the bytes and special tokens are 256");
    o.vocab_size = 300;
    CHECK_MESSAGE(lc_tokenizer_train("", 0, &o, &t), LC_EINVAL, "the text is empty");
}

/* -- corpora and datasets ---------------------------------------------------------------------- */

static lc_status read_text(const char *text, lc_join join, bool lines, lc_corpus *c) {
    return lc_corpus_from_text(text, strlen(text), "text", join, lines, c);
}

static void test_corpora(void) {
    lc_corpus c;
    CHECK_OK(read_text(" \n = T = \n \nab\n", LC_JOIN_ROWS, false, &c));
    CHECK(c.documents == 1 && strcmp(c.text, "\n\n = T = \n\n\n\n\nab\n") == 0);
    lc_corpus_free(&c);
    CHECK_OK(read_text("one\r\n\n  \ntwo", LC_JOIN_PLAIN, true, &c));
    CHECK(c.documents == 2 && strcmp(c.text, "onetwo") == 0 && c.ends[0] == 3 && c.ends[1] == 6);
    lc_corpus_free(&c);
    CHECK_MESSAGE(read_text("", LC_JOIN_PLAIN, false, &c), LC_EINVAL, "text: the text is empty");
    CHECK_MESSAGE(read_text(" \n\n", LC_JOIN_PLAIN, true, &c), LC_EINVAL, "the text is empty");

    const char *jsonl = in_directory("docs.jsonl"), *gz = in_directory("docs.jsonl.gz");
    write_text(jsonl, "{\"text\": \"one\", \"id\": 1}\n\n{\"text\": \"\"}\n{\"text\": \"tw\\u00f6\"}\n");
    CHECK_OK(lc_corpus_read(jsonl, LC_JOIN_PLAIN, false, &c));
    CHECK(c.documents == 2 && strcmp(c.text, "onetw\xC3\xB6") == 0);
    lc_corpus_free(&c);
    CHECK_OK(lc_corpus_read(jsonl, LC_JOIN_ROWS, false, &c));
    CHECK(c.documents == 1 && strcmp(c.text, "one\n\n\n\ntw\xC3\xB6") == 0);
    lc_corpus_free(&c);

    gzFile f = gzopen(gz, "wb");
    gzputs(f, "{\"text\": \"one\"}\n");
    gzclose(f);
    f = gzopen(gz, "ab"); /* a second member */
    gzputs(f, "{\"text\": \"two\"}\n");
    gzclose(f);
    CHECK_OK(lc_corpus_read(gz, LC_JOIN_PLAIN, false, &c));
    CHECK(c.documents == 2 && strcmp(c.text, "onetwo") == 0);
    lc_corpus_free(&c);
    struct stat st;
    CHECK(stat(gz, &st) == 0 && truncate(gz, st.st_size - 9) == 0);
    CHECK_MESSAGE(lc_corpus_read(gz, LC_JOIN_PLAIN, false, &c), LC_EFORMAT, "the gzip data ends too early");
    write_text(gz, "not gzip at all");
    CHECK_MESSAGE(lc_corpus_read(gz, LC_JOIN_PLAIN, false, &c), LC_EFORMAT, "the gzip data is damaged");
    write_text(jsonl, "{\"text\": \"one\"}\n{\"txt\": 1}\n");
    CHECK_MESSAGE(lc_corpus_read(jsonl, LC_JOIN_PLAIN, false, &c), LC_EFORMAT,
                  "docs.jsonl: line 2: \"text\" is missing");
    write_text(jsonl, "{\"text\": 5}\n");
    CHECK_MESSAGE(lc_corpus_read(jsonl, LC_JOIN_PLAIN, false, &c), LC_EFORMAT,
                  "\"text\" is a number, expected a string");

    char *path = NULL;
    setenv("LACUNA_DATA", directory, 1);
    CHECK_OK(lc_corpus_find("docs", &path));
    CHECK(path && strcmp(path, jsonl) == 0);
    lc_free(path);
    CHECK_MESSAGE(lc_corpus_find("wikitext2/test", &path), LC_ENOTFOUND,
                  "wikitext2/test.txt (or .jsonl, .txt.gz, .jsonl.gz)");
    unsetenv("LACUNA_DATA");
    CHECK_MESSAGE(lc_corpus_find("x", &path), LC_ENOTFOUND, "put it into data/x.txt");
}

static lc_dataset *dataset(const lc_dataset_options *options) {
    lc_dataset *d = NULL;
    lc_dataset_options o = *options;
    o.text_length = strlen(o.text);
    CHECK_OK(lc_dataset_new(&o, &d));
    return d;
}

static void test_windows(lc_tokenizer *bytes) {
    lc_dataset_options o = {.tokenizer = bytes, .text = "abcdefghij", .length = 4, .stride = 3};
    lc_dataset *d = dataset(&o);
    lc_batch b = {0};
    CHECK(lc_dataset_count(d) == 3);
    CHECK_OK(lc_dataset_batch(d, (int64_t[]){2, 0}, 2, &b));
    CHECK(b.ids->shape[0] == 2 && b.ids->shape[1] == 4);
    CHECK(element(b.ids, 0) == 'g' && element(b.ids, 3) == 'j' && element(b.ids, 4) == 'a');
    CHECK(element(b.labels, 7) == 'd' && element(b.attention_mask, 7) == 1);
    lc_batch_release(&b);
    CHECK_MESSAGE(lc_dataset_batch(d, (int64_t[]){3}, 1, &b), LC_EINVAL, "no example 3; there are 3");

    lc_dataset *first = NULL, *rest = NULL, *sample = NULL, *again = NULL;
    CHECK_OK(lc_dataset_split(d, 0.6, &first, &rest));
    int64_t n, m;
    const int32_t *tokens = lc_dataset_tokens(rest, &n);
    CHECK(n == 4 && tokens[0] == 'g' && lc_dataset_count(first) == 1 && lc_dataset_count(rest) == 1);
    lc_dataset_release(first);
    lc_dataset_release(rest);
    CHECK_MESSAGE(lc_dataset_split(d, 0.9, &first, &rest), LC_EINVAL,
                  "split: second part: the text has 1 tokens, fewer");
    CHECK_MESSAGE(lc_dataset_split(d, 1, &first, &rest), LC_EINVAL, "between 0 and 1");

    CHECK_OK(lc_dataset_sample(d, 50, 7, &sample));
    CHECK_OK(lc_dataset_sample(d, 50, 7, &again));
    CHECK(lc_dataset_count(sample) == 50);
    tokens = lc_dataset_tokens(sample, &n);
    bool in_order = true, everywhere = false;
    for (int64_t i = 0; i < n; i++) in_order &= i % 4 == 0 || tokens[i] == tokens[i - 1] + 1;
    for (int64_t i = 0; i < n; i += 4) everywhere |= tokens[i] == 'b';
    CHECK(in_order && everywhere);
    CHECK(memcmp(tokens, lc_dataset_tokens(again, &m), sizeof *tokens * (size_t)n) == 0);
    char one[33], two[33];
    lc_dataset_hash(sample, one);
    lc_dataset_hash(again, two);
    CHECK(strcmp(one, two) == 0);
    lc_dataset_hash(d, two);
    CHECK(strcmp(one, two) != 0);
    lc_dataset_release(sample);
    lc_dataset_release(again);
    lc_dataset_release(d);

    lc_dataset *none = NULL;
    o.length = 11;
    o.text_length = 10;
    CHECK_MESSAGE(lc_dataset_new(&o, &none), LC_EINVAL,
                  "dataset: the text has 10 tokens, fewer than one window of length = 11");
    o.text_length = 0;
    CHECK_MESSAGE(lc_dataset_new(&o, &none), LC_EINVAL, "dataset: text: the text is empty");
    o.file = "x";
    CHECK_MESSAGE(lc_dataset_new(&o, &none), LC_EINVAL, "give one of source, file and text, not 2");
}

static void test_documents(lc_tokenizer *bytes) {
    lc_dataset_options o = {.tokenizer = bytes, .text = "ab\ncdefgh\nx\n", .length = 4, .per = LC_PER_DOCUMENT};
    lc_dataset *d = dataset(&o), *sample = NULL;
    lc_batch b = {0};
    CHECK(lc_dataset_count(d) == 3);
    CHECK_OK(lc_dataset_batch(d, (int64_t[]){0, 1, 2}, 3, &b));
    CHECK(b.ids->shape[1] == 4 && element(b.ids, 7) == 'f'); /* cut */
    CHECK(element(b.ids, 2) == 256 && element(b.labels, 2) == LC_IGNORE_LABEL && element(b.attention_mask, 2) == 0);
    CHECK(element(b.ids, 1) == 'b' && element(b.labels, 1) == 'b' && element(b.attention_mask, 1) == 1);
    lc_batch_release(&b);
    CHECK_OK(lc_dataset_batch(d, (int64_t[]){0, 2}, 2, &b));
    CHECK(b.ids->shape[1] == 2); /* as long as the longest */
    lc_batch_release(&b);
    CHECK_OK(lc_dataset_sample(d, 3, 1, &sample));
    int64_t n;
    const int32_t *tokens = lc_dataset_tokens(sample, &n);
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += tokens[i];
    CHECK(n == 9 && sum == 'a' + 'b' + 'c' + 'd' + 'e' + 'f' + 'g' + 'h' + 'x'); /* each once */
    lc_dataset_release(sample);
    CHECK_MESSAGE(lc_dataset_sample(d, 4, 1, &sample), LC_EINVAL, "4 documents were asked for, and there are 3");
    lc_dataset_release(d);
}

/* First ids of `steps` batches from the loader. */
static void firsts(lc_loader *l, int steps, double *out) {
    for (int i = 0; i < steps; i++) {
        lc_batch b = {0};
        CHECK_OK(lc_loader_next(l, &b));
        out[i] = element(b.ids, 0) + 1000 * (double)b.ids->shape[0];
        lc_batch_release(&b);
    }
}

static void test_loader(lc_tokenizer *bytes) {
    lc_dataset *d = dataset(&(lc_dataset_options){.tokenizer = bytes, .text = "abcdefghijklmnopqrstuvw", .length = 2});
    lc_loader *l = NULL, *resumed = NULL;
    lc_loader_options o = {.batch = 3, .seed = 9};
    CHECK_OK(lc_loader_new(d, &o, &l));
    CHECK(lc_loader_batches(l) == 4); /* 11 windows */
    double whole[12], tail[12];
    int64_t epoch, index;
    firsts(l, 5, whole);
    CHECK(whole[3] > 2000 && whole[3] < 3000); /* the epoch's last two */
    lc_loader_position(l, &epoch, &index);
    CHECK(epoch == 1 && index == 3);
    firsts(l, 7, whole + 5);
    CHECK_OK(lc_loader_new(d, &o, &resumed));
    CHECK_OK(lc_loader_seek(resumed, epoch, index));
    firsts(resumed, 7, tail);
    CHECK(memcmp(tail, whole + 5, sizeof *tail * 7) == 0);
    CHECK(memcmp(whole, whole + 4, sizeof *tail * 4) != 0); /* another order in the next epoch */
    CHECK_MESSAGE(lc_loader_seek(l, 0, 12), LC_EINVAL, "(epoch 0, example 12) is not in a dataset of 11 examples");
    lc_loader_free(l);
    lc_loader_free(resumed);
    o.in_order = true;
    CHECK_OK(lc_loader_new(d, &o, &l));
    firsts(l, 2, whole);
    CHECK(whole[0] == 3000 + 'a' && whole[1] == 3000 + 'g');
    lc_loader_free(l);
    lc_dataset_release(d);
}

/* The one file in the cache. */
static void cache_file(char path[512]) {
    FILE *f = popen("ls $XDG_CACHE_HOME/lacuna/tokens", "r");
    char name[128] = "";
    if (!fgets(name, sizeof name, f)) name[0] = '\0';
    pclose(f);
    name[strcspn(name, "\n")] = '\0';
    snprintf(path, 512, "%s/lacuna/tokens/%s", getenv("XDG_CACHE_HOME"), name);
}

static void test_cache(void) {
    lc_tokenizer *t = trained(300);
    char *text = sample_text(100000), hashes[4][33], path[512];
    const char *file = in_directory("cached.txt");
    write_text(file, text);
    lc_free(text);
    setenv("XDG_CACHE_HOME", in_directory("cache"), 1);
    for (int round = 0; round < 4; round++) {
        lc_dataset *d = NULL;
        CHECK_OK(lc_dataset_new(&(lc_dataset_options){.tokenizer = t, .file = file, .length = 64}, &d));
        lc_dataset_hash(d, hashes[round]);
        lc_dataset_release(d);
        CHECK(strcmp(hashes[round], hashes[0]) == 0);
        cache_file(path);
        struct stat st;
        CHECK(stat(path, &st) == 0 && st.st_size > 1000);
        if (round == 1) { /* a damaged token is noticed, and the file made again */
            FILE *f = fopen(path, "r+b");
            fseek(f, 200, SEEK_SET);
            fputc(0x55, f);
            fclose(f);
        }
        if (round == 2) CHECK(truncate(path, 100) == 0);
    }
    CHECK_OK(lc_remove_tree(in_directory("cache")));
    write_text(in_directory("cache"), "a file where the cache should be");
    lc_dataset *d = NULL;
    CHECK_OK(lc_dataset_new(&(lc_dataset_options){.tokenizer = t, .file = file, .length = 64}, &d));
    lc_dataset_release(d);
    lc_tokenizer_release(t);
}

/* -- failing memory ---------------------------------------------------------------------------- */

static lc_status scenario(void) {
    lc_tokenizer *t = NULL, *back = NULL;
    lc_dataset *d = NULL;
    lc_bpe_options o = {
        .vocab_size = 270, .min_frequency = 1, .specials = (const char *[]){"<|endoftext|>"}, .special_count = 1};
    const char *text = "ab ab abc \xFF abc<|endoftext|> ab ab";
    lc_status status = lc_tokenizer_train(text, strlen(text), &o, &t);
    if (!status) status = lc_tokenizer_save(t, in_directory("oom"));
    if (!status) status = lc_tokenizer_load(in_directory("oom"), &back);
    lc_batch b = {0};
    if (!status)
        status = lc_dataset_new(
            &(lc_dataset_options){.tokenizer = back, .text = text, .text_length = strlen(text), .length = 2}, &d);
    if (!status) status = lc_dataset_batch(d, (int64_t[]){0}, 1, &b);
    lc_batch_release(&b);
    lc_dataset_release(d);
    lc_tokenizer_release(t);
    lc_tokenizer_release(back);
    return status;
}

static void test_failing_memory(void) {
    CHECK_OK(scenario());
    lc_memory_trim();
    size_t live = lc_memory_get().live;
    uint64_t before = lc_memory_count();
    CHECK_OK(scenario());
    uint64_t allocations = lc_memory_count() - before, step = allocations / 120 + 1;
    bool clean = true, said = true;
    for (uint64_t n = 1; n <= allocations; n += step) {
        lc_memory_fail_at(n);
        lc_status status = scenario();
        lc_memory_fail_at(0);
        said &= status == LC_ENOMEM || status == LC_OK; /* the fsync of a directory is done without memory */
        if (status && status != LC_ENOMEM) fprintf(stderr, "    allocation %d: %s\n", (int)n, lc_message());
        clean &= lc_memory_get().live == live;
    }
    CHECK(said);
    CHECK(clean);
}

int main(void) {
    strcpy(directory, "/tmp/lacuna-test-XXXXXX");
    if (!mkdtemp(directory)) return 1;
    test_repair();
    test_splitter();
    test_alphabet();
    test_merging();
    test_long_words();
    test_decoding();
    test_saving();
    test_training();
    test_corpora();
    lc_tokenizer *bytes = NULL;
    CHECK_OK(lc_tokenizer_bytes(&bytes));
    test_windows(bytes);
    test_documents(bytes);
    test_loader(bytes);
    lc_tokenizer_release(bytes);
    test_cache();
    test_failing_memory();
    CHECK_OK(lc_remove_tree(directory));
    return check_done();
}
