/* test_gguf.c: GGUF headers: metadata of every kind, and one message for each kind of damage. */
#define _GNU_SOURCE
#include "bytes.h"

#include <stdlib.h>

#include "base/memory.h"
#include "io/gguf.h"

static char directory[64], path[96];

static void put_string(bytes *b, const char *text) {
    put_uint(b, strlen(text), 8);
    put(b, text, strlen(text));
}

static void put_key(bytes *b, const char *key, lc_gguf_kind kind) {
    put_string(b, key);
    put_uint(b, (uint64_t)kind, 4);
}

static void begin(bytes *b, uint32_t version, uint64_t tensors, uint64_t values) {
    b->length = 0;
    put(b, "GGUF", 4);
    put_uint(b, version, 4);
    put_uint(b, tensors, 8);
    put_uint(b, values, 8);
}

static void put_tensor(bytes *b, const char *name, uint32_t type, uint64_t columns, uint64_t rows, uint64_t offset) {
    put_string(b, name);
    put_uint(b, 2, 4);
    put_uint(b, columns, 8);
    put_uint(b, rows, 8);
    put_uint(b, type, 4);
    put_uint(b, offset, 8);
}

static void align(bytes *b) {
    put_zeros(b, (32 - b->length % 32) % 32);
}

static lc_status open_and_close(const bytes *b, size_t length) {
    lc_gguf *g = NULL;
    write_bytes(b, length, path);
    lc_status status = lc_gguf_open(path, &g);
    lc_gguf_close(g);
    return status;
}

#define REFUSED(b, message) CHECK_MESSAGE(open_and_close((b), (b)->length), LC_EFORMAT, message)

/* Two tensors and metadata of every kind. */
static void make_whole(bytes *b) {
    double d = -0.25;
    float f = 1.5F;
    begin(b, 3, 2, 15);
    put_key(b, "u8", LC_GGUF_U8), put_uint(b, 200, 1);
    put_key(b, "i8", LC_GGUF_I8), put_uint(b, (uint64_t)-3, 1);
    put_key(b, "u16", LC_GGUF_U16), put_uint(b, 60000, 2);
    put_key(b, "i16", LC_GGUF_I16), put_uint(b, (uint64_t)-300, 2);
    put_key(b, "u32", LC_GGUF_U32), put_uint(b, 4000000000, 4);
    put_key(b, "i32", LC_GGUF_I32), put_uint(b, (uint64_t)-70000, 4);
    put_key(b, "u64", LC_GGUF_U64), put_uint(b, UINT64_MAX, 8);
    put_key(b, "i64", LC_GGUF_I64), put_uint(b, (uint64_t)INT64_MIN, 8);
    put_key(b, "f32", LC_GGUF_F32), put(b, &f, 4);
    put_key(b, "f64", LC_GGUF_F64), put(b, &d, 8);
    put_key(b, "yes", LC_GGUF_BOOL), put_uint(b, 1, 1);
    put_key(b, "name", LC_GGUF_STRING), put_string(b, "tiny");
    put_key(b, "zero", LC_GGUF_STRING), put_uint(b, 3, 8), put(b, "a\0b", 3);
    put_key(b, "words", LC_GGUF_ARRAY), put_uint(b, LC_GGUF_STRING, 4), put_uint(b, 3, 8);
    put_string(b, "one"), put_string(b, ""), put_string(b, "three");
    put_key(b, "sizes", LC_GGUF_ARRAY), put_uint(b, LC_GGUF_I32, 4), put_uint(b, 2, 8);
    put_uint(b, 7, 4), put_uint(b, (uint64_t)-8, 4);
    put_tensor(b, "late", 8, 64, 1, 64); /* Q8_0: 68 bytes */
    put_tensor(b, "early", 0, 3, 2, 0);
    align(b);
    put_zeros(b, 64 + 68);
}

static void test_metadata(void) {
    static bytes b;
    lc_gguf *g = NULL;
    make_whole(&b);
    write_bytes(&b, b.length, path);
    CHECK_OK(lc_gguf_open(path, &g));
    if (!g) return;
    CHECK(lc_gguf_value_count(g) == 15);
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"u8", 200},         {"i8", -3},      {"u16", 60000},     {"i16", -300},
                {"u32", 4000000000}, {"i32", -70000}, {"i64", INT64_MIN}, {"missing", 12}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t value = 12;
        CHECK_OK(lc_gguf_get_int(g, ints[i].key, &value));
        CHECK(value == ints[i].value);
    }
    int64_t n = 5;
    double d = 0;
    bool yes = false;
    const char *text = NULL;
    const lc_gguf_value *array = NULL;
    CHECK_MESSAGE(lc_gguf_get_int(g, "u64", &n), LC_EFORMAT, "metadata u64 is an integer, expected an integer below");
    CHECK_MESSAGE(lc_gguf_get_int(g, "f32", &n), LC_EFORMAT, "metadata f32 is a float, expected an integer");
    CHECK(n == 5);
    CHECK_OK(lc_gguf_get_double(g, "f32", &d));
    CHECK(d == 1.5);
    CHECK_OK(lc_gguf_get_double(g, "f64", &d));
    CHECK(d == -0.25);
    CHECK_OK(lc_gguf_get_double(g, "i8", &d));
    CHECK(d == -3);
    CHECK_MESSAGE(lc_gguf_get_double(g, "name", &d), LC_EFORMAT, "metadata name is a string, expected a number");
    CHECK_OK(lc_gguf_get_bool(g, "yes", &yes));
    CHECK(yes);
    CHECK_MESSAGE(lc_gguf_get_bool(g, "u8", &yes), LC_EFORMAT, "metadata u8 is an integer, expected a boolean");
    CHECK_OK(lc_gguf_get_string(g, "name", &text));
    CHECK(text && !strcmp(text, "tiny"));
    CHECK_MESSAGE(lc_gguf_get_string(g, "zero", &text), LC_EFORMAT, "metadata zero has a zero byte");
    CHECK_MESSAGE(lc_gguf_get_string(g, "words", &text), LC_EFORMAT, "words is an array of strings, expected a string");
    CHECK_OK(lc_gguf_get_array(g, "words", LC_GGUF_STRING, &array));
    CHECK(array && array->count == 3);
    const lc_gguf_string *words = array ? array->data : NULL;
    CHECK(words && !strcmp(words[0].text, "one") && words[1].length == 0 && !strcmp(words[2].text, "three"));
    CHECK_OK(lc_gguf_get_array(g, "sizes", LC_GGUF_I32, &array));
    CHECK(array->count == 2 && ((const int32_t *)array->data)[1] == -8);
    CHECK_MESSAGE(lc_gguf_get_array(g, "sizes", LC_GGUF_F32, &array), LC_EFORMAT,
                  "metadata sizes is an array of integers, expected an array of floats");
    CHECK_OK(lc_gguf_require(g, "zero"));
    CHECK_MESSAGE(lc_gguf_require(g, "nothing"), LC_EFORMAT, "metadata nothing is missing");

    CHECK(lc_gguf_tensor_count(g) == 2);
    const lc_gguf_tensor *early = lc_gguf_tensor_at(g, 0), *late = lc_gguf_tensor_at(g, 1);
    CHECK(!strcmp(early->name, "early") && early->ndim == 2 && early->shape[0] == 2 && early->shape[1] == 3);
    CHECK(early->end - early->begin == 24 && late->begin - early->begin == 64 && late->end == b.length);
    CHECK(!strcmp(late->block->name, "Q8_0"));
    lc_gguf_close(g);
}

/* A file of one value, `put` by the caller after the key. */
#define ONE_VALUE(key, kind) (begin(&b, 3, 0, 1), put_key(&b, key, kind))
/* A file of one tensor with `data` bytes behind it. */
static void one_tensor(bytes *b, uint32_t type, uint64_t columns, uint64_t rows, uint64_t offset, size_t data) {
    begin(b, 2, 1, 0);
    put_tensor(b, "t", type, columns, rows, offset);
    align(b);
    put_zeros(b, data);
}

static void test_damage(void) {
    static bytes b;
    begin(&b, 3, 0, 0);
    CHECK_OK(open_and_close(&b, b.length));
    CHECK_MESSAGE(open_and_close(&b, 3), LC_EFORMAT, "the magic number at byte 0 runs past the end of the file (3)");
    CHECK_MESSAGE(open_and_close(&b, 15), LC_EFORMAT, "tensors at byte 12 runs past the end of the file (15)");
    b.data[0] = 'g';
    REFUSED(&b, "not a GGUF file");
    begin(&b, 1, 0, 0);
    REFUSED(&b, "GGUF version 1; lacuna reads versions 2 and 3");
    begin(&b, 4, 0, 0);
    REFUSED(&b, "GGUF version 4; lacuna reads versions 2 and 3");
    begin(&b, 3 << 24, 0, 0);
    REFUSED(&b, "a big-endian GGUF file");
    begin(&b, 3, UINT64_MAX, 0);
    REFUSED(&b, "tensors: 18446744073709551615 of them do not fit into the file (24 bytes)");
    begin(&b, 3, 0, 1000);
    REFUSED(&b, "metadata: 1000 of them do not fit into the file");

    begin(&b, 3, 0, 1), put_uint(&b, UINT64_MAX, 8), put_zeros(&b, 8);
    REFUSED(&b, "a key of the metadata at byte 32 runs past the end of the file");
    begin(&b, 3, 0, 1), put_uint(&b, 0, 8), put_zeros(&b, 8);
    REFUSED(&b, "a key of the metadata at byte 24 is empty or has a zero byte");
    ONE_VALUE("k", 13), put_zeros(&b, 8);
    REFUSED(&b, "metadata k has type 13, which GGUF does not define");
    ONE_VALUE("k", LC_GGUF_BOOL), put_uint(&b, 2, 1);
    REFUSED(&b, "metadata k holds 2, not a boolean");
    ONE_VALUE("key", LC_GGUF_U64), put_uint(&b, 2, 1);
    REFUSED(&b, "key at byte 39 runs past the end of the file (40)");
    ONE_VALUE("k", LC_GGUF_STRING), put_uint(&b, 1ULL << 40, 8);
    REFUSED(&b, "k at byte 45 runs past the end of the file");
    ONE_VALUE("k", LC_GGUF_ARRAY), put_uint(&b, LC_GGUF_ARRAY, 4), put_zeros(&b, 20);
    REFUSED(&b, "metadata k is an array of arrays, which lacuna does not read");
    ONE_VALUE("k", LC_GGUF_ARRAY), put_uint(&b, LC_GGUF_STRING, 4), put_uint(&b, 3, 8), put_zeros(&b, 23);
    REFUSED(&b, "k: 3 of them do not fit into the file");
    begin(&b, 3, 0, 2), put_key(&b, "k", LC_GGUF_U8), put_uint(&b, 1, 1), put_key(&b, "k", LC_GGUF_U8),
        put_zeros(&b, 1);
    REFUSED(&b, "metadata k is there twice");
    ONE_VALUE("general.alignment", LC_GGUF_U32), put_uint(&b, 24, 4);
    REFUSED(&b, "general.alignment is 24, not a power of two");
    ONE_VALUE("general.alignment", LC_GGUF_STRING), put_string(&b, "x");
    REFUSED(&b, "metadata general.alignment is a string, expected an integer");

    one_tensor(&b, 0, 2, 3, 0, 24);
    CHECK_OK(open_and_close(&b, b.length));
    one_tensor(&b, 0, 0, 3, 0, 0);
    CHECK_OK(open_and_close(&b, b.length));
    one_tensor(&b, 0, 2, 3, 0, 23);
    REFUSED(&b, "tensor t of 24 bytes, at byte 0 of the data, ends past the end of the file");
    one_tensor(&b, 0, 2, 3, UINT64_MAX - 31, 24);
    REFUSED(&b, "ends past the end of the file");
    one_tensor(&b, 0, 2, 3, 8, 32);
    REFUSED(&b, "tensor t begins at byte 8 of the data, not a multiple of the alignment 32");
    one_tensor(&b, 4, 32, 3, 0, 24);
    REFUSED(&b, "tensor t has type 4, which lacuna does not know; it reads F64 F32");
    one_tensor(&b, 2, 40, 3, 0, 24);
    REFUSED(&b, "tensor t: rows of 40 are not whole blocks of 32, as Q4_0 has them");
    one_tensor(&b, 0, UINT64_MAX, 3, 0, 24);
    REFUSED(&b, "tensor t: dimension 0 is not a size");
    one_tensor(&b, 0, 1ULL << 32, 1ULL << 32, 0, 24);
    REFUSED(&b, "tensor t needs more bytes than the file has");
    begin(&b, 3, 1, 0), put_string(&b, "t"), put_uint(&b, 5, 4), put_zeros(&b, 60);
    REFUSED(&b, "tensor t has 5 dimensions; GGUF has at most 4");
    begin(&b, 3, 2, 0), put_tensor(&b, "a", 0, 9, 1, 0), put_tensor(&b, "b", 0, 1, 1, 32), align(&b), put_zeros(&b, 64);
    REFUSED(&b, "tensors a and b overlap at byte");
}

/* Cut off anywhere, the file is refused, and nothing stays behind. */
static void test_cut_off(void) {
    static bytes b;
    make_whole(&b);
    for (size_t n = 0; n < b.length; n++) CHECK(open_and_close(&b, n) == LC_EFORMAT);
    CHECK_OK(open_and_close(&b, b.length));
}

static lc_status open_whole(void) {
    lc_gguf *g = NULL;
    lc_status status = lc_gguf_open(path, &g);
    lc_gguf_close(g);
    return status;
}

static void test_failing_memory(void) {
    static bytes b;
    make_whole(&b);
    write_bytes(&b, b.length, path);
    size_t live = lc_memory_get().live;
    uint64_t before = lc_memory_count();
    CHECK_OK(open_whole());
    uint64_t allocations = lc_memory_count() - before;
    for (uint64_t n = 1; n <= allocations; n++) {
        lc_memory_fail_at(n);
        CHECK(open_whole() == LC_ENOMEM);
        lc_memory_fail_at(0);
        CHECK(lc_memory_get().live == live);
    }
    CHECK(allocations >= 6);
}

int main(void) {
    strcpy(directory, "/tmp/lacuna-test-XXXXXX");
    if (!mkdtemp(directory)) return 1;
    snprintf(path, sizeof path, "%s/tiny.gguf", directory);
    test_metadata();
    test_damage();
    test_cut_off();
    test_failing_memory();
    CHECK_OK(lc_remove_tree(directory));
    return check_done();
}
