/* pattern.c: see pattern.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "text/unicode.h"
#include "text/utf8.h"

#define MOST_STEPS 2000000            /* of one search */
#define STACK_BYTES ((size_t)1 << 20) /* for the compiled code's backtracking */

struct lc_pattern {
    pcre2_general_context *memory;
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* -- rewriting --------------------------------------------------------------------------------- */

/* White_Space, as the inside of a class, and everything else. */
#define SPACE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NO_SPACE                                                                                                 \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}!-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* Ideographs newer than PCRE2's tables: extensions H and I, and one more. */
#define NEWER_HAN "\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"

#define MOST_GROUPS 64

typedef struct rewriter {
    const char *at, *end;
    lc_strbuf out;
    bool caseless[MOST_GROUPS]; /* of the open groups */
    int depth;
} rewriter;

static lc_status refuse(const rewriter *r, const char *from, const char *why) {
    int length = (int)lc_min(r->end - from, 12);
    return lc_fail(LC_EFORMAT, "pattern: \"%.*s\": %s", length, from, why);
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* L, N, P, S, M, Z and their parts; C and Cn are what the tables do not know, and change with them. */
static bool is_category(const char *name, size_t length) {
    static const char parts[] = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co";
    if (length == 1) return strchr("LMNPSZ", name[0]) != NULL;
    if (length != 2) return false;
    for (const char *p = parts; *p; p += p[2] ? 3 : 2)
        if (memcmp(p, name, 2) == 0) return true;
    return false;
}

static void add_newer(rewriter *r, const char *category, size_t length) {
    size_t count;
    const lc_newer_range *newer = lc_newer_ranges(&count);
    for (size_t i = 0; i < count; i++)
        if (memcmp(newer[i].category, category, length) == 0)
            lc_strbuf_printf(&r->out, "\\x{%x}-\\x{%x}", newer[i].first, newer[i].last);
}

/* \p{name}, \P{name}, \p{^name} at r->at; inside a class it joins the class. */
static lc_status property(rewriter *r, bool in_class) {
    const char *start = r->at, *name = start + 3, *close = memchr(start, '}', (size_t)(r->end - start));
    if (r->end - start < 4 || start[2] != '{' || !close) return refuse(r, start, "expected a property in braces");
    bool negated = start[1] == 'P';
    if (*name == '^') {
        negated = !negated;
        name++;
    }
    size_t length = (size_t)(close - name);
    for (size_t i = 0; i < length; i++)
        if (!is_letter(name[i]) && name[i] != '_') return refuse(r, start, "no such property is known");
    if (length == 0) return refuse(r, start, "no such property is known");
    if (negated && in_class) return refuse(r, start, "a negated property inside a class is not supported");
    if (r->caseless[r->depth]) return refuse(r, start, "a property without case is not supported");
    bool category = is_category(name, length);
    if (!category && length <= 2) return refuse(r, start, "this category is not supported");
    if (!in_class) lc_strbuf_puts(&r->out, negated ? "[^" : "[");
    lc_strbuf_printf(&r->out, category ? "\\p{%.*s}" : "\\p{sc:%.*s}", (int)length, name);
    if (category) add_newer(r, name, length);
    if (length == 3 && memcmp(name, "Han", 3) == 0) lc_strbuf_puts(&r->out, NEWER_HAN);
    if (!in_class) lc_strbuf_puts(&r->out, "]");
    r->at = close + 1;
    return LC_OK;
}

/* \x41, \x{1F600}, \u2028 at r->at. */
static lc_status code_point(rewriter *r) {
    const char *start = r->at, *digits = start + 2;
    bool braces = digits < r->end && *digits == '{';
    char *stop;
    char text[16] = "";
    size_t wanted = start[1] == 'u' ? 4 : braces ? 8 : 2;
    if (braces && start[1] == 'x') digits++;
    memcpy(text, digits, (size_t)lc_min((int64_t)wanted, r->end - digits));
    unsigned long code = strtoul(text, &stop, 16);
    size_t read = (size_t)(stop - text);
    bool closed = braces ? *stop == '}' : read == wanted;
    if (!read || !closed || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) ||
        (start[1] == 'x' && !braces && code > 127))
        return refuse(r, start, "not the number of a character");
    lc_strbuf_printf(&r->out, "\\x{%lx}", code);
    r->at = digits + read + braces;
    return LC_OK;
}

/* The escape at r->at. *single says whether it is one character, which may bound a range. */
static lc_status escape(rewriter *r, bool in_class, bool *single) {
    const char *start = r->at;
    *single = false;
    if (r->end - start < 2) return refuse(r, start, "nothing follows the backslash");
    char c = start[1];
    r->at += 2;
    switch (c) {
    case 'p':
    case 'P':
        r->at = start;
        return property(r, in_class);
    case 's':
        lc_strbuf_puts(&r->out, in_class ? SPACE : "[" SPACE "]");
        return LC_OK;
    case 'S':
        lc_strbuf_puts(&r->out, in_class ? NO_SPACE : "[" NO_SPACE "]");
        return LC_OK;
    case 'd':
        lc_strbuf_puts(&r->out, in_class ? "\\p{Nd}" : "[\\p{Nd}");
        add_newer(r, "Nd", 2);
        if (!in_class) lc_strbuf_puts(&r->out, "]");
        return LC_OK;
    case 'x':
    case 'u':
        *single = true;
        r->at = start;
        return code_point(r);
    default:
        break;
    }
    *single = true;
    if (c == 'v') c = '\013';
    if (strchr("nrtfae", c) || (c > 0 && !is_letter(c) && !is_digit(c))) {
        lc_strbuf_add(&r->out, (char[]){'\\', c}, 2);
        return LC_OK;
    }
    return refuse(r, start, "this escape is not supported");
}

/* One character of a class, or an escape. */
static lc_status class_item(rewriter *r, bool *single) {
    if (*r->at == '\\') return escape(r, true, single);
    uint32_t code;
    int n = lc_utf8_next((const uint8_t *)r->at, (const uint8_t *)r->end, &code);
    if (strchr("[]^-", *r->at)) lc_strbuf_puts(&r->out, "\\");
    lc_strbuf_add(&r->out, r->at, (size_t)n);
    r->at += n;
    *single = true;
    return LC_OK;
}

/* [...] at r->at. A class inside it is the same class; a minus that bounds no range is itself. */
static lc_status class(rewriter *r) {
    const char *start = r->at;
    int depth = 0;
    bool single = false, range = false; /* the item before was one character; a minus follows it */
    do {
        if (r->at == r->end) return refuse(r, start, "the class does not end");
        const char *next = r->at + 1;
        char following = next < r->end ? *next : '\0';
        if (*r->at == '[') {
            if (following == ':') return refuse(r, r->at, "a POSIX bracket is not supported");
            if (depth && following == '^') return refuse(r, r->at, "a negated class inside a class is not supported");
            if (!depth) lc_strbuf_puts(&r->out, following == '^' ? "[^" : "[");
            r->at += following == '^' ? 2 : 1;
            if (r->at < r->end && *r->at == ']') return refuse(r, start, "the class is empty");
            depth++;
            single = range = false;
        } else if (*r->at == ']') {
            r->at++;
            depth--;
            single = range = false;
        } else if (*r->at == '&' && following == '&') {
            return refuse(r, r->at, "classes that intersect are not supported");
        } else if (*r->at == '-' && single && !range && following && following != ']' && following != '[') {
            lc_strbuf_puts(&r->out, "-");
            r->at++;
            range = true;
        } else {
            const char *item = r->at;
            LC_TRY(class_item(r, &single));
            if (range && !single) return refuse(r, item, "no range ends here");
            if (range) single = range = false;
        }
    } while (depth);
    lc_strbuf_puts(&r->out, "]");
    return LC_OK;
}

static lc_status open_group(rewriter *r) {
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    const char *start = r->at;
    size_t length = 1;
    if (r->end - start > 1 && start[1] == '?') {
        length = 0;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            size_t n = strlen(known[i]);
            if ((size_t)(r->end - start) >= n && memcmp(start, known[i], n) == 0) length = n;
        }
        if (!length) return refuse(r, start, "this kind of group is not supported");
    }
    if (r->depth + 1 == MOST_GROUPS) return refuse(r, start, "groups are nested too deeply");
    bool outer = r->caseless[r->depth];
    r->caseless[++r->depth] = outer || (length > 2 && start[2] == 'i');
    lc_strbuf_add(&r->out, start, length);
    r->at += length;
    return LC_OK;
}

/* {n}, {n,}, {n,m}, {,m} at r->at; any other brace is itself. */
static lc_status interval(rewriter *r) {
    const char *start = r->at, *p = start + 1, *low = p;
    while (p < r->end && is_digit(*p)) p++;
    size_t low_length = (size_t)(p - low);
    bool comma = p < r->end && *p == ',';
    const char *high = comma ? ++p : p;
    while (p < r->end && is_digit(*p)) p++;
    bool counts = p < r->end && *p == '}' && (low_length || p > high);
    if (!counts) {
        lc_strbuf_puts(&r->out, "\\{");
        r->at++;
        return LC_OK;
    }
    if (p + 1 < r->end && (p[1] == '+' || (p[1] == '?' && !comma)))
        return refuse(r, start, "a sign behind the count is not supported");
    lc_strbuf_puts(&r->out, low_length ? "{" : "{0");
    lc_strbuf_add(&r->out, low, (size_t)(p + 1 - low));
    r->at = p + 1;
    return LC_OK;
}

static lc_status rewrite(rewriter *r) {
    while (r->at < r->end) {
        bool single;
        switch (*r->at) {
        case '\\':
            LC_TRY(escape(r, false, &single));
            break;
        case '[':
            LC_TRY(class(r));
            break;
        case '(':
            LC_TRY(open_group(r));
            break;
        case '{':
            LC_TRY(interval(r));
            break;
        case ')':
            if (r->depth) r->depth--;
            /* fall through */
        default:
            lc_strbuf_add(&r->out, r->at++, 1);
        }
    }
    return LC_OK;
}

static lc_status rewrite_literal(rewriter *r) {
    for (; r->at < r->end; r->at++) {
        if (strchr("\\^$.[]|()?*+{}#-", *r->at)) lc_strbuf_puts(&r->out, "\\");
        lc_strbuf_add(&r->out, r->at, 1);
    }
    return LC_OK;
}

/* -- compiling --------------------------------------------------------------------------------- */

static void *allocate(size_t size, void *unused) {
    (void)unused;
    return lc_alloc(size);
}

static void release(void *block, void *unused) {
    (void)unused;
    lc_free(block);
}

void lc_pattern_free(lc_pattern *p) {
    if (!p) return;
    pcre2_jit_stack_free(p->stack);
    pcre2_match_context_free(p->context);
    pcre2_match_data_free(p->data);
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->memory);
    lc_free(p);
}

static lc_status no_memory(void) {
    return lc_fail(LC_ENOMEM, "out of memory while compiling a pattern");
}

/* A machine without the just-in-time compiler interprets the pattern: slower, the same matches. */
static lc_status compile(lc_pattern *p, const char *text, size_t length) {
    int error = 0;
    PCRE2_SIZE where;
    if (!(p->memory = pcre2_general_context_create(allocate, release, NULL))) return no_memory();
    pcre2_compile_context *context = pcre2_compile_context_create(p->memory);
    if (!context) return no_memory();
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE;
    p->code = pcre2_compile((PCRE2_SPTR)text, length, options, &error, &where, context);
    pcre2_compile_context_free(context);
    if (!p->code && error == PCRE2_ERROR_HEAP_FAILED) return no_memory();
    if (!p->code) {
        char message[128];
        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
        return lc_fail(LC_EFORMAT, "pattern: %s", message);
    }
    p->data = pcre2_match_data_create(1, p->memory);
    p->context = pcre2_match_context_create(p->memory);
    if (!p->data || !p->context) return no_memory();
    pcre2_set_match_limit(p->context, MOST_STEPS);
    int compiled = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    if (compiled == PCRE2_ERROR_NOMEMORY) return no_memory();
    if (compiled) return LC_OK;
    if (!(p->stack = pcre2_jit_stack_create(32 * 1024, STACK_BYTES, p->memory))) return no_memory();
    pcre2_jit_stack_assign(p->context, NULL, p->stack);
    return LC_OK;
}

lc_status lc_pattern_new(const char *text, size_t length, bool literal, lc_pattern **out) {
    rewriter r = {.at = text, .end = text + length};
    lc_status status = literal ? rewrite_literal(&r) : rewrite(&r);
    if (!status && r.out.failed) status = no_memory();
    lc_pattern *p = status ? NULL : lc_calloc(1, sizeof *p);
    if (!status) status = p ? compile(p, r.out.data ? r.out.data : "", r.out.length) : LC_ENOMEM;
    lc_strbuf_free(&r.out);
    if (status) {
        lc_pattern_free(p);
        return status;
    }
    *out = p;
    return LC_OK;
}

/* -- matching ---------------------------------------------------------------------------------- */

static size_t character_length(const lc_matches *m, size_t at) {
    uint32_t code;
    return (size_t)lc_utf8_next((const uint8_t *)m->text + at, (const uint8_t *)m->text + m->length, &code);
}

lc_status lc_pattern_next(lc_pattern *p, lc_matches *m, bool *found) {
    *found = false;
    while (m->from <= m->length) {
        int n = pcre2_match(p->code, (PCRE2_SPTR)m->text, m->length, m->from, PCRE2_NO_UTF_CHECK, p->data, p->context);
        if (n == PCRE2_ERROR_NOMATCH) return LC_OK;
        if (n == PCRE2_ERROR_NOMEMORY) return lc_fail(LC_ENOMEM, "out of memory while searching a text");
        if (n < 0) {
            char message[128];
            pcre2_get_error_message(n, (PCRE2_UCHAR *)message, sizeof message);
            return lc_fail(LC_EINVAL, "tokenizer: its pattern gave up on this text: %s", message);
        }
        const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(p->data);
        bool empty = bounds[0] == bounds[1], again = empty && m->any && bounds[0] == m->end;
        m->from = bounds[1];
        if (empty) m->from += bounds[1] < m->length ? character_length(m, bounds[1]) : 1;
        if (again) continue;
        m->begin = bounds[0];
        m->end = bounds[1];
        m->any = *found = true;
        return LC_OK;
    }
    return LC_OK;
}
