/* steps.c: see steps.h. The table `rows` has all parts that are known: a part is read into a step and applied by the two
 * functions of its row. */
#include "text/steps.h"

#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/pool.h"
#include "text/pretokenize.h"
#include "text/unicode.h"
#include "text/utf8.h"

typedef struct row {
    const char *section, *type;
    int32_t option; /* of steps of this row that read none */
    lc_status (*read)(lc_step *step, const json_t *part);
    lc_status (*apply)(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first);
} row;

struct lc_step {
    const row *row;
    lc_pattern *pattern;
    char *text, *with; /* what it looks for, what it puts there */
    int64_t option;    /* utf8proc's options; lc_cut; when; how many at the start */
    int64_t stop;      /* how many at the end */
    bool prefix;       /* ByteLevel: a blank before the text */
    bool cut;          /* ByteLevel: by GPT-2's pattern; Metaspace: before each of its signs */
    bool invert;
};

#define PIECES_PER_POLL 65536

static bool begins_with(const char *text, size_t length, const char *prefix) {
    size_t n = strlen(prefix);
    return length >= n && memcmp(text, prefix, n) == 0;
}

/* -- reading ----------------------------------------------------------------------------------- */

/* The string `key` into fresh memory. */
static lc_status read_text(const json_t *part, const char *key, const char *where, char **out) {
    const char *text = NULL;
    LC_TRY(lc_json_require(part, key, where));
    LC_TRY(lc_json_get_string(part, key, where, &text));
    *out = lc_strdup(text);
    return *out ? LC_OK : LC_ENOMEM;
}

/* "pattern": {"String": ...} or {"Regex": ...} */
static lc_status read_pattern(lc_step *step, const json_t *part) {
    json_t *pattern = NULL;
    LC_TRY(lc_json_require(part, "pattern", step->row->type));
    LC_TRY(lc_json_get_object(part, "pattern", step->row->type, &pattern));
    const char *key = json_object_get(pattern, "Regex") ? "Regex" : "String";
    LC_TRY(read_text(pattern, key, step->row->type, &step->text));
    return lc_pattern_new(step->text, strlen(step->text), *key == 'S', &step->pattern);
}

static lc_status read_nothing(lc_step *step, const json_t *part) {
    (void)part;
    step->option = step->row->option;
    return LC_OK;
}

static lc_status read_prepend(lc_step *step, const json_t *part) {
    return read_text(part, "prepend", "Prepend", &step->with);
}

static lc_status read_replace(lc_step *step, const json_t *part) {
    LC_TRY(read_pattern(step, part));
    return read_text(part, "content", "Replace", &step->with);
}

/* Which of `names` the string `key` is; `fallback` when it is missing. */
static lc_status read_choice(const lc_step *step, const json_t *part, const char *key, const char *const *names,
                             int64_t *out) {
    const char *name = NULL;
    LC_TRY(lc_json_get_string(part, key, step->row->type, &name));
    if (!name) return LC_OK;
    for (int64_t i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0) {
            *out = i;
            return LC_OK;
        }
    return lc_fail(LC_EFORMAT, "%s: %s %.60s is not supported", step->row->type, key, name);
}

static lc_status read_split(lc_step *step, const json_t *part) {
    static const char *const behaviors[] = {"Isolated",       "Removed",    "MergedWithPrevious",
                                            "MergedWithNext", "Contiguous", NULL};
    LC_TRY(read_pattern(step, part));
    LC_TRY(lc_json_get_bool(part, "invert", "Split", &step->invert));
    LC_TRY(lc_json_require(part, "behavior", "Split"));
    return read_choice(step, part, "behavior", behaviors, &step->option);
}

static lc_status read_digits(lc_step *step, const json_t *part) {
    bool individual = false;
    LC_TRY(lc_json_get_bool(part, "individual_digits", "Digits", &individual));
    step->option = individual ? LC_CUT_ISOLATED : LC_CUT_CONTIGUOUS;
    return lc_pattern_new("\\p{N}", 5, false, &step->pattern);
}

static lc_status read_byte_level(lc_step *step, const json_t *part) {
    step->cut = step->prefix = true;
    LC_TRY(lc_json_get_bool(part, "add_prefix_space", "ByteLevel", &step->prefix));
    return lc_json_get_bool(part, "use_regex", "ByteLevel", &step->cut);
}

enum { NEVER, FIRST, ALWAYS }; /* when Metaspace puts its sign before a text */

static lc_status read_metaspace(lc_step *step, const json_t *part) {
    static const char *const schemes[] = {"never", "first", "always", NULL};
    bool prefix = true;
    step->cut = true;
    LC_TRY(read_text(part, "replacement", "Metaspace", &step->with));
    LC_TRY(lc_json_get_bool(part, "split", "Metaspace", &step->cut));
    LC_TRY(lc_json_get_bool(part, "add_prefix_space", "Metaspace", &prefix)); /* older files have this one */
    step->option = prefix ? ALWAYS : NEVER;
    LC_TRY(read_choice(step, part, "prepend_scheme", schemes, &step->option));
    return *step->with ? LC_OK : lc_fail(LC_EFORMAT, "Metaspace: \"replacement\" is empty");
}

static lc_status read_strip(lc_step *step, const json_t *part) {
    LC_TRY(read_text(part, "content", "Strip", &step->text));
    LC_TRY(lc_json_get_int(part, "start", "Strip", &step->option));
    LC_TRY(lc_json_get_int(part, "stop", "Strip", &step->stop));
    return *step->text ? LC_OK : lc_fail(LC_EFORMAT, "Strip: \"content\" is empty");
}

/* -- normalizers ------------------------------------------------------------------------------- */

/* Puts one of Unicode's normalization forms of `text` into `out`. */
static lc_status add_form(const uint8_t *text, size_t length, utf8proc_option_t options, lc_strbuf *out) {
    utf8proc_ssize_t room = utf8proc_decompose(text, (utf8proc_ssize_t)length, NULL, 0, options);
    if (room < 0) return lc_fail(LC_EFORMAT, "text cannot be normalized: %s", utf8proc_errmsg(room));
    utf8proc_int32_t *codes = lc_alloc(sizeof *codes * ((size_t)room + 1));
    if (!codes) return LC_ENOMEM;
    utf8proc_ssize_t n = utf8proc_decompose(text, (utf8proc_ssize_t)length, codes, room, options);
    n = n < 0 ? n : utf8proc_reencode(codes, n, options); /* in place, with a NUL */
    if (n > 0) lc_strbuf_add(out, codes, (size_t)n);
    lc_free(codes);
    return n < 0 ? lc_fail(LC_EFORMAT, "text cannot be normalized: %s", utf8proc_errmsg(n)) : LC_OK;
}

/* End of the run of characters from p on that are not ASCII and may change. */
static const uint8_t *changing_end(const uint8_t *p, const uint8_t *end) {
    uint32_t code;
    for (int n; p < end && *p >= 0x80; p += n) {
        n = lc_utf8_next(p, end, &code);
        if (lc_is_never_normalized(code)) break;
    }
    return p;
}

/* No ASCII character changes, nor does it join what is before it: so only the runs of others are normalized, each with
 * the one ASCII character that its marks may belong to. */
static lc_status add_normalized(const uint8_t *p, size_t length, utf8proc_option_t options, lc_strbuf *out) {
    const uint8_t *end = p + length;
    while (p < end) {
        const uint8_t *from = p, *stop;
        while (from < end && *from < 0x80) from++;
        if (from == end) break;
        stop = changing_end(from, end);
        if (from > p) from--;
        lc_strbuf_add(out, p, (size_t)(from - p));
        LC_TRY(add_form(from, (size_t)(stop - from), options, out));
        uint32_t code;
        p = stop;
        if (p < end && *p >= 0x80) p += lc_utf8_next(p, end, &code);
        lc_strbuf_add(out, stop, (size_t)(p - stop));
    }
    lc_strbuf_add(out, p, (size_t)(end - p));
    return LC_OK;
}

static lc_status normalize(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)first;
    for (int64_t i = 0; i < in->count; i++) {
        size_t length;
        const char *text = lc_pieces_at(in, i, &length);
        LC_TRY(add_normalized((const uint8_t *)text, length, (utf8proc_option_t)step->option, &out->text));
        LC_TRY(lc_pieces_end(out));
    }
    return LC_OK;
}

static lc_status prepend(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)first;
    for (int64_t i = 0; i < in->count; i++) {
        size_t length;
        const char *text = lc_pieces_at(in, i, &length);
        if (length) lc_strbuf_puts(&out->text, step->with);
        LC_TRY(lc_pieces_add(out, text, length));
    }
    return LC_OK;
}

/* A file that makes a text grow without end is stopped; what is real at most triples it. */
static lc_status check_growth(size_t from, size_t to) {
    if (to / 16 <= from + 65536) return LC_OK;
    return lc_fail(LC_EINVAL, "tokenizer: its steps make a text of %zu bytes grow beyond %zu", from, to);
}

/* Of normalizers and decoders: every match becomes `with`. */
static lc_status replace(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)first;
    for (int64_t i = 0; i < in->count; i++) {
        lc_matches m = {0};
        m.text = lc_pieces_at(in, i, &m.length);
        size_t at = 0;
        bool found;
        for (;;) {
            LC_TRY(lc_pattern_next(step->pattern, &m, &found));
            if (!found) break;
            lc_strbuf_add(&out->text, m.text + at, m.begin - at);
            lc_strbuf_puts(&out->text, step->with);
            at = m.end;
            LC_TRY(check_growth(in->text.length, out->text.length));
        }
        LC_TRY(lc_pieces_add(out, m.text + at, m.length - at));
    }
    return LC_OK;
}

/* -- pre-tokenizers ---------------------------------------------------------------------------- */

static lc_status split(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)first;
    for (int64_t i = 0; i < in->count; i++) {
        size_t length;
        const char *text = lc_pieces_at(in, i, &length);
        LC_TRY(lc_pieces_cut(step->pattern, (lc_cut)step->option, step->invert, text, length, out));
    }
    return LC_OK;
}

static lc_status cut_words(const char *text, size_t length, lc_pieces *out) {
    const uint8_t *p = (const uint8_t *)text, *end = p + length;
    for (int64_t i = 1; p < end; i++) {
        size_t n = lc_piece_gpt2(p, end);
        LC_TRY(lc_pieces_add(out, (const char *)p, n));
        p += n;
        if (i % PIECES_PER_POLL == 0) LC_TRY(lc_poll());
    }
    return LC_OK;
}

/* The text stays as it is: bytes are written in the printable alphabet in files alone. */
static lc_status byte_level(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)first;
    lc_strbuf blank = {0};
    lc_status status = LC_OK;
    for (int64_t i = 0; i < in->count && !status; i++) {
        size_t length;
        const char *text = lc_pieces_at(in, i, &length);
        if (step->prefix && length && text[0] != ' ') {
            blank.length = 0;
            lc_strbuf_puts(&blank, " ");
            lc_strbuf_add(&blank, text, length++);
            if (blank.failed) status = lc_fail(LC_ENOMEM, "out of memory while cutting a text");
            text = blank.data;
        }
        if (!status) status = step->cut ? cut_words(text, length, out) : lc_pieces_add(out, text, length);
    }
    lc_strbuf_free(&blank);
    return status;
}

/* Blanks become the sign, which is put before the text too; where it cuts, each sign begins a piece. */
static lc_status metaspace(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    for (int64_t i = 0; i < in->count; i++) {
        size_t length, start = out->text.length, n = strlen(step->with);
        const char *text = lc_pieces_at(in, i, &length), *end = text + length;
        bool wanted = step->option == ALWAYS || (step->option == FIRST && first && i == 0);
        if (wanted && length && text[0] != ' ' && !begins_with(text, length, step->with))
            lc_strbuf_puts(&out->text, step->with);
        while (text < end) {
            bool blank = *text == ' ', sign = blank || begins_with(text, (size_t)(end - text), step->with);
            if (sign && step->cut && out->text.length > start) LC_TRY(lc_pieces_end(out));
            lc_strbuf_add(&out->text, sign ? step->with : text, sign ? n : 1);
            text += sign && !blank ? n : 1;
        }
        if (length) LC_TRY(lc_pieces_end(out));
    }
    return LC_OK;
}

/* -- decoders ---------------------------------------------------------------------------------- */

/* The byte that a token such as <0x0A> stands for; -1 for any other text. */
static int byte_of(const char *text, size_t length) {
    static const char digits[] = "0123456789ABCDEF0123456789abcdef";
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    const char *high = strchr(digits, text[3]), *low = strchr(digits, text[4]);
    return high && low && *high && *low ? (int)((high - digits) % 16 * 16 + (low - digits) % 16) : -1;
}

/* A run of byte tokens: its text when it is UTF-8, else one U+FFFD for each byte. */
static lc_status end_bytes(lc_strbuf *bytes, lc_pieces *out) {
    if (bytes->failed) return lc_fail(LC_ENOMEM, "out of memory while decoding");
    if (!bytes->length) return LC_OK;
    char *repaired = NULL;
    size_t length;
    LC_TRY(lc_utf8_repair(bytes->data, bytes->length, &repaired, &length));
    lc_status status = LC_OK;
    if (!repaired) status = lc_pieces_add(out, bytes->data, bytes->length);
    for (size_t i = 0; repaired && i < bytes->length && !status; i++) status = lc_pieces_add(out, "\xEF\xBF\xBD", 3);
    lc_free(repaired);
    bytes->length = 0;
    return status;
}

static lc_status byte_fallback(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)step, (void)first;
    lc_strbuf bytes = {0};
    lc_status status = LC_OK;
    for (int64_t i = 0; i < in->count && !status; i++) {
        size_t length;
        const char *text = lc_pieces_at(in, i, &length);
        int byte = byte_of(text, length);
        if (byte >= 0) {
            lc_strbuf_add(&bytes, &(char){(char)byte}, 1);
            continue;
        }
        status = end_bytes(&bytes, out);
        if (!status) status = lc_pieces_add(out, text, length);
    }
    if (!status) status = end_bytes(&bytes, out);
    lc_strbuf_free(&bytes);
    return status;
}

static lc_status fuse(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)step, (void)first;
    return lc_pieces_add(out, in->text.data ? in->text.data : "", in->text.length);
}

static lc_status strip(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)first;
    size_t n = strlen(step->text);
    for (int64_t i = 0; i < in->count; i++) {
        size_t length;
        const char *text = lc_pieces_at(in, i, &length);
        for (int64_t k = 0; k < step->option && begins_with(text, length, step->text); k++) text += n, length -= n;
        for (int64_t k = 0; k < step->stop && length >= n && begins_with(text + length - n, n, step->text); k++)
            length -= n;
        LC_TRY(lc_pieces_add(out, text, length));
    }
    return LC_OK;
}

/* The sign becomes a blank again; the first token loses it, when it may have been put there. */
static lc_status decode_metaspace(const lc_step *step, const lc_pieces *in, lc_pieces *out, bool first) {
    (void)first;
    for (int64_t i = 0; i < in->count; i++) {
        size_t length, n = strlen(step->with);
        const char *text = lc_pieces_at(in, i, &length), *end = text + length;
        while (text < end) {
            bool sign = begins_with(text, (size_t)(end - text), step->with);
            if (!sign) lc_strbuf_add(&out->text, text, 1);
            if (sign && (i > 0 || step->option == NEVER)) lc_strbuf_puts(&out->text, " ");
            text += sign ? n : 1;
        }
        LC_TRY(lc_pieces_end(out));
    }
    return LC_OK;
}

/* -- the table --------------------------------------------------------------------------------- */

#define STABLE UTF8PROC_STABLE
static const row rows[] = {
    {"normalizer", "NFC", UTF8PROC_COMPOSE | STABLE, read_nothing, normalize},
    {"normalizer", "NFD", UTF8PROC_DECOMPOSE | STABLE, read_nothing, normalize},
    {"normalizer", "NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT | STABLE, read_nothing, normalize},
    {"normalizer", "NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | STABLE, read_nothing, normalize},
    {"normalizer", "Prepend", 0, read_prepend, prepend},
    {"normalizer", "Replace", 0, read_replace, replace},
    {"pre_tokenizer", "ByteLevel", 0, read_byte_level, byte_level},
    {"pre_tokenizer", "Split", 0, read_split, split},
    {"pre_tokenizer", "Digits", 0, read_digits, split},
    {"pre_tokenizer", "Metaspace", 0, read_metaspace, metaspace},
    {"decoder", "Replace", 0, read_replace, replace},
    {"decoder", "ByteFallback", 0, read_nothing, byte_fallback},
    {"decoder", "Fuse", 0, read_nothing, fuse},
    {"decoder", "Strip", 0, read_strip, strip},
    {"decoder", "Metaspace", 0, read_metaspace, decode_metaspace},
};

/* NULL when there is none. */
static const row *find_row(const char *section, const char *type) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].section, section) == 0 && strcmp(rows[i].type, type) == 0) return &rows[i];
    return NULL;
}

/* Room for one more step of that row. */
static lc_status add_step(lc_steps *steps, const row *r, lc_step **out) {
    lc_step *items = lc_realloc(steps->items, sizeof *items * (size_t)(steps->count + 1));
    if (!items) return LC_ENOMEM;
    steps->items = items;
    items[steps->count] = (lc_step){.row = r};
    *out = &items[steps->count++];
    return LC_OK;
}

static lc_status read_one(lc_steps *steps, const char *section, const char *type, const json_t *part) {
    const row *found = find_row(section, type);
    if (found) {
        lc_step *step;
        LC_TRY(add_step(steps, found, &step));
        return found->read(step, part);
    }
    lc_strbuf known = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].section, section) == 0) lc_strbuf_printf(&known, " %s", rows[i].type);
    lc_status status =
        lc_fail(LC_EFORMAT, "%s %.60s is not supported; these are:%s", section, type, known.data ? known.data : "");
    lc_strbuf_free(&known);
    return status;
}

lc_status lc_steps_read(lc_steps *steps, const char *section, const json_t *part) {
    if (!part || json_is_null(part)) return LC_OK;
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type) return lc_fail(LC_EFORMAT, "%s is %s without \"type\"", section, lc_json_kind(part));
    if (strcmp(type, "Sequence") != 0) return read_one(steps, section, type, part);
    const char *key = *section == 'n' ? "normalizers" : *section == 'p' ? "pretokenizers" : "decoders";
    json_t *list = NULL, *each;
    LC_TRY(lc_json_require(part, key, section));
    LC_TRY(lc_json_get_array(part, key, section, &list));
    size_t i;
    json_array_foreach(list, i, each) LC_TRY(lc_steps_read(steps, section, each));
    return LC_OK;
}

lc_status lc_steps_add_byte_level(lc_steps *steps, bool add_prefix_space) {
    lc_step *step;
    LC_TRY(add_step(steps, find_row("pre_tokenizer", "ByteLevel"), &step));
    step->prefix = add_prefix_space;
    step->cut = true;
    return LC_OK;
}

void lc_steps_free(lc_steps *steps) {
    for (int64_t i = 0; i < steps->count; i++) {
        lc_pattern_free(steps->items[i].pattern);
        lc_free(steps->items[i].text);
        lc_free(steps->items[i].with);
    }
    lc_free(steps->items);
    *steps = (lc_steps){0};
}

/* -- running ----------------------------------------------------------------------------------- */

lc_status lc_steps_run(const lc_steps *steps, lc_pieces *text, lc_pieces *spare, bool first) {
    size_t length = text->text.length;
    for (int64_t i = 0; i < steps->count; i++) {
        lc_pieces_clear(spare);
        LC_TRY(steps->items[i].row->apply(&steps->items[i], text, spare, first));
        lc_pieces done = *spare;
        *spare = *text;
        *text = done;
        LC_TRY(check_growth(length, text->text.length));
    }
    return LC_OK;
}

bool lc_steps_is_gpt2(const lc_steps *steps) {
    return steps->count == 1 && steps->items[0].row->apply == byte_level && steps->items[0].cut &&
           !steps->items[0].prefix;
}

bool lc_steps_adds_prefix(const lc_steps *steps) {
    for (int64_t i = 0; i < steps->count; i++)
        if (steps->items[i].prefix) return true;
    return false;
}

void lc_steps_describe(const lc_steps *steps, lc_strbuf *out) {
    for (int64_t i = 0; i < steps->count; i++) {
        const lc_step *s = &steps->items[i];
        lc_strbuf_printf(out, "%s %s %lld %lld %d %d %d [%s] [%s]\n", s->row->section, s->row->type,
                         (long long)s->option, (long long)s->stop, s->prefix, s->cut, s->invert, s->text ? s->text : "",
                         s->with ? s->with : "");
    }
}
