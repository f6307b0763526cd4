/* hash.h: content hashes (XXH3 of xxHash) for caches, manifests and stream keys. Not cryptographic. */
#ifndef LC_HASH_H
#define LC_HASH_H

#include "base/status.h"

uint64_t lc_hash64(const void *data, size_t length, uint64_t seed);
/* 128-bit hash as 32 hex digits and a NUL. */
void lc_hash_hex(const void *data, size_t length, char out[33]);
lc_status lc_hash_file(const char *path, char out[33]);

#endif
