/* bytes.h: binary files for C checks, put together number by number, little-endian. */
#ifndef LC_TESTS_BYTES_H
#define LC_TESTS_BYTES_H

#include "base/file.h"
#include "check.h"

#define BYTES_MAX 65536

typedef struct bytes {
    uint8_t data[BYTES_MAX];
    size_t length;
} bytes;

static inline void put(bytes *b, const void *data, size_t length) {
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

/* The lowest `width` bytes of `value`. */
static inline void put_uint(bytes *b, uint64_t value, int width) {
    for (int i = 0; i < width; i++) b->data[b->length++] = (uint8_t)(value >> (8 * i));
}

static inline void put_zeros(bytes *b, size_t count) {
    memset(b->data + b->length, 0, count);
    b->length += count;
}

/* Writes the first `length` bytes; not by lc_file_write nor over an old file, which both wait for the disk. */
static inline void write_bytes(const bytes *b, size_t length, const char *path) {
    remove(path);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(b->data, 1, length, f) == length);
    if (f) fclose(f);
}

#endif
