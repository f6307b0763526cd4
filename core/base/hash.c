/* hash.c: see hash.h. */
#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"

uint64_t lc_hash64(const void *data, size_t length, uint64_t seed) {
    return XXH3_64bits_withSeed(data, length, seed);
}

static void to_hex(XXH128_hash_t h, char out[33]) {
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, h.high64, h.low64);
}

void lc_hash_hex(const void *data, size_t length, char out[33]) {
    to_hex(XXH3_128bits(data, length), out);
}

#define CHUNK ((size_t)1 << 20)

lc_status lc_hash_file(const char *path, char out[33]) {
    lc_reader *reader = NULL;
    LC_TRY(lc_reader_open(path, &reader));
    lc_status status = LC_OK;
    XXH3_state_t *state = XXH3_createState();
    char *chunk = lc_alloc(CHUNK);
    if (!state || !chunk) {
        status = lc_fail(LC_ENOMEM, "%s: out of memory while hashing", path);
        goto done;
    }
    XXH3_128bits_reset(state);
    uint64_t size = lc_reader_size(reader);
    for (uint64_t at = 0; at < size; at += CHUNK) {
        size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        LC_GOTO(done, lc_reader_read(reader, at, chunk, n));
        XXH3_128bits_update(state, chunk, n);
    }
    to_hex(XXH3_128bits_digest(state), out);
done:
    lc_free(chunk);
    XXH3_freeState(state);
    lc_reader_close(reader);
    return status;
}
