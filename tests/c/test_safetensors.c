/* test_safetensors.c: reading and writing safetensors, JSON, and hub names: round trips, hostile files, failing disks
 * and memory. */
#define _GNU_SOURCE
#include "tensors.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/hub.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/weights.h"

static char directory[64];

/* A path in the test's directory; good until 32 more were asked for. */
static const char *in_directory(const char *name) {
    static char paths[32][256];
    static int next;
    char *path = paths[next++ % 32];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

/* A file of this header and `data` bytes of zeros behind it. */
static const char *file_of(const char *header, size_t data) {
    const char *path = in_directory("hostile.safetensors");
    FILE *f = fopen(path, "wb");
    uint64_t length = htole64(strlen(header));
    fwrite(&length, 8, 1, f);
    fputs(header, f);
    for (size_t i = 0; i < data; i++) fputc(0, f);
    fclose(f);
    return path;
}

static lc_status open_and_close(const char *path) {
    lc_weights *s = NULL;
    lc_status status = lc_weights_open(path, &s);
    lc_weights_release(s);
    return status;
}

#define REFUSED(header, data, message) CHECK_MESSAGE(open_and_close(file_of(header, data)), LC_EFORMAT, message)
#define TENSOR(dtype, shape, begin, end) \
    "{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

static void test_hostile_headers(void) {
    CHECK_OK(open_and_close(file_of("{}", 0)));
    CHECK_OK(open_and_close(file_of("{\"a\":" TENSOR("F32", "2", 0, 8) "}   ", 8)));
    CHECK_OK(open_and_close(file_of("{\"a\":" TENSOR("F32", "", 0, 4) ",\"e\":" TENSOR("I64", "0,3", 4, 4) "}", 4)));
    REFUSED("", 0, "not JSON");
    REFUSED("[]", 0, "the header is an array, expected an object");
    REFUSED("{\"a\":", 0, ": column 5: not JSON");
    REFUSED("{\"a\":" TENSOR("F32", "2", 0, 8) ",\"a\":" TENSOR("F32", "2", 0, 8) "}", 8, "duplicate object key");
    REFUSED("{\"a\":3}", 0, "tensor a is a number, expected an object");
    REFUSED("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor a: \"dtype\" is not a string");
    REFUSED("{\"a\":" TENSOR("F23", "2", 0, 8) "}", 8, "tensor a has the unknown dtype \"F23\"");
    REFUSED("{\"a\":" TENSOR("F32", "-2", 0, 8) "}", 8, "dimension 0 of its shape is not a size");
    REFUSED("{\"a\":" TENSOR("F32", "1.5", 0, 8) "}", 8, "dimension 0 of its shape is not a size");
    REFUSED("{\"a\":" TENSOR("F32", "1,1,1,1,1,1,1,1,1", 0, 4) "}", 4, "has 9 dimensions; lacuna has at most 8");
    REFUSED("{\"a\":" TENSOR("F32", "4294967296,4294967296", 0, 8) "}", 8, "needs more bytes than the file has");
    REFUSED("{\"a\":" TENSOR("F32", "3", 0, 8) "}", 8, "shape (3) and dtype F32 needs 12 bytes, but has 8");
    REFUSED("{\"a\":" TENSOR("F32", "2", 8, 0) "}", 8, "is not a pair of byte positions");
    REFUSED("{\"a\":" TENSOR("F32", "2", -8, 0) "}", 8, "is not a pair of byte positions");
    REFUSED("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "is not a pair of byte positions");
    REFUSED("{\"a\":" TENSOR("F32", "2", 0, 8) "}", 5, "the download looks cut off: fetch it again");
    REFUSED("{\"a\":" TENSOR("F32", "2", 0, 8) ",\"b\":" TENSOR("F32", "2", 4, 12) "}", 12, "tensors a and b overlap");
    REFUSED("{\"a\":" TENSOR("F32", "2", 0, 8) ",\"b\":" TENSOR("F32", "2", 0, 8) "}", 8, "tensors a and b overlap");
    REFUSED("{\"a\":" TENSOR("F32", "1", 0, 4) ",\"b\":" TENSOR("F32", "1", 8, 12) "}", 12, "belong to no tensor");
    REFUSED("{\"a\":" TENSOR("F32", "1", 0, 4) "}", 9, "the last tensor ends at byte");
    REFUSED("{\"__metadata__\":{\"k\":1}}", 0, "__metadata__ \"k\" is a number, expected a string");
    REFUSED("{\"__metadata__\":[]}", 0, "__metadata__ is an array, expected an object");
}

static void test_hostile_lengths(void) {
    const char *path = in_directory("short.safetensors");
    CHECK_OK(lc_file_write(path, "1234567", 7));
    CHECK_MESSAGE(open_and_close(path), LC_EFORMAT, "7 bytes are too few");
    uint64_t lengths[] = {htole64(3), htole64(100000001), UINT64_MAX};
    const char *messages[] = {"the header ends at byte 11, past the end of the file (10)",
                              "would have 100,000,001 bytes", "not a safetensors file"};
    for (int i = 0; i < 3; i++) {
        char bytes[10] = {0};
        memcpy(bytes, &lengths[i], 8);
        memcpy(bytes + 8, "{}", 2);
        CHECK_OK(lc_file_write(path, bytes, 10));
        CHECK_MESSAGE(open_and_close(path), LC_EFORMAT, messages[i]);
    }
    CHECK_MESSAGE(open_and_close(in_directory("absent.safetensors")), LC_ENOTFOUND, "absent.safetensors");
    CHECK_MESSAGE(open_and_close(directory), LC_ENOTFOUND,
                  "none of model.safetensors, model.safetensors.index.json, pytorch_model.bin");
}

static bool same_content(const lc_tensor *a, const lc_tensor *b) {
    if (a->dtype != b->dtype || !lc_same_shape(a, b)) return false;
    for (int64_t i = 0; i < lc_numel(a); i++)
        if (element(a, i) != element(b, i)) return false;
    return true;
}

static void test_round_trip(void) {
    static const lc_dtype dtypes[] = {LC_F32, LC_F64, LC_F16, LC_BF16, LC_I32, LC_I64, LC_U8, LC_BOOL};
    static const char *const names[] = {"f32", "f64", "f16", "bf16", "i32", "i64", "u8", "bool"};
    lc_named tensors[12];
    int count = 0;
    for (; count < 8; count++) {
        lc_tensor *t = tensor(dtypes[count], SHAPE(2, 3), VALUES(0, 1, 1, 0, 1, 0));
        tensors[count] = (lc_named){names[count], t, LC_DTYPES};
    }
    lc_tensor *base = noise(LC_F32, SHAPE(5, 7), 1), *transposed = NULL, *sliced = NULL;
    CHECK_OK(lc_view_permute(base, (int[]){1, 0}, &transposed));
    CHECK_OK(lc_view_slice(base, 1, 1, 3, 2, &sliced));
    keep_for_drop(transposed);
    keep_for_drop(sliced);
    tensors[count++] = (lc_named){"transposed", transposed, LC_DTYPES};
    tensors[count++] = (lc_named){"sliced", sliced, LC_F64};
    tensors[count++] = (lc_named){"scalar \xC3\xA9 \"", tensor(LC_F32, SCALAR, VALUES(2.5)), LC_DTYPES};
    tensors[count++] = (lc_named){"empty", tensor(LC_F32, SHAPE(0, 4), NULL), LC_DTYPES};

    const char *path = in_directory("all.safetensors");
    lc_pair metadata[] = {{"format", "pt"}, {"note", "a \"b\"\n"}};
    CHECK_OK(lc_safetensors_write(path, tensors, count, metadata, 2));
    lc_weights *s = NULL;
    CHECK_OK(lc_weights_open(path, &s));
    CHECK(lc_weights_count(s) == count);
    CHECK(strcmp(lc_weights_metadata(s, "note"), "a \"b\"\n") == 0);
    CHECK(lc_weights_metadata(s, "nothing") == NULL);
    CHECK(lc_weights_metadata_count(s) == 2);
    const lc_metadata *format = lc_weights_metadata_at(s, 0);
    CHECK(format->kind == LC_METADATA_TEXT && format->length == 2);
    CHECK(strcmp(format->key, "format") == 0 && strcmp(format->text, "pt") == 0);
    CHECK(lc_weights_at(s, 0)->begin % 8 == 0);
    for (int i = 0; i < count; i++) {
        lc_tensor *t = NULL, *want = tensors[i].tensor;
        CHECK_OK(lc_weights_read(s, tensors[i].name, want->dtype, &t));
        CHECK(t && same_content(keep_for_drop(t), want));
        CHECK(lc_weights_find(s, tensors[i].name)->begin % lc_dtype_size(want->dtype) == 0);
    }
    lc_tensor *missing = NULL;
    CHECK_MESSAGE(lc_weights_read(s, "nope", LC_F32, &missing), LC_ENOTFOUND, "no tensor nope among its 12");
    CHECK_MESSAGE(lc_weights_read_into(s, "f32", base), LC_ESHAPE, "tensor f32 has shape (2, 3), expected (5, 7)");

    /* Into a view: the rest of its storage stays. */
    lc_tensor *frame = tensor(LC_F64, SHAPE(3, 4), NULL), *rows = NULL, *window = NULL;
    CHECK_OK(lc_view_slice(frame, 0, 1, 2, 1, &rows));
    CHECK_OK(lc_view_slice(rows, 1, 0, 3, 1, &window));
    CHECK_OK(lc_weights_read_into(s, "u8", window));
    CHECK(element(frame, 5) == 1 && element(frame, 8) == 0 && element(frame, 9) == 1 && element(frame, 7) == 0);
    keep_for_drop(rows);
    keep_for_drop(window);
    lc_weights_release(s);

    /* The same tensors in another order give the same bytes. */
    char *first, *second;
    size_t n, m;
    CHECK_OK(lc_file_read(path, 0, &first, &n));
    for (int i = 0; i < count / 2; i++) {
        lc_named swap = tensors[i];
        tensors[i] = tensors[count - 1 - i];
        tensors[count - 1 - i] = swap;
    }
    CHECK_OK(lc_safetensors_write(path, tensors, count, metadata, 2));
    CHECK_OK(lc_file_read(path, 0, &second, &m));
    CHECK(n == m && memcmp(first, second, n) == 0);
    lc_free(first);
    lc_free(second);
    drop_all();
}

/* More than one chunk, from a transposed view and with a cast on both ways. */
static void test_large_views(void) {
    const int64_t shape[] = {3000, 1100};
    lc_tensor *t = keep_for_drop(NULL), *view = NULL, *back = NULL;
    CHECK_OK(lc_tensor_new(LC_F32, 2, shape, LC_CPU, &t));
    keep_for_drop(t);
    for (int64_t i = 0; i < lc_numel(t); i++) LC_DATA(float, t)[i] = (float)(i % 8191);
    CHECK_OK(lc_view_permute(t, (int[]){1, 0}, &view));
    keep_for_drop(view);
    const char *path = in_directory("large.safetensors");
    CHECK_OK(lc_safetensors_write(path, &(lc_named){"t", view, LC_F64}, 1, NULL, 0));
    lc_weights *s = NULL;
    CHECK_OK(lc_weights_open(path, &s));
    CHECK_OK(lc_weights_read(s, "t", LC_I32, &back));
    keep_for_drop(back);
    bool equal = true;
    for (int64_t i = 0; i < 1100; i++)
        for (int64_t k = 0; k < 3000; k++)
            equal &= LC_DATA(int32_t, back)[i * 3000 + k] == (int32_t)LC_DATA(float, t)[k * 1100 + i];
    CHECK(equal);
    lc_weights_release(s);
    drop_all();
}

static void test_refusals(void) {
    lc_tensor *t = tensor(LC_F32, SHAPE(2), VALUES(1, 2));
    const char *path = in_directory("refused.safetensors");
    lc_named twice[] = {{"a", t, LC_F32}, {"a", t, LC_F64}};
    CHECK_MESSAGE(lc_safetensors_write(path, twice, 2, NULL, 0), LC_EINVAL, "two tensors are named a");
    CHECK_MESSAGE(lc_safetensors_write(path, &(lc_named){"", t, LC_F32}, 1, NULL, 0), LC_EINVAL, "cannot be the name");
    CHECK_MESSAGE(lc_safetensors_write(path, &(lc_named){"\xFF", t, LC_F32}, 1, NULL, 0), LC_EINVAL, "cannot be");
    CHECK_MESSAGE(lc_safetensors_write(path, &(lc_named){"__metadata__", t, LC_F32}, 1, NULL, 0), LC_EINVAL, "cannot");
    CHECK(!lc_file_exists(path));

    lc_weights *s = NULL;
    lc_tensor *out = NULL;
    CHECK_OK(lc_weights_open(file_of("{\"a\":" TENSOR("I8", "2", 0, 2) "}", 2), &s));
    CHECK(lc_weights_find(s, "a")->dtype == LC_DTYPES);
    CHECK_MESSAGE(lc_weights_read(s, "a", LC_F32, &out), LC_EDTYPE, "tensor a has dtype I8, which lacuna does not");
    lc_weights_release(s);

    path = file_of("{\"a\":" TENSOR("BOOL", "2", 0, 2) "}", 2);
    CHECK_OK(lc_weights_open(path, &s));
    FILE *f = fopen(path, "r+b");
    fseek(f, -1, SEEK_END);
    fputc(2, f);
    fclose(f);
    CHECK_MESSAGE(lc_weights_read(s, "a", LC_BOOL, &out), LC_EFORMAT, "element 1 is 2, not a boolean");
    CHECK(truncate(path, 20) == 0); /* after it was opened: an error, not a crash */
    CHECK_MESSAGE(lc_weights_read(s, "a", LC_BOOL, &out), LC_EIO, "hostile.safetensors");
    lc_weights_release(s);
    drop_all();
}

static void test_shards(void) {
    lc_tensor *a = tensor(LC_F32, SHAPE(2), VALUES(1, 2)), *b = tensor(LC_F32, SHAPE(2), VALUES(3, 4)), *t = NULL;
    const char *index = in_directory("shards/model.safetensors.index.json");
    CHECK_OK(lc_make_dirs(in_directory("shards")));
    CHECK_OK(lc_safetensors_write(in_directory("shards/1.safetensors"), &(lc_named){"a", a, LC_F32}, 1, NULL, 0));
    CHECK_OK(lc_safetensors_write(in_directory("shards/2.safetensors"), &(lc_named){"b", b, LC_F32}, 1, NULL, 0));
#define INDEX(map) CHECK_OK(lc_file_write(index, "{\"weight_map\":" map "}", strlen("{\"weight_map\":" map "}")))
    INDEX("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}");
    lc_weights *s = NULL;
    CHECK_OK(lc_weights_open(in_directory("shards"), &s));
    CHECK(lc_weights_count(s) == 2);
    CHECK_OK(lc_weights_read(s, "b", LC_F32, &t));
    CHECK(t && element(keep_for_drop(t), 1) == 4);
    lc_weights_release(s);
    INDEX("{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\"}");
    CHECK_MESSAGE(open_and_close(index), LC_EFORMAT, "tensor b is not in 1.safetensors, where the index has it");
    INDEX("{\"a\":\"../1.safetensors\"}");
    CHECK_MESSAGE(open_and_close(index), LC_EFORMAT, "tensor a: not the name of a file beside the index");
    INDEX("{\"a\":\"3.safetensors\"}");
    CHECK_MESSAGE(open_and_close(index), LC_ENOTFOUND, "3.safetensors");
    INDEX("7");
    CHECK_MESSAGE(open_and_close(index), LC_EFORMAT, "\"weight_map\" is a number, expected an object");
    CHECK_OK(lc_safetensors_write(in_directory("shards/2.safetensors"), &(lc_named){"a", b, LC_F32}, 1, NULL, 0));
    INDEX("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}");
    CHECK_MESSAGE(open_and_close(index), LC_EFORMAT, "tensor a is in two files");
    drop_all();
}

/* Writes, opens, reads with a cast: what the sweeps below make fail at every step. */
static lc_status scenario(const char *path, lc_tensor *t) {
    LC_TRY(lc_safetensors_write(path, &(lc_named){"t", t, LC_F16}, 1, &(lc_pair){"k", "v"}, 1));
    lc_weights *s = NULL;
    lc_tensor *back = NULL;
    LC_TRY(lc_weights_open(path, &s));
    lc_status status = lc_weights_read(s, "t", LC_F32, &back);
    lc_tensor_release(back);
    lc_weights_release(s);
    return status;
}

static void test_failing_memory(void) {
    const char *path = in_directory("memory.safetensors");
    lc_tensor *t = noise(LC_F32, SHAPE(3, 2), 1);
    CHECK_OK(scenario(path, t));
    lc_memory_trim();
    size_t live = lc_memory_get().live;
    uint64_t before = lc_memory_count();
    CHECK_OK(scenario(path, t));
    uint64_t allocations = lc_memory_count() - before;
    CHECK(allocations > 10);
    int survived = 0;
    for (uint64_t n = 1; n <= allocations; n++) {
        lc_memory_fail_at(n);
        lc_status status = scenario(path, t);
        lc_memory_fail_at(0);
        survived += status == LC_OK; /* the directory's fsync is done without the memory it wants */
        CHECK(status == LC_ENOMEM || (status == LC_OK && survived == 1));
        CHECK(lc_memory_get().live == live);
    }
    drop_all();
}

/* A full disk leaves the old file whole, and no other beside it. */
static void test_failing_writes(void) {
    const char *path = in_directory("full/old.safetensors");
    CHECK_OK(lc_make_dirs(in_directory("full")));
    lc_tensor *old = tensor(LC_F32, SHAPE(1), VALUES(7)), *t = noise(LC_F32, SHAPE(900, 1000), 2), *back = NULL;
    CHECK_OK(lc_safetensors_write(path, &(lc_named){"t", old, LC_F32}, 1, NULL, 0));
    int failed = 0;
    for (uint64_t n = 1;; n++, failed++) {
        lc_file_fail_at(n, ENOSPC);
        lc_status status = lc_safetensors_write(path, &(lc_named){"t", t, LC_F32}, 1, NULL, 0);
        lc_file_fail_at(0, 0);
        if (!status) break;
        CHECK_MESSAGE(status, LC_EIO, "No space left on device");
        lc_weights *s = NULL;
        CHECK_OK(lc_weights_open(path, &s));
        CHECK_OK(lc_weights_read(s, "t", LC_F32, &back));
        CHECK(back && element(keep_for_drop(back), 0) == 7);
        lc_weights_release(s);
    }
    CHECK(failed >= 2);
    CHECK_OK(lc_remove_tree(path));
    CHECK(rmdir(in_directory("full")) == 0);
    drop_all();
}

static lc_status parse(const char *text) {
    json_t *value = NULL;
    lc_status status = lc_json_parse(text, strlen(text), "x.json", &value);
    json_decref(value);
    return status;
}

static void test_json(void) {
    CHECK_OK(parse("{\"a\": [1, 2.5, null, true, \"\\u00e9\"]}"));
    CHECK_MESSAGE(parse("{\n \"a\": 1,,\n}"), LC_EFORMAT, "x.json: line 2, column 9: not JSON");
    CHECK_MESSAGE(parse("{\"a\":1} x"), LC_EFORMAT, "end of file expected");
    CHECK_MESSAGE(parse("\"\xFF\""), LC_EFORMAT, "unable to decode byte 0xff");
    char deep[400];
    memset(deep, '[', sizeof deep - 1);
    deep[399] = '\0';
    CHECK_MESSAGE(parse(deep), LC_EFORMAT, "more than 128 arrays and objects inside each other");
    CHECK_OK(parse("[\"[[[[\", \"\\\"[\"]"));

    json_t *object = NULL;
    const char *text = "{\"n\": 12, \"f\": 12.0, \"g\": 1.5, \"s\": \"x\", \"b\": true, \"z\": null, \"big\": 1e300}";
    CHECK_OK(lc_json_parse(text, strlen(text), "x.json", &object));
    int64_t n = 5;
    double g = 0;
    bool b = false;
    const char *s = NULL;
    json_t *inner = NULL;
    CHECK_OK(lc_json_get_int(object, "missing", "x.json", &n));
    CHECK_OK(lc_json_get_int(object, "z", "x.json", &n));
    CHECK(n == 5);
    CHECK_OK(lc_json_get_int(object, "n", "x.json", &n));
    CHECK(n == 12);
    CHECK_OK(lc_json_get_int(object, "f", "x.json", &n));
    CHECK(n == 12);
    CHECK_MESSAGE(lc_json_get_int(object, "g", "x.json", &n), LC_EFORMAT, "x.json: \"g\" is 1.5, expected an integer");
    CHECK_MESSAGE(lc_json_get_int(object, "big", "x.json", &n), LC_EFORMAT, "expected an integer");
    CHECK_MESSAGE(lc_json_get_int(object, "s", "x.json", &n), LC_EFORMAT, "\"s\" is a string, expected an integer");
    CHECK_OK(lc_json_get_double(object, "n", "x.json", &g));
    CHECK(g == 12);
    CHECK_OK(lc_json_get_bool(object, "b", "x.json", &b));
    CHECK(b);
    CHECK_MESSAGE(lc_json_get_bool(object, "n", "x.json", &b), LC_EFORMAT, "is a number, expected a boolean");
    CHECK_OK(lc_json_get_string(object, "s", "x.json", &s));
    CHECK(s && strcmp(s, "x") == 0);
    CHECK_MESSAGE(lc_json_get_object(object, "s", "x.json", &inner), LC_EFORMAT, "is a string, expected an object");
    CHECK_MESSAGE(lc_json_require(object, "z", "x.json"), LC_EFORMAT, "x.json: \"z\" is missing");
    json_decref(object);

    /* Beyond 64 bits, as tokenizer_config.json has it. */
    text = "{\"model_max_length\": 1000000000000000019884624838656, \"n\": 3}";
    CHECK_OK(lc_json_parse(text, strlen(text), "x.json", &object));
    CHECK_OK(lc_json_get_int(object, "n", "x.json", &n));
    CHECK(n == 3);
    json_decref(object);
}

/* Memory that ends at any allocation, inside tokens of any length: nothing is read past a token, nothing is lost. */
static void test_json_without_memory(void) {
    static char text[4096];
    for (size_t length = 1; length < 140; length++) {
        char letters[160], digits[160];
        memset(letters, 'x', length);
        memset(digits, '7', length);
        int bytes = snprintf(text, sizeof text, "{\"k%.*s\": [\"%.*s\\u00e9\xF0\x9F\x98\x80\", 0.%.*s, %.*s]}",
                             (int)length, letters, (int)length, letters, (int)length, digits, (int)length, digits);
        json_t *value = NULL;
        lc_status status = LC_ENOMEM;
        for (uint64_t n = 1; status; n++) {
            lc_memory_fail_at(n);
            status = lc_json_parse(text, (size_t)bytes, "x.json", &value);
            lc_memory_fail_at(0);
            if (status) CHECK_MESSAGE(status, LC_ENOMEM, "x.json: out of memory while reading JSON");
            CHECK(n < 100);
        }
        CHECK(json_string_length(json_array_get(json_object_iter_value(json_object_iter(value)), 0)) == length + 6);
        json_decref(value);
    }
}

static void test_hub(void) {
    char *found = NULL;
    setenv("HF_HUB_CACHE", in_directory("hub"), 1);
    CHECK_OK(lc_make_dirs(in_directory("hub/models--org--tiny/snapshots/abc123")));
    CHECK_MESSAGE(lc_hub_resolve("org/tiny", &found), LC_ENOTFOUND, "hub/models--org--tiny/refs/main is missing");
    CHECK(strstr(lc_message(), "hf download org/tiny, or load one of ") != NULL);
    CHECK_MESSAGE(lc_hub_resolve("org/other", &found), LC_ENOTFOUND, "hub/models--org--other (from HF_HUB_CACHE)");
    CHECK(strstr(lc_message(), "hf download org/other") != NULL);
    CHECK_OK(lc_make_dirs(in_directory("hub/models--org--tiny/refs")));
    CHECK_OK(lc_file_write(in_directory("hub/models--org--tiny/refs/main"), "abc123\n", 7));
    CHECK_OK(lc_hub_resolve("org/tiny", &found));
    CHECK(found && strstr(found, "hub/models--org--tiny/snapshots/abc123") != NULL);
    lc_free(found);
    CHECK_OK(lc_hub_resolve(in_directory("hub/models--org--tiny"), &found));
    CHECK(found && strcmp(found, in_directory("hub/models--org--tiny/snapshots/abc123")) == 0);
    lc_free(found);
    CHECK_OK(lc_file_write(in_directory("hub/models--org--tiny/refs/main"), "gone", 4));
    CHECK_MESSAGE(lc_hub_resolve("org/tiny", &found), LC_EFORMAT, "names snapshot gone, which is not there");
    CHECK_OK(lc_file_write(in_directory("hub/models--org--tiny/refs/main"), "../../x", 7));
    CHECK_MESSAGE(lc_hub_resolve("org/tiny", &found), LC_EFORMAT, "is not the name of a snapshot");
    CHECK_OK(lc_hub_resolve(directory, &found));
    CHECK(found && strcmp(found, directory) == 0);
    lc_free(found);
    CHECK_MESSAGE(lc_hub_resolve("../no/such", &found), LC_ENOTFOUND, "../no/such: no such file or directory");
    CHECK_MESSAGE(lc_hub_resolve("", &found), LC_ENOTFOUND, "no such file or directory");
    unsetenv("HF_HUB_CACHE");
    setenv("HF_HOME", "/nowhere", 1);
    CHECK_MESSAGE(lc_hub_resolve("gpt2", &found), LC_ENOTFOUND, "/nowhere/hub/models--gpt2 (from HF_HOME)");
    unsetenv("HF_HOME");
}

/* A variable that is set beats those after it; each names another place. */
static void test_hub_places(void) {
    static const struct {
        const char *variable, *value, *hub;
    } places[] = {{"HOME", "home", "home/.cache/huggingface/hub"},
                  {"XDG_CACHE_HOME", "xdg", "xdg/huggingface/hub"},
                  {"HF_HOME", "hf", "hf/hub"},
                  {"HUGGINGFACE_HUB_CACHE", "old", "old"},
                  {"HF_HUB_CACHE", "cache", "cache"}};
    enum { PLACES = sizeof places / sizeof *places };
    char *home = lc_strdup(getenv("HOME") ? getenv("HOME") : "/");
    for (int i = 1; i < PLACES; i++) unsetenv(places[i].variable);
    for (int i = 0; i < PLACES; i++) {
        char repository[128], reference[160], snapshot[192], *found = NULL;
        snprintf(repository, sizeof repository, "%s/models--some--model", places[i].hub);
        snprintf(reference, sizeof reference, "%s/refs", repository);
        snprintf(snapshot, sizeof snapshot, "%s/snapshots/0a1b2c", repository);
        CHECK_OK(lc_make_dirs(in_directory(reference)));
        CHECK_OK(lc_make_dirs(in_directory(snapshot)));
        strcat(reference, "/main");
        CHECK_OK(lc_file_write(in_directory(reference), "0a1b2c", 6));
        setenv(places[i].variable, in_directory(places[i].value), 1);
        CHECK_OK(lc_hub_resolve("some/model", &found));
        CHECK(found && strcmp(found, in_directory(snapshot)) == 0);
        lc_free(found);
    }
    setenv("HF_HUB_CACHE", "", 1); /* empty counts as not set */
    setenv("HUGGINGFACE_HUB_CACHE", "", 1);
    setenv("HF_HOME", "", 1);
    char *found = NULL;
    CHECK_OK(lc_hub_resolve("some/model", &found));
    CHECK(found && strstr(found, "/xdg/huggingface/hub/") != NULL);
    lc_free(found);
    for (int i = 1; i < PLACES; i++) unsetenv(places[i].variable);
    setenv("HOME", home, 1);
    lc_free(home);
}

/* "~" at the beginning is the home directory, in variables and in names. */
static void test_hub_home(void) {
    char *home = lc_strdup(getenv("HOME") ? getenv("HOME") : "/"), *found = NULL;
    const char *const variables[] = {"HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"};
    const char *const values[] = {"~/cache", "~/hf/", "~/xdg"};
    setenv("HOME", directory, 1);
    for (int i = 0; i < 3; i++) {
        setenv(variables[i], values[i], 1);
        CHECK_OK(lc_hub_resolve("some/model", &found)); /* as test_hub_places left it */
        CHECK(found && !strncmp(found, directory, strlen(directory)) && !strchr(found, '~'));
        lc_free(found);
        unsetenv(variables[i]);
    }
    CHECK_OK(lc_hub_resolve("~/hub", &found));
    CHECK(found && strcmp(found, in_directory("hub")) == 0);
    lc_free(found);
    CHECK_OK(lc_hub_resolve("~", &found));
    CHECK(found && strcmp(found, directory) == 0);
    lc_free(found);
    CHECK_MESSAGE(lc_hub_resolve("~/no/such", &found), LC_ENOTFOUND,
                  in_directory("no/such: no such file or directory"));
    CHECK_MESSAGE(lc_hub_resolve("~hub", &found), LC_ENOTFOUND, "~hub: no such file or directory"); /* another user's */
    unsetenv("HOME");
    CHECK_MESSAGE(lc_hub_resolve("~/hub", &found), LC_ENOTFOUND, "~/hub: no such file or directory");
    setenv("HOME", home, 1);
    lc_free(home);
}

int main(void) {
    strcpy(directory, "/tmp/lacuna-test-XXXXXX");
    if (!mkdtemp(directory)) return 1;
    test_hostile_headers();
    test_hostile_lengths();
    test_round_trip();
    test_large_views();
    test_refusals();
    test_shards();
    test_failing_memory();
    test_failing_writes();
    test_json();
    test_json_without_memory();
    test_hub();
    test_hub_places();
    test_hub_home();
    CHECK_OK(lc_remove_tree(directory));
    return check_done();
}
