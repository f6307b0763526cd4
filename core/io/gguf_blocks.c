/* gguf_blocks.c: ggml's block formats; see gguf_blocks.h.
 *
 * A block holds q, small integers, and one or two f16 factors: an element is d q (types _0) or d q + m (types _1). The
 * "K" types hold 256 elements in sub-blocks of 16 or 32, each with a small integer scale s, and where there is an
 * offset a small integer o, so that an element is (d s) q - (dmin o). Products are in f32, in that order, so that results
 * equal those of the `gguf` package bit for bit. */
#include "io/gguf_blocks.h"

#include <stddef.h>

static float f16_at(const uint8_t *bytes) {
    return lc_f16_to_f32((uint16_t)(bytes[0] | bytes[1] << 8));
}

/* -- blocks of 32: the low nibbles are elements 0..15, the high ones 16..31 ---------------------- */

static int nibble(const uint8_t *q, int i) {
    return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

/* The fifth bit of element i. */
static int fifth_bit(const uint8_t *high, int i) {
    return (high[i / 8] >> (i % 8) & 1) << 4;
}

static void decode_q4_0(const uint8_t *b, float *out) {
    float d = f16_at(b);
    for (int i = 0; i < 32; i++) out[i] = d * (float)(nibble(b + 2, i) - 8);
}

static void decode_q4_1(const uint8_t *b, float *out) {
    float d = f16_at(b), m = f16_at(b + 2);
    for (int i = 0; i < 32; i++) out[i] = d * (float)nibble(b + 4, i) + m;
}

static void decode_q5_0(const uint8_t *b, float *out) {
    float d = f16_at(b);
    for (int i = 0; i < 32; i++) out[i] = d * (float)((nibble(b + 6, i) | fifth_bit(b + 2, i)) - 16);
}

static void decode_q5_1(const uint8_t *b, float *out) {
    float d = f16_at(b), m = f16_at(b + 2);
    for (int i = 0; i < 32; i++) out[i] = d * (float)(nibble(b + 8, i) | fifth_bit(b + 4, i)) + m;
}

static void decode_q8_0(const uint8_t *b, float *out) {
    float d = f16_at(b);
    for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)b[2 + i] * d;
}

/* -- blocks of 256 ------------------------------------------------------------------------------ */

/* 16 bytes of scale (low) and offset (high), 64 of q, d, dmin. Two bits per element: each run of 32 bytes holds 128
 * elements, 32 in each pair of bits. */
static void decode_q2_k(const uint8_t *b, float *out) {
    const uint8_t *scales = b, *q = b + 16;
    float d = f16_at(b + 80), dmin = f16_at(b + 82);
    for (int i = 0; i < 256; i++) {
        float scale = d * (float)(scales[i / 16] & 15), offset = dmin * (float)(scales[i / 16] >> 4);
        int bits = q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        out[i] = scale * (float)bits - offset;
    }
}

/* Scale s of 16, 6 bits each in 12 bytes: the low four in bytes 0..7, the high two in bytes 8..11; less 32. */
static int q3_k_scale(const uint8_t *packed, int s) {
    int low = s < 8 ? packed[s] & 15 : packed[s - 8] >> 4, high = packed[8 + s % 4] >> (s / 4 * 2) & 3;
    return (low | high << 4) - 32;
}

/* 32 bytes of third bits, 64 of q as in Q2_K, 12 of scales, d. A third bit that is not set takes four off. */
static void decode_q3_k(const uint8_t *b, float *out) {
    const uint8_t *third = b, *q = b + 32, *scales = b + 96;
    float d = f16_at(b + 108);
    for (int i = 0; i < 256; i++) {
        int bits = q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        int four = third[i % 32] >> (i / 32) & 1 ? 0 : 4;
        out[i] = d * (float)q3_k_scale(scales, i / 16) * (float)(bits - four);
    }
}

/* Scale and offset s of 8, 6 bits each in 12 bytes: those of 0..3 in bytes 0..3 and 4..7; of 4..7 the low four bits in
 * bytes 8..11 and the high two above those of 0..3. */
static void k_scale(const uint8_t *packed, int s, int *scale, int *offset) {
    if (s < 4) {
        *scale = packed[s] & 63;
        *offset = packed[s + 4] & 63;
    } else {
        *scale = (packed[s + 4] & 15) | packed[s - 4] >> 6 << 4;
        *offset = packed[s + 4] >> 4 | packed[s] >> 6 << 4;
    }
}

/* d, dmin, 12 bytes of scales, then nibbles: each run of 32 bytes holds 64 elements, the first 32 in the low ones. */
static void decode_q4_k(const uint8_t *b, float *out) {
    float d = f16_at(b), dmin = f16_at(b + 2);
    for (int s = 0; s < 8; s++) {
        int scale, offset;
        k_scale(b + 4, s, &scale, &offset);
        float ds = d * (float)scale, dm = dmin * (float)offset;
        const uint8_t *q = b + 16 + s / 2 * 32;
        for (int i = 0; i < 32; i++) out[32 * s + i] = ds * (float)(q[i] >> (s % 2 * 4) & 15) - dm;
    }
}

/* As Q4_K, with 32 bytes of fifth bits before the nibbles: bit s of byte i belongs to element i of sub-block s. */
static void decode_q5_k(const uint8_t *b, float *out) {
    float d = f16_at(b), dmin = f16_at(b + 2);
    const uint8_t *fifth = b + 16;
    for (int s = 0; s < 8; s++) {
        int scale, offset;
        k_scale(b + 4, s, &scale, &offset);
        float ds = d * (float)scale, dm = dmin * (float)offset;
        const uint8_t *q = b + 48 + s / 2 * 32;
        for (int i = 0; i < 32; i++)
            out[32 * s + i] = ds * (float)((q[i] >> (s % 2 * 4) & 15) | (fifth[i] >> s & 1) << 4) - dm;
    }
}

/* 128 bytes of nibbles, 64 of the two bits above them, 16 signed scales, d. Each half of the block: 64 bytes of nibbles,
 * 32 bytes with four pairs of bits. */
static void decode_q6_k(const uint8_t *b, float *out) {
    const uint8_t *scales = b + 192;
    float d = f16_at(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i % 128 / 32;
        int low = b[half * 64 + i % 64] >> (quarter / 2 * 4) & 15;
        int high = b[128 + half * 32 + i % 32] >> (quarter * 2) & 3;
        out[i] = d * (float)(int8_t)scales[i / 16] * (float)((low | high << 4) - 32);
    }
}

/* -- the table ---------------------------------------------------------------------------------- */

static const lc_gguf_block blocks[] = {
    [0] = {"F32", 1, 4, LC_F32, NULL},
    [1] = {"F16", 1, 2, LC_F16, NULL},
    [2] = {"Q4_0", 32, 18, LC_F32, decode_q4_0},
    [3] = {"Q4_1", 32, 20, LC_F32, decode_q4_1},
    [6] = {"Q5_0", 32, 22, LC_F32, decode_q5_0},
    [7] = {"Q5_1", 32, 24, LC_F32, decode_q5_1},
    [8] = {"Q8_0", 32, 34, LC_F32, decode_q8_0},
    [9] = {"Q8_1", 32, 40, LC_DTYPES, NULL},
    [10] = {"Q2_K", 256, 84, LC_F32, decode_q2_k},
    [11] = {"Q3_K", 256, 110, LC_F32, decode_q3_k},
    [12] = {"Q4_K", 256, 144, LC_F32, decode_q4_k},
    [13] = {"Q5_K", 256, 176, LC_F32, decode_q5_k},
    [14] = {"Q6_K", 256, 210, LC_F32, decode_q6_k},
    [15] = {"Q8_K", 256, 292, LC_DTYPES, NULL},
    [16] = {"IQ2_XXS", 256, 66, LC_DTYPES, NULL},
    [17] = {"IQ2_XS", 256, 74, LC_DTYPES, NULL},
    [18] = {"IQ3_XXS", 256, 98, LC_DTYPES, NULL},
    [19] = {"IQ1_S", 256, 50, LC_DTYPES, NULL},
    [20] = {"IQ4_NL", 32, 18, LC_DTYPES, NULL},
    [21] = {"IQ3_S", 256, 110, LC_DTYPES, NULL},
    [22] = {"IQ2_S", 256, 82, LC_DTYPES, NULL},
    [23] = {"IQ4_XS", 256, 136, LC_DTYPES, NULL},
    [24] = {"I8", 1, 1, LC_DTYPES, NULL},
    [25] = {"I16", 1, 2, LC_DTYPES, NULL},
    [26] = {"I32", 1, 4, LC_I32, NULL},
    [27] = {"I64", 1, 8, LC_I64, NULL},
    [28] = {"F64", 1, 8, LC_F64, NULL},
    [29] = {"IQ1_M", 256, 56, LC_DTYPES, NULL},
    [30] = {"BF16", 1, 2, LC_BF16, NULL},
    [34] = {"TQ1_0", 256, 54, LC_DTYPES, NULL},
    [35] = {"TQ2_0", 256, 66, LC_DTYPES, NULL},
    [39] = {"MXFP4", 32, 17, LC_DTYPES, NULL},
    [40] = {"NVFP4", 64, 36, LC_DTYPES, NULL},
    [41] = {"Q1_0", 128, 18, LC_DTYPES, NULL},
};

const lc_gguf_block *lc_gguf_block_of(uint32_t type) {
    return type < sizeof blocks / sizeof *blocks && blocks[type].name ? &blocks[type] : NULL;
}
