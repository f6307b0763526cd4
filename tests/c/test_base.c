/* test_base.c: status, memory, pool, random streams, hashing, files. */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "base/strbuf.h"

static void test_status(void) {
    CHECK(lc_fail(LC_EINVAL, "rate: %d", 7) == LC_EINVAL);
    CHECK(strcmp(lc_message(), "rate: 7") == 0);
    lc_fail_within(LC_EINVAL, "layer %d", 3);
    CHECK(strcmp(lc_message(), "layer 3: rate: 7") == 0);
    lc_fail(LC_EINVAL, "again: %s", lc_message());
    CHECK(strcmp(lc_message(), "again: layer 3: rate: 7") == 0);
    for (int i = 0; i < 3000; i++) lc_fail_within(LC_EINVAL, "deep");
    CHECK(strlen(lc_message()) < 4096);
}

static void test_memory(void) {
    size_t before = lc_memory_get().live;
    void *small = lc_alloc(100), *buffer = lc_buffer_new(1000000);
    CHECK((uintptr_t)buffer % 64 == 0);
    CHECK(lc_memory_get().live >= before + 1000100);
    CHECK(lc_memory_get().peak >= lc_memory_get().live);
    lc_buffer_free(buffer, 1000000);
    CHECK(lc_buffer_new(1000000) == buffer); /* released buffers come back */
    lc_buffer_free(buffer, 1000000);
    lc_free(small);
    CHECK(lc_memory_get().live == before);
    /* A buffer of one class never serves a larger request. */
    for (size_t n = 1; n < 100000; n = n * 17 / 16 + 1) {
        char *p = lc_buffer_new(n);
        memset(p, 1, n);
        lc_buffer_free(p, n);
    }
    lc_memory_fail_at(2);
    void *first = lc_alloc(8);
    CHECK(first != NULL);
    CHECK(lc_alloc(8) == NULL);
    CHECK(strstr(lc_message(), "out of memory: 8 bytes more") != NULL);
    void *third = lc_alloc(8);
    CHECK(third != NULL);
    lc_free(first);
    lc_free(third);
    CHECK(lc_calloc(SIZE_MAX / 2, 4) == NULL);
    CHECK(lc_buffer_new(SIZE_MAX - 5) == NULL);
    lc_memory_trim();
    CHECK(lc_memory_get().cached == 0);
    CHECK(lc_resident_peak() > 0 && lc_resident_now() > 0);
}

static void mark(void *context, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) ((int *)context)[i]++;
}

static void nested(void *context, int64_t i) {
    lc_parallel_range(100, 7, mark, (int *)context + i * 100);
}

static void cancel_at_five(void *context, int64_t i) {
    ((int *)context)[i]++;
    if (i == 5) lc_cancel();
}

static void test_pool(void) {
    static int hits[10000];
    for (int threads = 1; threads <= 3; threads++) {
        CHECK_OK(lc_set_threads(threads));
        memset(hits, 0, sizeof hits);
        CHECK_OK(lc_parallel_range(10000, 33, mark, hits));
        CHECK_OK(lc_parallel(100, nested, hits));
        bool right = true;
        for (int i = 0; i < 10000; i++) right = right && hits[i] == 2;
        CHECK(right);
    }
    memset(hits, 0, sizeof hits);
    CHECK_MESSAGE(lc_parallel(10000, cancel_at_five, hits), LC_ECANCEL, "interrupted");
    CHECK(hits[9999] == 0);
    CHECK(lc_cancel_pending());
    lc_cancel_hold();
    CHECK_OK(lc_parallel(100, nested, hits));
    lc_cancel_release();
    CHECK_MESSAGE(lc_poll(), LC_ECANCEL, "interrupted");
    lc_cancel_clear();
    CHECK_OK(lc_poll());
    CHECK_MESSAGE(lc_set_threads(0), LC_EINVAL, "threads: 0 is out of range");
}

/* Known answers of the Random123 distribution for philox4x32-10, all-zero and all-one counter words in x0 and x1. */
static void test_random(void) {
    uint32_t r[4];
    lc_philox(0, 0, r);
    CHECK(r[0] == 0x6627e8d5 && r[1] == 0xe169c58d && r[2] == 0xbc57ac4c && r[3] == 0x9b00dbd8);
    lc_stream a = lc_stream_make(7, "init"), b = lc_stream_make(7, "init"), c = lc_stream_make(7, "dropout");
    CHECK(lc_stream_u64(&a) == lc_stream_u64(&b));
    CHECK(a.key != c.key);
    static float x[100001], y[100001];
    a = b;
    lc_set_threads(1);
    CHECK_OK(lc_stream_fill_normal_f32(&a, x, 100001));
    lc_set_threads(2);
    CHECK_OK(lc_stream_fill_normal_f32(&b, y, 100001));
    CHECK(memcmp(x, y, sizeof x) == 0 && a.counter == b.counter);
    double sum = 0, square = 0;
    for (int i = 0; i < 100001; i++) sum += x[i], square += (double)x[i] * x[i];
    CHECK_NEAR(sum / 100001, 0, 0.02);
    CHECK_NEAR(square / 100001, 1, 0.02);
    int64_t order[1000];
    bool seen[1000] = {0}, whole = true;
    lc_stream_permutation(&a, order, 1000);
    for (int i = 0; i < 1000; i++) seen[order[i]] = true;
    for (int i = 0; i < 1000; i++) whole = whole && seen[i];
    CHECK(whole);
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++) counts[lc_stream_below(&a, 7)]++;
    for (int i = 0; i < 7; i++) CHECK_NEAR(counts[i], 10000, 500);
}

static void test_files(void) {
    char dir[] = "/tmp/lacuna-test-XXXXXX", *deep, *path, *text = NULL, hex[33];
    if (!mkdtemp(dir)) return;
    size_t length;
    deep = lc_path_join(dir, "a/b/c");
    CHECK_OK(lc_make_dirs(deep));
    CHECK_OK(lc_make_dirs(deep));
    path = lc_path_join(deep, "file");
    CHECK_MESSAGE(lc_file_read(path, 0, &text, &length), LC_ENOTFOUND,
                  "cannot open: No such file or directory; check the path");
    CHECK_OK(lc_file_write(path, "hello", 5));
    CHECK_OK(lc_file_append(path, " there\n", 7));
    CHECK_OK(lc_file_read(path, 0, &text, &length));
    CHECK(length == 12 && strcmp(text, "hello there\n") == 0);
    lc_free(text);
    CHECK_MESSAGE(lc_file_read(path, 5, &text, &length), LC_EFORMAT, "12 bytes are more than the 5");
    CHECK_MESSAGE(lc_file_read(deep, 0, &text, &length), LC_EIO, "Is a directory");
    CHECK_OK(lc_hash_file(path, hex));
    CHECK(strlen(hex) == 32);
    /* A full disk leaves the old content, and no temporary file. */
    lc_file_fail_at(1, ENOSPC);
    CHECK_MESSAGE(lc_file_write(path, "other", 5), LC_EIO, "No space left on device; free some space");
    lc_file_fail_at(1, ENOSPC);
    CHECK_MESSAGE(lc_file_append(path, "other", 5), LC_EIO, "No space left on device");
    CHECK_OK(lc_file_read(path, 0, &text, &length));
    CHECK(strcmp(text, "hello there\n") == 0);
    lc_free(text);
    CHECK_OK(lc_remove_tree(path));
    CHECK(rmdir(deep) == 0);
    CHECK_MESSAGE(lc_file_write("/proc/nowhere/x", "a", 1), LC_ENOTFOUND, "/proc/nowhere/x: cannot write");
    lc_writer *w = NULL;
    CHECK_OK(lc_writer_open(path = (lc_free(path), lc_path_join(dir, "big")), &w));
    char *block = calloc(1, 3 << 20);
    CHECK_OK(lc_writer_write(w, "x", 1));
    CHECK_OK(lc_writer_write(w, block, 3 << 20));
    CHECK(!lc_file_exists(path));
    CHECK_OK(lc_writer_commit(w));
    lc_reader *r = NULL;
    CHECK_OK(lc_reader_open(path, &r));
    CHECK(lc_reader_size(r) == 1 + (3 << 20));
    CHECK(truncate(path, 10) == 0);
    CHECK_MESSAGE(lc_reader_read(r, 5, block, 100), LC_EIO, "the file ends at byte 10");
    lc_reader_close(r);
    free(block);
    lc_lock *lock = NULL, *other = NULL;
    lc_free(path);
    path = lc_path_join(dir, "lock");
    CHECK_OK(lc_lock_take(path, &lock));
    CHECK_MESSAGE(lc_lock_take(path, &other), LC_ESTATE, "another process has this lock");
    lc_lock_release(lock);
    CHECK_OK(lc_lock_take(path, &other));
    lc_lock_release(other);
    CHECK_OK(lc_remove_tree(dir));
    CHECK(!lc_file_exists(dir));
    CHECK_OK(lc_remove_tree(dir));
    lc_free(path);
    lc_free(deep);
}

static void test_strbuf(void) {
    lc_strbuf b = {0};
    for (int i = 0; i < 100; i++) lc_strbuf_printf(&b, "%d,", i);
    char *text;
    size_t length;
    CHECK_OK(lc_strbuf_take(&b, &text, &length));
    CHECK(length == 290 && strncmp(text, "0,1,2,", 6) == 0);
    lc_free(text);
    lc_memory_fail_at(1);
    lc_strbuf_puts(&b, "lost");
    lc_strbuf_puts(&b, "too");
    CHECK_MESSAGE(lc_strbuf_take(&b, &text, &length), LC_ENOMEM, "out of memory");
}

int main(void) {
    test_status();
    test_memory();
    test_pool();
    test_random();
    test_files();
    test_strbuf();
    return check_done();
}
