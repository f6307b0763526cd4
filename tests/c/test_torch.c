/* test_torch.c: what torch.save writes: hostile and damaged pickles and archives, and failing memory. What is read from
 * whole files is compared with PyTorch in tests/spec/checkpoint_files_spec.lua. */
#define _GNU_SOURCE
#include "bytes.h"

#include <stdlib.h>

#include "base/memory.h"
#include "io/pickle.h"
#include "io/weights.h"

#define GOLDEN "tests/golden/checkpoints/"

static char directory[64], path[96];

static lc_status open_and_close(const char *file) {
    lc_weights *w = NULL;
    lc_status status = lc_weights_open(file, &w);
    lc_weights_release(w);
    return status;
}

/* -- single pickles: what the machine builds ----------------------------------------------------- */

static lc_status no_global(void *context, const char *module, const char *name, lc_pickled **out) {
    (void)context, (void)out;
    return lc_fail(LC_EFORMAT, "asked for %s.%s", module, name);
}

static lc_status no_call(void *context, const lc_pickled *callable, const lc_pickled *arguments, lc_pickled **out) {
    (void)context, (void)callable, (void)arguments, (void)out;
    return lc_fail(LC_EFORMAT, "called");
}

static lc_status no_persistent(void *context, const lc_pickled *id, lc_pickled **out) {
    (void)context, (void)id, (void)out;
    return lc_fail(LC_EFORMAT, "asked for a persistent id");
}

static lc_status run_pickle(const char *code, size_t length, lc_arena *arena, lc_pickled **out) {
    lc_pickle_reader reader = {"x.pkl", arena, NULL, no_global, no_call, no_persistent};
    size_t used = 0;
    lc_status status = lc_pickle_read(&reader, code, length, &used, out);
    if (!status) CHECK(used == length);
    return status;
}

/* The value of a pickle, checked by the caller before `arena` goes. */
#define PICKLE(code) (value = NULL, CHECK_OK(run_pickle(code, sizeof(code) - 1, &arena, &value)), value)
#define BAD(code, message) CHECK_MESSAGE(run_pickle(code, sizeof(code) - 1, &arena, &value), LC_EFORMAT, message)

static void test_values(void) {
    lc_arena arena = {0};
    lc_pickled *value;
    CHECK(PICKLE("\x80\2N.")->kind == LC_PICKLE_NONE);
    CHECK(PICKLE("\x88.")->yes && !PICKLE("\x89.")->yes);
    CHECK(PICKLE("K\xff.")->integer == 255 && PICKLE("M\1\2.")->integer == 513);
    CHECK(PICKLE("J\xfe\xff\xff\xff.")->integer == -2);
    CHECK(PICKLE("\x8a\0.")->integer == 0 && PICKLE("\x8a\2\0\xff.")->integer == -256);
    CHECK(PICKLE("\x8a\x8\xff\xff\xff\xff\xff\xff\xff\x7f.")->integer == INT64_MAX);
    CHECK(PICKLE("\x8b\1\0\0\0\x80.")->integer == -128);
    CHECK(PICKLE("G\xbf\xd0\0\0\0\0\0\0.")->number == -0.25);
    CHECK(lc_pickle_is(PICKLE("\x8c\3abc."), "abc") && lc_pickle_is(PICKLE("X\1\0\0\0a."), "a"));
    CHECK(PICKLE("].")->count == 0 && PICKLE("(K\1K\2l.")->items[1]->integer == 2);
    CHECK(PICKLE("]K\1a(K\2K\3e.")->count == 3 && PICKLE("(K\1K\2t.")->kind == LC_PICKLE_TUPLE);
    CHECK(PICKLE("K\1K\2K\3\x87.")->items[2]->integer == 3);
    const lc_pickled *dict = PICKLE("}(\x8c\1aK\1\x8c\1bK\2u\x8c\1aK\3s.");
    CHECK(dict->count == 3 && lc_pickle_get(dict, "a")->integer == 3 && lc_pickle_get(dict, "b")->integer == 2);
    CHECK(lc_pickle_get(dict, "c") == NULL);
    const lc_pickled *shared = PICKLE("]q\0K\1ah\0\x86."); /* the same list twice */
    CHECK(shared->items[0] == shared->items[1] && shared->items[0]->count == 1);
    const lc_pickled *self = PICKLE("]\x94h\0a."); /* a list inside itself */
    CHECK(self->items[0] == self);
    lc_arena_free(&arena);
}

static void test_bad_pickles(void) {
    lc_arena arena = {0};
    lc_pickled *value = NULL;
    BAD("", "x.pkl: the pickle is damaged at byte 0: it ends too early");
    BAD("K", "at byte 1: it ends too early");
    BAD(".", "the stack is empty");
    BAD("a.", "the stack is empty");
    BAD("(K\1.", "a mark is left");
    BAD("t.", "there is no mark");
    BAD("h\0.", "a memo number was never set");
    BAD("Nr\xff\xff\xff\xff.", "a memo number is larger than the pickle");
    BAD("X\xff\xff\xff\xff.", "a text is longer than the pickle");
    BAD("\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "a text is longer than the pickle");
    BAD("\x8b\xff\xff\xff\x7f.", "an integer has more than 64 bits");
    BAD("\x8a\x9\0\0\0\0\0\0\0\0\1.", "an integer has more than 64 bits");
    BAD("}K\1a.", "items are appended to what is not a list");
    BAD("]K\1K\2s.", "items are set on what is not a dict");
    BAD("}(K\1u.", "a key of a dict has no value");
    BAD("cos\nsystem\n.", "asked for os.system");
    BAD("(\x8c\2idios\nsystem\n.", "asked for os.system");
    BAD("\x8c\2os\x8c\6system\x93.", "asked for os.system");
    BAD("K\1K\2\x93.", "a name is not a short string without zero bytes");
    BAD("\x8c\3o\0s\x8c\1x\x93.", "a name is not a short string without zero bytes");
    BAD("cos", "a line has no end");
    BAD("K\1)R.", "a call of what is not a function");
    BAD("K\1Q.", "asked for a persistent id");
    BAD("]Nb.", "attributes are set on what has none");
    BAD("\x82\1.", "opcode 0x82 at byte 0 of the pickle is none that builds tensors");
    BAD("I1\n.", "opcode 0x49");
    lc_arena_free(&arena);
}

/* A million nested lists are built without recursion, in memory that is a small multiple of the pickle. */
static void test_deep(void) {
    enum { DEPTH = 1000000 };
    char *code = malloc(2 * DEPTH);
    size_t before = lc_memory_get().live;
    lc_arena arena = {0};
    lc_pickled *value = NULL;
    memset(code, ']', DEPTH);
    memset(code + DEPTH, 'a', DEPTH - 1);
    code[2 * DEPTH - 1] = '.';
    lc_memory_reset_peak();
    CHECK_OK(run_pickle(code, 2 * DEPTH, &arena, &value));
    CHECK(lc_memory_get().peak - before < 100 * (size_t)DEPTH);
    int64_t depth = 0;
    for (const lc_pickled *v = value; v && v->count; v = v->items[0]) depth++;
    CHECK(depth == DEPTH - 1);
    lc_arena_free(&arena);
    CHECK(lc_memory_get().live == before);
    free(code);
}

/* -- files --------------------------------------------------------------------------------------- */

#define LEGACY "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20j\xa8P\x19.\x80\2M\xe9\3.\x80\2}\x8c\rlittle_endian\x88s."
#define STORAGE(count) "(\x8c\7storagectorch\nFloatStorage\n\x8c\1k\x8c\3cpuK" count "NtQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define TENSOR(storage, offset, sizes, strides) REBUILD "(" storage "K" offset sizes strides "\x89NtR"
#define KEYS "\x80\2]\x8c\1ka."
/* A file of this value, keys, and a storage of two floats. */
#define LEGACY_FILE(value, keys) \
    (write_text(LEGACY value "." keys "\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", sizeof(LEGACY value "." keys) - 1 + 16), path)

static void write_text(const char *text, size_t length) {
    CHECK_OK(lc_file_write(path, text, length));
}

#define REFUSED(value, keys, message) CHECK_MESSAGE(open_and_close(LEGACY_FILE(value, keys)), LC_EFORMAT, message)
#define ONE(tensor) "}\x8c\1w" tensor "s"

static void test_hostile_files(void) {
    CHECK_OK(open_and_close(LEGACY_FILE(ONE(TENSOR(STORAGE("\2"), "\0", "K\2\x85", "K\1\x85")), KEYS)));
    CHECK_OK(open_and_close(LEGACY_FILE(ONE(TENSOR(STORAGE("\2"), "\1", "K\1\x85", "K\5\x85")), KEYS)));
    CHECK_OK(open_and_close(LEGACY_FILE(ONE(TENSOR(STORAGE("\2"), "\2", "K\0\x85", "K\1\x85")), KEYS)));
    REFUSED(ONE(TENSOR(STORAGE("\2"), "\1", "K\2\x85", "K\1\x85")), KEYS,
            "a tensor of shape (2) ends past the end of its storage of 2 elements");
    CHECK_OK(open_and_close(LEGACY_FILE(ONE(TENSOR(STORAGE("\2"), "\3", "K\0\x85", "K\1\x85")), KEYS)));
#define LARGE "\x8a\x8\0\0\0\0\0\0\0\x40" /* 2^62; the product of two is beyond 64 bits */
    CHECK_OK(open_and_close(
        LEGACY_FILE(ONE(TENSOR(STORAGE("\2"), "\0", "K\0" LARGE LARGE "\x87", LARGE LARGE "K\1\x87")), KEYS)));
    REFUSED(ONE(TENSOR(STORAGE("\2"), "\0", "\x8a\x8\0\0\0\0\0\0\0\x40\x85", "\x8a\x8\0\0\0\0\0\0\0\x40\x85")), KEYS,
            "ends past the end of its storage");
    REFUSED(ONE(TENSOR(STORAGE("\2"), "\0", "\x8a\x8\0\0\0\0\0\0\0\x40\x85", "K\0\x85")), KEYS,
            "tensor w of shape (4611686018427387904) needs more bytes than the file has");
    REFUSED(ONE(TENSOR(STORAGE("\2"), "\0", "J\xff\xff\xff\xff\x85", "K\1\x85")), KEYS,
            "a tensor is not described by a storage, an offset, sizes and strides");
    REFUSED(ONE(TENSOR(STORAGE("\2"), "\0", "K\2\x85", "K\1K\1\x86")), KEYS, "a tensor is not described");
    REFUSED(ONE(TENSOR("(\x8c\7storagectorch\nFloatStorage\n\x8c\3k\0k\x8c\3cpuK\2NtQ", "\0", "K\2\x85", "K\1\x85")),
            KEYS, "a storage's key is not a short string without zero bytes");
    REFUSED(ONE(TENSOR("N", "\0", "K\2\x85", "K\1\x85")), KEYS, "a tensor is not described");
    REFUSED(ONE(TENSOR(STORAGE("\3"), "\0", "K\2\x85", "K\1\x85")), KEYS, "storage k is described in two ways");
    REFUSED(ONE(TENSOR(STORAGE("\xff"), "\0", "K\2\x85", "K\1\x85")), KEYS,
            "storage k of 255 elements is larger than the file");
    REFUSED(ONE(TENSOR(STORAGE("\2"), "\0", "K\2\x85", "K\1\x85")), "\x80\2].", "storage k is not in the file");
    REFUSED(ONE(TENSOR(STORAGE("\2"), "\0", "K\2\x85", "K\1\x85")), "\x80\2}.", "keys are a dict, expected a list");
    REFUSED(ONE(TENSOR(STORAGE("\2"), "\0", "K\2\x85", "K\1\x85")), "\x80\2]\x8c\1xa.",
            "storage x belongs to no tensor");
    REFUSED("K\7", "\x80\2].", "holds an integer, expected a state dict: tensors by name");
    REFUSED(TENSOR(STORAGE("\2"), "\0", "K\2\x85", "K\1\x85"), KEYS, "holds one tensor, expected a state dict");
    REFUSED("}\x8c\5"
            "epochK\1s\x8c\3optK\1s",
            "\x80\2].", "no tensors by name, neither at the top nor under state_dict");
    CHECK(strstr(lc_message(), "it has the keys: epoch, opt") != NULL);
    REFUSED("}K\1" TENSOR(STORAGE("\2"), "\0", "K\2\x85", "K\1\x85") "s", KEYS, "a tensor's name is an integer");
    REFUSED("}(\x8c\1w" TENSOR(STORAGE("\2"), "\0", "K\2\x85", "K\1\x85") "\x8c\1w" TENSOR(STORAGE("\2"), "\0",
                                                                                           "K\2\x85", "K\1\x85") "u",
            KEYS, "tensor w is there twice");
    REFUSED("ctorch._utils\n_rebuild_tensor_v3\n)R", KEYS,
            "holds a tensor of a type such as float8 (_rebuild_tensor_v3), which lacuna does not read");
    REFUSED("ctorch._utils\n_rebuild_qtensor\n)R", KEYS,
            "holds a quantised tensor (_rebuild_qtensor), which lacuna does not read; save tensor.dequantize()");
    REFUSED("cos\nsystem\n\x8c\2id\x85R", KEYS,
            "the pickle asks for os.system; lacuna builds tensors and plain values");
    REFUSED("cbuiltins\neval\n\x8c\2id\x85R", KEYS, "asks for builtins.eval");
    REFUSED("ctorch\nload\n)R", KEYS, "asks for torch.load");
    REFUSED("ctorch._utils\n_rebuild_parameter\n)R", KEYS, "the pickle calls what torch.save never calls so");
    write_text("\x80\2}q\0.12345678", 14);
    CHECK_MESSAGE(open_and_close(path), LC_EFORMAT, "a pickle that torch.save did not write");
}

/* Whole archives are in test_zip.c. */
static void test_hostile_zips(void) {
    write_text("PK\3\4 and nothing more", 21);
    CHECK_MESSAGE(open_and_close(path), LC_EFORMAT, "the zip archive is damaged or was cut off (Not a zip archive)");
}

static lc_status read_all(const char *file) {
    lc_weights *w = NULL;
    LC_TRY(lc_weights_open(file, &w));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < lc_weights_count(w) && !status; i++) {
        lc_tensor *t = NULL;
        if (lc_weights_at(w, i)->dtype == LC_DTYPES) continue;
        status = lc_weights_read(w, lc_weights_at(w, i)->name, LC_F64, &t);
        lc_tensor_release(t);
    }
    lc_weights_release(w);
    return status;
}

/* Cut off anywhere, or with any byte changed: read or refused, and nothing stays behind. */
static void test_damage(const char *file, bool every_cut_fails) {
    static bytes b;
    char *data = NULL;
    size_t length, live = lc_memory_get().live;
    CHECK_OK(lc_file_read(file, BYTES_MAX, &data, &length));
    memcpy(b.data, data, length);
    lc_free(data);
    int refused = 0;
    for (size_t n = 0; n < length; n += n < 2000 ? 7 : 1) {
        write_bytes(&b, n, path);
        lc_status status = read_all(path);
        CHECK(status == LC_EFORMAT || (!every_cut_fails && status == LC_OK));
    }
    for (size_t n = 0; n < length; n += 3) {
        b.data[n] ^= 0x41;
        write_bytes(&b, length, path);
        refused += read_all(path) != LC_OK;
        b.data[n] ^= 0x41;
    }
    CHECK(refused > 50);
    lc_memory_trim();
    CHECK(lc_memory_get().live == live);
}

static void test_failing_memory(const char *file) {
    CHECK_OK(read_all(file));
    lc_memory_trim();
    size_t live = lc_memory_get().live;
    uint64_t before = lc_memory_count();
    CHECK_OK(read_all(file));
    uint64_t allocations = lc_memory_count() - before;
    CHECK(allocations > 20);
    for (uint64_t n = 1; n <= allocations; n++) {
        lc_memory_fail_at(n);
        CHECK(read_all(file) == LC_ENOMEM);
        lc_memory_fail_at(0);
        CHECK(lc_memory_get().live == live);
    }
}

int main(void) {
    strcpy(directory, "/tmp/lacuna-test-XXXXXX");
    if (!mkdtemp(directory)) return 1;
    snprintf(path, sizeof path, "%s/hostile.pt", directory);
    test_values();
    test_bad_pickles();
    test_deep();
    test_hostile_files();
    test_hostile_zips();
    test_damage(GOLDEN "state.pt", true);
    test_damage(GOLDEN "legacy.pt", true);
    test_failing_memory(GOLDEN "state.pt");
    test_failing_memory(GOLDEN "legacy.pt");
    test_failing_memory(GOLDEN "blocks.gguf");
    CHECK_OK(lc_remove_tree(directory));
    return check_done();
}
