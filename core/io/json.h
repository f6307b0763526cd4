/* json.h: JSON documents: jansson with the engine's allocator, limits, and messages that say file, line and column.
 * Depends on base.
 *
 * Values are jansson's own json_t: read them with its functions, give them back with json_decref (NULL is fine). */
#ifndef LC_JSON_H
#define LC_JSON_H

#include <jansson.h>

#include "base/status.h"

#define LC_JSON_MAX_DEPTH 128                 /* arrays and objects inside each other */
#define LC_JSON_MAX_BYTES ((size_t)256 << 20) /* of one document */

/* `name` (a path, or what the text is) begins every message. Refused: duplicate keys, NUL inside strings, invalid
 * UTF-8, text after the document. Integers beyond 64 bits turn all numbers of the document into doubles, as
 * tokenizer_config.json files hold them. */
lc_status lc_json_parse(const char *text, size_t length, const char *name, json_t **out);
lc_status lc_json_read(const char *path, json_t **out);

/* As text, keys in the order they were set, UTF-8 left as it is; `pretty` indents by two spaces and ends with a
 * newline. */
lc_status lc_json_text(const json_t *value, bool pretty, char **out, size_t *length); /* lc_free */
lc_status lc_json_write(const char *path, const json_t *value);                       /* pretty; whole or not at all */

/* Typed getters. A missing key and null leave *out as it was (its default); another type is LC_EFORMAT, "<where>:
 * "n_head" is a string, expected an integer". Strings are borrowed from `object`. Integers written as 12.0 count as
 * integers. */
lc_status lc_json_get_int(const json_t *object, const char *key, const char *where, int64_t *out);
lc_status lc_json_get_double(const json_t *object, const char *key, const char *where, double *out);
lc_status lc_json_get_bool(const json_t *object, const char *key, const char *where, bool *out);
lc_status lc_json_get_string(const json_t *object, const char *key, const char *where, const char **out);
lc_status lc_json_get_object(const json_t *object, const char *key, const char *where, json_t **out); /* borrowed */
lc_status lc_json_get_array(const json_t *object, const char *key, const char *where, json_t **out);  /* borrowed */
/* LC_EFORMAT when `key` is missing or null. */
lc_status lc_json_require(const json_t *object, const char *key, const char *where);
/* "an object", "a string", ...: for messages. */
const char *lc_json_kind(const json_t *value);

#endif
