/* dtype.c: names, sizes, promotion, and the two half formats. */
#include "tensor/dtype.h"

#include <string.h>

static const struct {
    const char *name, *long_name;
    size_t size;
} dtypes[LC_DTYPES] = {
    [LC_BOOL] = {"bool", "boolean", 1}, [LC_U8] = {"u8", "uint8", 1},     [LC_I32] = {"i32", "int32", 4},
    [LC_I64] = {"i64", "int64", 8},     [LC_F16] = {"f16", "float16", 2}, [LC_BF16] = {"bf16", "bfloat16", 2},
    [LC_F32] = {"f32", "float32", 4},   [LC_F64] = {"f64", "float64", 8},
};

size_t lc_dtype_size(lc_dtype d) {
    return dtypes[d].size;
}
const char *lc_dtype_name(lc_dtype d) {
    return dtypes[d].name;
}

lc_status lc_dtype_parse(const char *name, lc_dtype *out) {
    for (int d = 0; d < LC_DTYPES; d++) {
        if (strcmp(name, dtypes[d].name) == 0 || strcmp(name, dtypes[d].long_name) == 0) {
            *out = (lc_dtype)d;
            return LC_OK;
        }
    }
    return lc_fail(LC_EDTYPE, "no dtype is called '%s'; there are bool, u8, i32, i64, f16, bf16, f32, f64", name);
}

/* f16 with bf16 has no common half: f32. */
lc_dtype lc_dtype_promote(lc_dtype a, lc_dtype b) {
    if (lc_dtype_is_half(a) && lc_dtype_is_half(b) && a != b) return LC_F32;
    return a > b ? a : b;
}

static float bits_to_f32(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t f32_to_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

float lc_bf16_to_f32(uint16_t h) {
    return bits_to_f32((uint32_t)h << 16);
}

uint16_t lc_f32_to_bf16(float f) {
    uint32_t u = f32_to_bits(f);
    if (f != f) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

float lc_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3FF;
    if (exponent == 31) return bits_to_f32(sign | 0x7F800000 | mantissa << 13);
    if (exponent == 0) {
        float small = (float)mantissa * 0x1p-24f;
        return sign ? -small : small;
    }
    return bits_to_f32(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t lc_f32_to_f16(float f) {
    uint32_t u = f32_to_bits(f);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    float a = bits_to_f32(u & 0x7FFFFFFF);
    if (f != f) return sign | 0x7E00;
    if (a >= 65520.0f) return sign | 0x7C00;
    if (a < 0x1p-14f) { /* subnormal: adding 0.5 leaves the rounded mantissa in the last bits */
        float shifted = a + 0.5f;
        return (uint16_t)(sign | (f32_to_bits(shifted) - 0x3F000000));
    }
    uint32_t b = f32_to_bits(a);
    b += 0xFFF + (b >> 13 & 1);
    return (uint16_t)(sign | (b - 0x38000000) >> 13);
}
