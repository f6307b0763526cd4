/* json.c: see json.h. */
#include "io/json.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"

/* jansson says little when memory runs out: this does. */
static _Thread_local bool out_of_memory;

static void *allocate(size_t bytes) {
    void *p = lc_alloc(bytes);
    if (!p) out_of_memory = true;
    return p;
}

/* When the program starts, since values made before and freed after the change would meet the wrong allocator. */
__attribute__((constructor)) static void use_engine_allocator(void) {
    json_set_alloc_funcs(allocate, lc_free);
}

/* jansson's parser recurses, and so does whoever walks the result: depth is refused before either starts. */
static lc_status check_depth(const char *text, size_t length, const char *name) {
    int depth = 0;
    bool in_string = false;
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
    }
    return LC_OK;
}

lc_status lc_json_parse(const char *text, size_t length, const char *name, json_t **out) {
    if (length > LC_JSON_MAX_BYTES)
        return lc_fail(LC_EFORMAT, "%s: %zu bytes of JSON; at most %zu are read", name, length, LC_JSON_MAX_BYTES);
    LC_TRY(check_depth(text, length, name));
    json_error_t error;
    out_of_memory = false;
    size_t flags = JSON_REJECT_DUPLICATES;
    json_t *value = json_loadb(text, length, flags, &error);
    if (!value && json_error_code(&error) == json_error_numeric_overflow)
        value = json_loadb(text, length, flags | JSON_DECODE_INT_AS_REAL, &error);
    if (out_of_memory) { /* even with a value: the parser leaves out the letters that it has no memory for */
        json_decref(value);
        return lc_fail(LC_ENOMEM, "%s: out of memory while reading JSON", name);
    }
    if (!value && !memchr(text, '\n', length)) /* one line, as a record of a .jsonl, whose name says which */
        return lc_fail(LC_EFORMAT, "%s: column %d: not JSON: %s", name, error.column, error.text);
    if (!value)
        return lc_fail(LC_EFORMAT, "%s: line %d, column %d: not JSON: %s", name, error.line, error.column, error.text);
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
