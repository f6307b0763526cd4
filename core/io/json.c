/* json.c: see json.h. */
#include "io/json.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"

/* jansson's lexer drops the letters that it has no memory for, and then reads past the token's end. So the first
 * allocation that fails within a parse is served from a reserve as large as the lexer's largest request, the text ends
 * there, and what was read is thrown away. */
static _Thread_local struct reserve {
    void *memory; /* NULL outside a parse */
    size_t bytes;
    bool used; /* out of memory: the parse is to end */
} reserve;

static void *allocate(size_t bytes) {
    void *p = lc_alloc(bytes);
    if (p || !reserve.memory || reserve.used) return p;
    reserve.used = true;
    return bytes <= reserve.bytes ? reserve.memory : NULL;
}

static void release(void *p) {
    if (p != reserve.memory) lc_free(p);
}

/* When the program starts, since values made before and freed after the change would meet the wrong allocator. */
__attribute__((constructor)) static void use_engine_allocator(void) {
    json_set_alloc_funcs(allocate, release);
}

/* Between tokens. */
static bool is_gap(char c) {
    switch (c) {
    case ' ':
    case '\t':
    case '\r':
    case '\n':
    case ',':
    case ':':
    case '[':
    case ']':
    case '{':
    case '}':
        return true;
    default:
        return false;
    }
}

/* jansson's parser recurses, and so does whoever walks the result: depth is refused before either starts. Gives the
 * longest token's bytes too, or more. */
static lc_status scan(const char *text, size_t length, const char *name, size_t *longest) {
    int depth = 0;
    bool in_string = false;
    size_t token = 0; /* where it began */
    *longest = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > LC_JSON_MAX_DEPTH)
                return lc_fail(LC_EFORMAT, "%s: byte %zu: more than %d arrays and objects inside each other", name, i,
                               LC_JSON_MAX_DEPTH);
        } else if (c == ']' || c == '}') {
            depth--;
        }
        if (!in_string && is_gap(c)) token = i + 1;
        if (i + 1 - token > *longest) *longest = i + 1 - token;
    }
    return LC_OK;
}

typedef struct source {
    const char *text;
    size_t left;
} source;

/* The next byte of the text; none once memory ran out. */
static size_t next_byte(void *to, size_t room, void *context) {
    source *s = context;
    if (!room || !s->left || reserve.used) return 0;
    *(char *)to = *s->text++;
    s->left--;
    return 1;
}

static json_t *load(const char *text, size_t length, json_error_t *error) {
    size_t flags = JSON_REJECT_DUPLICATES;
    json_t *value = json_load_callback(next_byte, &(source){text, length}, flags, error);
    if (value || reserve.used || json_error_code(error) != json_error_numeric_overflow) return value;
    return json_load_callback(next_byte, &(source){text, length}, flags | JSON_DECODE_INT_AS_REAL, error);
}

/* What is wrong, in words of the document. */
static const char *problem(json_error_t *error) {
    return json_error_code(error) == json_error_null_character ? "a NUL character (\\u0000) inside a string"
                                                               : error->text;
}

lc_status lc_json_parse(const char *text, size_t length, const char *name, json_t **out) {
    if (length > LC_JSON_MAX_BYTES)
        return lc_fail(LC_EFORMAT, "%s: %zu bytes of JSON; at most %zu are read", name, length, LC_JSON_MAX_BYTES);
    size_t longest;
    LC_TRY(scan(text, length, name, &longest));
    json_error_t error;
    size_t bytes = 2 * longest + 64; /* the lexer doubles its buffer when a token fills it */
    void *memory = lc_alloc(bytes);
    if (!memory) return lc_fail(LC_ENOMEM, "%s: out of memory while reading JSON", name);
    reserve = (struct reserve){memory, bytes, false};
    json_t *value = load(text, length, &error);
    bool out_of_memory = reserve.used;
    if (out_of_memory) json_decref(value);
    reserve = (struct reserve){0};
    lc_free(memory);
    if (out_of_memory) return lc_fail(LC_ENOMEM, "%s: out of memory while reading JSON", name);
    if (!value && !memchr(text, '\n', length)) /* one line, as a record of a .jsonl, whose name says which */
        return lc_fail(LC_EFORMAT, "%s: column %d: not JSON: %s", name, error.column, problem(&error));
    if (!value)
        return lc_fail(LC_EFORMAT, "%s: line %d, column %d: not JSON: %s", name, error.line, error.column,
                       problem(&error));
    *out = value;
    return LC_OK;
}

lc_status lc_json_read(const char *path, json_t **out) {
    char *text;
    size_t length;
    LC_TRY(lc_file_read(path, LC_JSON_MAX_BYTES, &text, &length));
    lc_status status = lc_json_parse(text, length, path, out);
    lc_free(text);
    return status;
}

static int add_to_strbuf(const char *data, size_t length, void *context) {
    lc_strbuf_add(context, data, length);
    return 0;
}

lc_status lc_json_text(const json_t *value, bool pretty, char **out, size_t *length) {
    lc_strbuf b = {0};
    size_t flags = JSON_ENCODE_ANY | (pretty ? JSON_INDENT(2) : 0);
    if (json_dump_callback(value, add_to_strbuf, &b, flags)) {
        lc_strbuf_free(&b);
        return lc_fail(LC_ENOMEM, "out of memory while writing JSON");
    }
    if (pretty) lc_strbuf_puts(&b, "\n");
    return lc_strbuf_take(&b, out, length);
}

lc_status lc_json_write(const char *path, const json_t *value) {
    char *text;
    size_t length;
    LC_TRY(lc_json_text(value, true, &text, &length));
    lc_status status = lc_file_write(path, text, length);
    lc_free(text);
    return status;
}

const char *lc_json_kind(const json_t *value) {
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

static const json_t *given(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static lc_status wrong_kind(const json_t *value, const char *key, const char *where, const char *expected) {
    return lc_fail(LC_EFORMAT, "%s: \"%s\" is %s, expected %s", where, key, lc_json_kind(value), expected);
}

lc_status lc_json_get_int(const json_t *object, const char *key, const char *where, int64_t *out) {
    const json_t *value = given(object, key);
    if (!value) return LC_OK;
    double number = json_number_value(value);
    if (json_is_integer(value))
        *out = json_integer_value(value);
    else if (json_is_real(value) && number == floor(number) && fabs(number) < 0x1p53)
        *out = (int64_t)number;
    else if (json_is_real(value))
        return lc_fail(LC_EFORMAT, "%s: \"%s\" is %g, expected an integer", where, key, number);
    else
        return wrong_kind(value, key, where, "an integer");
    return LC_OK;
}

lc_status lc_json_get_double(const json_t *object, const char *key, const char *where, double *out) {
    const json_t *value = given(object, key);
    if (!value) return LC_OK;
    if (!json_is_number(value)) return wrong_kind(value, key, where, "a number");
    *out = json_number_value(value);
    return LC_OK;
}

lc_status lc_json_get_bool(const json_t *object, const char *key, const char *where, bool *out) {
    const json_t *value = given(object, key);
    if (!value) return LC_OK;
    if (!json_is_boolean(value)) return wrong_kind(value, key, where, "a boolean");
    *out = json_is_true(value);
    return LC_OK;
}

lc_status lc_json_get_string(const json_t *object, const char *key, const char *where, const char **out) {
    const json_t *value = given(object, key);
    if (!value) return LC_OK;
    if (!json_is_string(value)) return wrong_kind(value, key, where, "a string");
    *out = json_string_value(value);
    return LC_OK;
}

lc_status lc_json_get_object(const json_t *object, const char *key, const char *where, json_t **out) {
    const json_t *value = given(object, key);
    if (!value) return LC_OK;
    if (!json_is_object(value)) return wrong_kind(value, key, where, "an object");
    *out = (json_t *)value;
    return LC_OK;
}

lc_status lc_json_get_array(const json_t *object, const char *key, const char *where, json_t **out) {
    const json_t *value = given(object, key);
    if (!value) return LC_OK;
    if (!json_is_array(value)) return wrong_kind(value, key, where, "an array");
    *out = (json_t *)value;
    return LC_OK;
}

lc_status lc_json_require(const json_t *object, const char *key, const char *where) {
    if (!given(object, key)) return lc_fail(LC_EFORMAT, "%s: \"%s\" is missing", where, key);
    return LC_OK;
}
