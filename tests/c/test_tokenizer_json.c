/* test_tokenizer_json.c: patterns, cutting, added tokens, normalization, and failing memory in what a tokenizer.json
 * brings. The answers of the `tokenizers` package are compared in tests/spec/tokenizer_json_spec.lua. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/bpe.h"

/* Matches of `pattern` in `text`, each followed by '|'. */
static bool finds(const char *pattern, const char *text, const char *wanted) {
    lc_pattern *p = NULL;
    lc_strbuf joined = {0};
    lc_matches m = {.text = text, .length = strlen(text)};
    bool found = true, same = false;
    CHECK_OK(lc_pattern_new(pattern, strlen(pattern), false, &p));
    if (!p) return false;
    while (found) {
        CHECK_OK(lc_pattern_next(p, &m, &found));
        if (found) lc_strbuf_add(&joined, text + m.begin, m.end - m.begin);
        if (found) lc_strbuf_puts(&joined, "|");
    }
    same = strcmp(joined.data ? joined.data : "", wanted) == 0;
    if (!same) fprintf(stderr, "    got %s\n", joined.data ? joined.data : "nothing");
    lc_strbuf_free(&joined);
    lc_pattern_free(p);
    return same;
}

/* Where PCRE2 and Oniguruma read a pattern differently, it is Oniguruma's way. */
static void test_patterns(void) {
    CHECK(finds("\\s+", "a \xE1\xA0\x8E b", " | |")); /* U+180E is no white space */
    CHECK(finds("\\S", "a \xE1\xA0\x8E", "a|\xE1\xA0\x8E|"));
    CHECK(finds("\\p{L}+", "x\xF0\x93\x91\xA0y 1", "x\xF0\x93\x91\xA0y|")); /* U+13460 is newer than PCRE2's tables */
    CHECK(finds("\\P{L}+", "x\xF0\x93\x91\xA0 1", " 1|"));
    CHECK(finds("\\p{^L}", "x1", "1|"));
    CHECK(finds("[^\\s\\p{L}\\p{N}]+", "a.\xF0\x93\x91\xA0!", ".|!|"));
    CHECK(finds("\\p{Han}", "\xE6\x97\xA5\xE3\x80\x81\xF0\xAE\xAF\xB0", "\xE6\x97\xA5|\xF0\xAE\xAF\xB0|"));
    CHECK(finds("[ab[cd-f]]+", "abcdefg", "abcdef|")); /* a class inside a class */
    CHECK(finds("[\\s-x]", "a- x", "-| |x|"));         /* a minus behind \s is a minus */
    CHECK(finds("[a-c\\-]", "b-", "b|-|"));
    CHECK(finds("a{,2}b", "aaab", "aab|")); /* at most two */
    CHECK(finds("a{x", "a{x", "a{x|"));
    CHECK(finds("\\v", "\x0B\n", "\x0B|")); /* the vertical tab alone */
    CHECK(finds("^b", "a\nb", "b|"));       /* at each line */
    CHECK(finds(".+", "a\r\nb", "a\r|b|")); /* only \n ends a line */
    CHECK(finds("\\x41\\u0042\\x{43}", "ABC", "ABC|"));
    CHECK(finds("(?i:'s)", "'s 'S '\xC5\xBF", "'s|'S|'\xC5\xBF|")); /* U+017F is an s too */
    CHECK(finds("(a)(?:b)(?=c)(?!d)(?<=b)(?<!c)c", "abc", "abc|"));
    CHECK(finds("x*", "axb", "|x||")); /* none right behind a match */
}

static void test_hard_searches(void) {
    lc_pattern *p = NULL;
    bool found;
    char text[65];
    memset(text, 'a', 64);
    text[64] = '\0';
    CHECK_OK(lc_pattern_new("(a+)+[bc]", 9, false, &p));
    lc_matches m = {.text = text, .length = 64};
    CHECK_MESSAGE(lc_pattern_next(p, &m, &found), LC_EINVAL, "its pattern gave up on this text: match limit exceeded");
    lc_pattern_free(p);
    CHECK_OK(lc_pattern_new("a.(", 3, true, &p)); /* a literal */
    m = (lc_matches){.text = "axa.(", .length = 5};
    CHECK_OK(lc_pattern_next(p, &m, &found));
    CHECK(found && m.begin == 2 && m.end == 5);
    lc_pattern_free(p);
}

static bool cuts(lc_cut cut, bool invert, const char *wanted) {
    static const char text[] = "1a22b";
    lc_pattern *p = NULL;
    lc_pieces pieces = {0};
    lc_strbuf joined = {0};
    CHECK_OK(lc_pattern_new("\\d", 2, false, &p));
    CHECK_OK(lc_pieces_cut(p, cut, invert, text, sizeof text - 1, &pieces));
    for (int64_t i = 0; i < pieces.count; i++) {
        size_t length;
        const char *piece = lc_pieces_at(&pieces, i, &length);
        lc_strbuf_printf(&joined, "%.*s|", (int)length, piece);
    }
    bool same = strcmp(joined.data, wanted) == 0;
    if (!same) fprintf(stderr, "    got %s\n", joined.data);
    lc_strbuf_free(&joined);
    lc_pieces_free(&pieces);
    lc_pattern_free(p);
    return same;
}

static void test_cuts(void) {
    CHECK(cuts(LC_CUT_ISOLATED, false, "1|a|2|2|b|"));
    CHECK(cuts(LC_CUT_REMOVED, false, "a|b|"));
    CHECK(cuts(LC_CUT_REMOVED, true, "1|2|2|"));
    CHECK(cuts(LC_CUT_WITH_PREVIOUS, false, "1|a2|2|b|"));
    CHECK(cuts(LC_CUT_WITH_NEXT, false, "1a|2|2b|"));
    CHECK(cuts(LC_CUT_CONTIGUOUS, false, "1|a|22|b|"));
}

/* -- failing memory ---------------------------------------------------------------------------- */

static lc_status encode_and_decode(lc_tokenizer *t) {
    static const char text[] = "it's 12 <mask> the\xCC\x81 of\xE6\x97\xA5   that\xFF x";
    lc_ids ids = {0};
    int64_t wide[128];
    char *back = NULL;
    size_t length;
    lc_status status = lc_tokenizer_encode(t, text, sizeof text - 1, true, &ids);
    for (int64_t i = 0; i < ids.count; i++) wide[i] = ids.data[i];
    if (!status) status = lc_tokenizer_decode(t, wide, ids.count, false, &back, &length);
    lc_free(back);
    lc_ids_free(&ids);
    return status;
}

static lc_status scenario(const char *path) {
    lc_tokenizer *t = NULL;
    lc_status status = lc_tokenizer_load(path, &t);
    if (!status) status = encode_and_decode(t);
    lc_tokenizer_release(t);
    return status;
}

/* Every allocation of the encoding, and a sample of the loading's, fails once. */
static void test_failing_memory(const char *path) {
    CHECK_OK(scenario(path));
    lc_memory_trim();
    size_t live = lc_memory_get().live;
    uint64_t before = lc_memory_count();
    CHECK_OK(scenario(path));
    uint64_t allocations = lc_memory_count() - before, step = allocations / 150 + 1;
    bool clean = true, said = true;
    for (uint64_t n = 1; n <= allocations; n += n + 120 > allocations ? 1 : step) {
        lc_memory_fail_at(n);
        lc_status status = scenario(path);
        lc_memory_fail_at(0);
        said &= status == LC_ENOMEM;
        if (status != LC_ENOMEM) fprintf(stderr, "    allocation %d: %s\n", (int)n, lc_message());
        clean &= lc_memory_get().live == live;
    }
    CHECK(said);
    CHECK(clean);
}

int main(void) {
    test_patterns();
    test_hard_searches();
    test_cuts();
    test_failing_memory("tests/golden/tokenizer_json/added/tokenizer.json");
    test_failing_memory("tests/golden/tokenizer_json/llama2_added/tokenizer.json");
    return check_done();
}
