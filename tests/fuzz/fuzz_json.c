/* fuzz_json.c: any bytes as JSON: what is read is written, and read again to the same value. */
#include <stdlib.h>

#include "base/memory.h"
#include "io/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void get_everything(const json_t *object) {
    const char *key, *string;
    json_t *value, *inner;
    json_object_foreach((json_t *)object, key, value) {
        int64_t integer;
        double number;
        bool boolean;
        (void)!lc_json_get_int(object, key, "fuzz", &integer);
        (void)!lc_json_get_double(object, key, "fuzz", &number);
        (void)!lc_json_get_bool(object, key, "fuzz", &boolean);
        (void)!lc_json_get_string(object, key, "fuzz", &string);
        (void)!lc_json_get_object(object, key, "fuzz", &inner);
        (void)!lc_json_get_array(object, key, "fuzz", &inner);
        (void)!lc_json_require(object, key, "fuzz");
        get_everything(value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *value = NULL, *again = NULL;
    if (lc_json_parse((const char *)data, size, "fuzz", &value)) return 0;
    get_everything(value);
    char *text = NULL;
    size_t length;
    if (lc_json_text(value, size % 2, &text, &length)) abort();
    if (lc_json_parse(text, length, "fuzz", &again) || !json_equal(value, again)) abort();
    lc_free(text);
    json_decref(value);
    json_decref(again);
    return 0;
}
