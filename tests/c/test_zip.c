/* test_zip.c: zip archives that torch.save did not write as they are: packed again by other programs, hostile, or at the
 * edges of the format. Each is put together here, byte by byte. */
#define _GNU_SOURCE
#include "bytes.h"

#include <stdlib.h>
#include <zlib.h>

#include "base/memory.h"
#include "io/weights.h"

static char directory[64], path[96];

#define MOST 8
enum { STORED = 0, DEFLATED = 8 };

/* One entry. What is 0 is as the data have it. */
typedef struct entry {
    const char *name;
    const void *data;
    size_t length;
    int method, flags;
    uint64_t claimed;        /* size unpacked */
    uint64_t claimed_packed; /* and packed */
    uint32_t checksum;
    bool zip64;  /* sizes in an extra field of 64 bits */
    size_t same; /* its data are those of the entry with this number, from 1 */
} entry;

/* -- writing ------------------------------------------------------------------------------------- */

static size_t pack(const entry *e, uint8_t *out, size_t room) {
    if (e->method != DEFLATED) {
        memcpy(out, e->data, e->length);
        return e->length;
    }
    z_stream z = {.next_in = (void *)e->data, .avail_in = (uInt)e->length, .next_out = out, .avail_out = (uInt)room};
    CHECK(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

/* What the header before the data and the one in the directory have in common. */
static void put_common(bytes *b, const entry *e, size_t packed) {
    uint32_t checksum = e->checksum ? e->checksum : (uint32_t)crc32(0, e->data, (uInt)e->length);
    put_uint(b, e->zip64 ? 45 : 20, 2);
    put_uint(b, (uint64_t)e->flags, 2);
    put_uint(b, (uint64_t)e->method, 2);
    put_uint(b, 0, 4); /* when */
    put_uint(b, checksum, 4);
    put_uint(b, e->zip64 ? 0xffffffff : e->claimed_packed ? e->claimed_packed : packed, 4);
    put_uint(b, e->zip64 ? 0xffffffff : e->claimed ? e->claimed : e->length, 4);
    put_uint(b, strlen(e->name), 2);
    put_uint(b, e->zip64 ? 20 : 0, 2);
}

static void put_name(bytes *b, const entry *e, size_t packed) {
    put(b, e->name, strlen(e->name));
    if (!e->zip64) return;
    put_uint(b, 1, 2);
    put_uint(b, 16, 2);
    put_uint(b, e->claimed ? e->claimed : e->length, 8);
    put_uint(b, e->claimed_packed ? e->claimed_packed : packed, 8);
}

static void put_end(bytes *b, size_t count, size_t begin, bool zip64) {
    size_t end = b->length;
    if (zip64) {
        put(b, "PK\6\6", 4);
        put_uint(b, 44, 8);
        put_uint(b, 45 | 45 << 16, 4);
        put_uint(b, 0, 8); /* disks */
        put_uint(b, count, 8);
        put_uint(b, count, 8);
        put_uint(b, end - begin, 8);
        put_uint(b, begin, 8);
        put(b, "PK\6\7", 4);
        put_uint(b, 0, 4);
        put_uint(b, end, 8);
        put_uint(b, 1, 4);
    }
    put(b, "PK\5\6\0\0\0\0", 8);
    put_uint(b, zip64 ? 0xffff : count, 2);
    put_uint(b, zip64 ? 0xffff : count, 2);
    put_uint(b, zip64 ? 0xffffffff : end - begin, 4);
    put_uint(b, zip64 ? 0xffffffff : begin, 4);
    put_uint(b, 0, 2);
}

static bytes archive; /* as written last */

/* The entries before one without a name, as a file at `path`. */
static void write_archive(const entry *entries, bool zip64) {
    bytes *b = &archive;
    size_t at[MOST], packed[MOST], count = 0;
    b->length = 0;
    for (; entries[count].name; count++) {
        const entry *e = &entries[count];
        uint8_t data[8192];
        size_t n = packed[count] = pack(e, data, sizeof data);
        at[count] = b->length;
        if (e->same) {
            at[count] = at[e->same - 1];
            continue;
        }
        put(b, "PK\3\4", 4);
        put_common(b, e, n);
        put_name(b, e, n);
        put(b, data, n);
    }
    size_t begin = b->length;
    for (size_t i = 0; i < count; i++) {
        put(b, "PK\1\2", 4);
        put_uint(b, 20, 2);
        put_common(b, &entries[i], packed[i]);
        put_zeros(b, 10); /* comment, disk, attributes */
        put_uint(b, at[i], 4);
        put_name(b, &entries[i], packed[i]);
    }
    put_end(b, count, begin, zip64);
    write_bytes(b, b->length, path);
}

/* -- a state dict -------------------------------------------------------------------------------- */

/* {"w": floats of storage `key`, from `offset` on, "b": its first 8} */
#define STORAGE(key, count) "(\x8c\7storagectorch\nFloatStorage\n" key "\x8c\3cpuM" count "tQ"
#define TENSOR(storage, offset, size) \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage "M" offset "M" size "\x85K\1\x85\x89NtR"
#define PICKLE(key, count)                                                                                        \
    "\x80\2}(\x8c\1w" TENSOR(STORAGE(key, count), "\2\0", "\xfe\3") "\x8c\1b" TENSOR(STORAGE(key, count), "\0\0", \
                                                                                     "\x8\0") "u."
#define FLOATS 1024
static const char pickle[] = PICKLE("\x8c\1"
                                    "0",
                                    "\0\4"),
                  evil_pickle[] = PICKLE("\x8c\4"
                                         "../x",
                                         "\0\4");
static float floats[FLOATS];

#define PICKLE_ENTRY(as) \
    { "x/data.pkl", pickle, sizeof pickle - 1, as }
#define DATA_ENTRY(as) \
    { "x/data/0", floats, sizeof floats, as }

static lc_status open_and_close(void) {
    lc_weights *w = NULL;
    lc_status status = lc_weights_open(path, &w);
    lc_weights_release(w);
    return status;
}

static lc_status read_one(lc_weights *w, const char *name, int64_t first) {
    lc_tensor *t = NULL;
    LC_TRY(lc_weights_read(w, name, LC_F64, &t));
    bool same = true;
    for (int64_t i = 0; i < lc_numel(t); i++) same = same && lc_get_f64(t, i) == floats[first + i];
    CHECK(same);
    lc_tensor_release(t);
    return LC_OK;
}

/* Both tensors, the second of which begins before the first in the same entry, and the first again. */
static lc_status read_all(void) {
    lc_weights *w = NULL;
    LC_TRY(lc_weights_open(path, &w));
    lc_status status = read_one(w, "w", 2);
    if (!status) status = read_one(w, "b", 0);
    if (!status) status = read_one(w, "w", 2);
    lc_weights_release(w);
    return status;
}

#define WRITE(...) write_archive((const entry[MOST + 1]){__VA_ARGS__}, false)
#define REFUSED(message, ...) (WRITE(__VA_ARGS__), CHECK_MESSAGE(open_and_close(), LC_EFORMAT, message))

/* -- tests --------------------------------------------------------------------------------------- */

static void test_kinds(void) {
    WRITE(PICKLE_ENTRY(STORED), DATA_ENTRY(STORED));
    CHECK_OK(read_all());
    WRITE(PICKLE_ENTRY(DEFLATED), DATA_ENTRY(DEFLATED));
    CHECK(archive.length < sizeof floats); /* fewer bytes than its tensor */
    CHECK_OK(read_all());
    WRITE({"x/", "", 0}, {"x/data/", "", 0}, {"", "", 0}, DATA_ENTRY(DEFLATED), PICKLE_ENTRY(STORED));
    CHECK_OK(read_all());
    entry both[] = {PICKLE_ENTRY(DEFLATED), DATA_ENTRY(STORED), {0}};
    both[0].zip64 = both[1].zip64 = true;
    for (int i = 0; i < 4; i++) {
        both[1].method = i / 2 ? DEFLATED : STORED;
        write_archive(both, i % 2);
        CHECK_OK(read_all());
    }
    both[1].method = STORED;
    both[1].checksum = 7; /* PyTorch can be told to leave checksums out */
    write_archive(both, false);
    CHECK_OK(read_all());
}

static void test_names(void) {
    REFUSED("a zip archive without data.pkl: not what torch.save writes", DATA_ENTRY(STORED));
    REFUSED("a zip archive without data.pkl", {"x/data.pkl/", "", 0}, DATA_ENTRY(STORED));
    WRITE({0});
    CHECK_MESSAGE(open_and_close(), LC_EFORMAT, "a zip archive without data.pkl");
    REFUSED("hostile.pt: x/data/0 is in the archive twice", PICKLE_ENTRY(STORED), DATA_ENTRY(STORED),
            DATA_ENTRY(STORED));
    REFUSED("has two pickles, x/data.pkl and y/data.pkl", PICKLE_ENTRY(STORED), DATA_ENTRY(STORED),
            {"y/data.pkl", pickle, sizeof pickle - 1});
    REFUSED("storage 0 is not in the archive", PICKLE_ENTRY(STORED), {"x/data/1", floats, sizeof floats});
    REFUSED("x/data/0 has 0 bytes, too few for 1024 elements of F32", PICKLE_ENTRY(STORED), {"x/data/0", "", 0},
            {"x/data/1", floats, sizeof floats});
    /* A key is compared with names of entries, and opens no file. */
    REFUSED("storage ../x is not in the archive", {"x/data.pkl", evil_pickle, sizeof evil_pickle - 1},
            DATA_ENTRY(STORED));
    WRITE({"x/data.pkl", evil_pickle, sizeof evil_pickle - 1}, {"x/data/../x", floats, sizeof floats});
    CHECK_OK(read_all());
}

static void test_sizes(void) {
    entry e[] = {PICKLE_ENTRY(STORED), DATA_ENTRY(DEFLATED), {0}};
    e[1].claimed = (uint64_t)1 << 31;
    write_archive(e, false);
    CHECK_MESSAGE(open_and_close(), LC_EFORMAT, "x/data/0 would have 2147483648 bytes, which its ");
    e[1].zip64 = true;
    e[1].claimed = (uint64_t)1 << 62;
    write_archive(e, true);
    CHECK_MESSAGE(open_and_close(), LC_EFORMAT, "x/data/0 would have 4611686018427387904 bytes, which its ");
    e[1].claimed_packed = (uint64_t)1 << 61;
    write_archive(e, true);
    CHECK_MESSAGE(open_and_close(), LC_EFORMAT, "the entries up to x/data/0 have more bytes than the file");
    e[1] = (entry)DATA_ENTRY(STORED);
    e[1].claimed = sizeof floats + 4;
    write_archive(e, false);
    CHECK_MESSAGE(open_and_close(), LC_EFORMAT,
                  "x/data/0 would have 4100 bytes, which its 4096 in the archive cannot hold");
    /* A little more or less than is there: found when it is read. */
    e[1] = (entry)DATA_ENTRY(STORED);
    for (int i = -4; i <= 4; i += 8) {
        e[0] = (entry)PICKLE_ENTRY(DEFLATED);
        e[0].claimed = sizeof pickle - 1 + (uint64_t)(int64_t)i;
        write_archive(e, false);
        CHECK_MESSAGE(open_and_close(), LC_EFORMAT, "the zip archive is damaged or was cut off");
    }
    e[0] = (entry)PICKLE_ENTRY(DEFLATED);
    e[1] = (entry)DATA_ENTRY(DEFLATED);
    e[1].checksum = 7;
    write_archive(e, false);
    CHECK_MESSAGE(read_all(), LC_EFORMAT, "the zip archive is damaged or was cut off (CRC error)");
    /* One packed kilobyte seen by many entries. */
    REFUSED("have more bytes than the file: it is damaged, or they overlap", PICKLE_ENTRY(STORED), DATA_ENTRY(STORED),
            {"x/1", floats, sizeof floats, .same = 2}, {"x/2", floats, sizeof floats, .same = 2});
    e[0].claimed = (uint64_t)17 << 20;
    e[0].claimed_packed = (uint64_t)17 << 20;
    write_archive(e, false);
    CHECK_MESSAGE(open_and_close(), LC_EFORMAT, "have more bytes than the file");
}

static void test_refused_kinds(void) {
    REFUSED("x/data/0 is encrypted, which lacuna does not read", PICKLE_ENTRY(STORED),
            {"x/data/0", floats, sizeof floats, STORED, 1});
    REFUSED("x/data.pkl is encrypted", {"x/data.pkl", pickle, sizeof pickle - 1, DEFLATED, 1}, DATA_ENTRY(STORED));
    REFUSED("x/data/0 is compressed by method 12; lacuna reads entries that are stored or deflated",
            PICKLE_ENTRY(STORED), {"x/data/0", floats, sizeof floats, 12});
}

/* The records of zip64 behind the directory, and the extra fields: cut or wrong, refused or read, never more. */
static void test_damage(void) {
    entry e[] = {PICKLE_ENTRY(DEFLATED), DATA_ENTRY(DEFLATED), {0}};
    e[0].zip64 = e[1].zip64 = true;
    write_archive(e, true);
    size_t length = archive.length, live = lc_memory_get().live;
    for (size_t n = 0; n < length; n++) {
        write_bytes(&archive, n, path);
        CHECK(open_and_close() == LC_EFORMAT);
    }
    int refused = 0;
    for (size_t n = 0; n < length; n++)
        for (int bit = 0; bit < 8; bit += 7) {
            archive.data[n] ^= (uint8_t)(1 << bit);
            write_bytes(&archive, length, path);
            refused += open_and_close() != LC_OK;
            archive.data[n] ^= (uint8_t)(1 << bit);
        }
    CHECK(refused > 200);
    lc_memory_trim();
    CHECK(lc_memory_get().live == live);
}

static void test_failing_memory(void) {
    WRITE(PICKLE_ENTRY(DEFLATED), DATA_ENTRY(DEFLATED));
    CHECK_OK(read_all());
    lc_memory_trim();
    size_t live = lc_memory_get().live;
    uint64_t before = lc_memory_count();
    CHECK_OK(read_all());
    uint64_t allocations = lc_memory_count() - before;
    for (uint64_t n = 1; n <= allocations; n++) {
        lc_memory_fail_at(n);
        CHECK(read_all() == LC_ENOMEM);
        lc_memory_fail_at(0);
        CHECK(lc_memory_get().live == live);
    }
}

int main(void) {
    strcpy(directory, "/tmp/lacuna-test-XXXXXX");
    if (!mkdtemp(directory)) return 1;
    snprintf(path, sizeof path, "%s/hostile.pt", directory);
    for (int i = 0; i < FLOATS; i++) floats[i] = (float)(i % 50) / 8;
    test_kinds();
    test_names();
    test_sizes();
    test_refused_kinds();
    test_damage();
    test_failing_memory();
    CHECK_OK(lc_remove_tree(directory));
    return check_done();
}
