/* dtype.h: element types. bf16 and f16 are storage: they are read, written and cast, and ops refuse them. */
#ifndef LC_DTYPE_H
#define LC_DTYPE_H

#include "base/status.h"

/* In promotion order: an operation on two types works in the later one. */
typedef enum lc_dtype { LC_BOOL, LC_U8, LC_I32, LC_I64, LC_F16, LC_BF16, LC_F32, LC_F64, LC_DTYPES } lc_dtype;

size_t lc_dtype_size(lc_dtype d);
const char *lc_dtype_name(lc_dtype d);                     /* "bool" "u8" "i32" "i64" "f16" "bf16" "f32" "f64" */
lc_status lc_dtype_parse(const char *name, lc_dtype *out); /* also the long forms: float32, int64 ... */
static inline bool lc_dtype_is_float(lc_dtype d) {
    return d >= LC_F16;
}
static inline bool lc_dtype_is_half(lc_dtype d) {
    return d == LC_F16 || d == LC_BF16;
}
lc_dtype lc_dtype_promote(lc_dtype a, lc_dtype b);

float lc_f16_to_f32(uint16_t h);
uint16_t lc_f32_to_f16(float f); /* nearest even; NaN stays NaN */
float lc_bf16_to_f32(uint16_t h);
uint16_t lc_f32_to_bf16(float f); /* nearest even; NaN stays NaN */

#endif
