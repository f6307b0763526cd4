/* bits.h: a boolean tensor packed eight to a byte: how masks are kept, at a thirty-second of their weights' size. A value:
 * never written once made. Depends on tensor. */
#ifndef LC_BITS_H
#define LC_BITS_H

#include <string.h>

#include "tensor/tensor.h"

typedef struct lc_bits {
    int64_t refs;
    int ndim;
    int64_t shape[LC_MAX_DIMS];
    /* u8 ((n + 7) / 8): element i, row-major, is bit i % 8 of byte i / 8; bits behind the last are 0. */
    lc_tensor *bytes;
} lc_bits;

/* From a bool tensor of any strides. LC_EDTYPE for another type. */
lc_status lc_bits_pack(const lc_tensor *x, lc_bits **out);
/* All of them 1. */
lc_status lc_bits_ones(int ndim, const int64_t *shape, lc_bits **out);
/* A fresh bool tensor. */
lc_status lc_bits_unpack(const lc_bits *b, lc_tensor **out);
lc_bits *lc_bits_retain(lc_bits *b);
void lc_bits_release(lc_bits *b); /* NULL is fine */

int64_t lc_bits_numel(const lc_bits *b);
int64_t lc_bits_count(const lc_bits *b); /* of those that are 1 */
bool lc_bits_has_shape(const lc_bits *b, int ndim, const int64_t *shape);
bool lc_bits_equal(const lc_bits *a, const lc_bits *b);
/* Both in one shape. */
lc_status lc_bits_and(const lc_bits *a, const lc_bits *b, lc_bits **out);
lc_status lc_bits_or(const lc_bits *a, const lc_bits *b, lc_bits **out);
lc_status lc_bits_without(const lc_bits *a, const lc_bits *b, lc_bits **out); /* a and not b */
lc_status lc_bits_not(const lc_bits *b, lc_bits **out);

/* For kernels. Bytes that n bits take. */
static inline int64_t lc_bits_bytes(int64_t n) {
    return n / 8 + (n % 8 != 0);
}
static inline bool lc_bit(const uint8_t *bytes, int64_t i) {
    return bytes[i / 8] >> i % 8 & 1;
}
/* n bits, from one whose number eight divides, as bytes of 0 and 1. */
static inline void lc_bits_spread(const uint8_t *bytes, int64_t n, uint8_t *out) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        /* Each byte of the word gets its own bit of the eight; adding 0x7f carries it to the byte's top. */
        uint64_t word = (bytes[i / 8] * 0x0101010101010101u) & 0x8040201008040201u;
        word = ((word + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u) >> 7;
        memcpy(out + i, &word, 8);
    }
    for (; i < n; i++) out[i] = lc_bit(bytes, i);
}

#endif
