/* simd_math.h: elementary functions as short polynomials without branches, so that loops over them become vector code.
 * The errors are in simd.h; f64 uses the C library. Included by simd_body.h, once for each instruction set. */
#ifndef LC_SIMD_MATH_H
#define LC_SIMD_MATH_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* -- elementary functions in f32 --------------------------------------------------------------- */

static inline uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float with_sign_of(float magnitude, float x) {
    return float_of((bits_of(magnitude) & 0x7fffffffu) | (bits_of(x) & 0x80000000u));
}

/* (exp(r) - 1 - r) / r^2 on |r| <= ln 2 / 2: minimax, relative error of exp 6e-11. */
static inline float exp_tail(float r) {
    float q = 1.9790345687e-4f;
    q = q * r + 1.3944660313e-3f;
    q = q * r + 8.3334967494e-3f;
    q = q * r + 4.1666295379e-2f;
    q = q * r + 1.6666665673e-1f;
    return q * r + 0.5f;
}

/* x = n ln 2 + r; ln 2 in two parts, so that n times the first is exact. */
static inline float reduce_exp(float x, float *n) {
    *n = rintf(x * 1.44269504f);
    return (x - *n * 0.693359375f) + *n * 2.12194440e-4f;
}

/* 2^n in two factors, since n goes beyond the exponents of normal numbers. NaN stays NaN in the other factor. */
static inline float exp_f32(float x) {
    float n;
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float r = reduce_exp(x, &n);
    float p = (exp_tail(r) * r * r + r) + 1.0f;
    int32_t k = (int32_t)n, half = k >> 1;
    return p * float_of((uint32_t)(half + 127) << 23) * float_of((uint32_t)(k - half + 127) << 23);
}

/* exp(x) - 1 = 2 (t p + (t - 1/2)) with t = 2^(n-1), p = exp(r) - 1. */
static inline float expm1_f32(float x) {
    float n;
    x = x < -40.0f ? -40.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float r = reduce_exp(x, &n);
    float p = exp_tail(r) * r * r + r;
    float t = float_of((uint32_t)((int32_t)n + 126) << 23);
    return 2.0f * (t * p + (t - 0.5f));
}

static inline float tanh_f32(float x) {
    float a = fabsf(x);
    a = a > 10.0f ? 10.0f : a;
    float e = expm1_f32(2.0f * a);
    return with_sign_of(e / (e + 2.0f), x);
}

static inline float sigmoid_f32(float x) {
    return 1.0f / (1.0f + exp_f32(-x));
}

/* erfc(a) = exp(-a g(a)); g is smooth, a minimax polynomial on 0..4, beyond which erf is 1. */
static inline float erf_f32(float x) {
    float a = fabsf(x);
    a = a > 4.0f ? 4.0f : a;
    float g = 4.3597679905e-5f;
    g = g * a - 4.0243519470e-4f;
    g = g * a + 1.3129801955e-3f;
    g = g * a + 1.2036086264e-4f;
    g = g * a - 1.9261131063e-2f;
    g = g * a + 1.0279371589e-1f;
    g = g * a + 6.3661932945e-1f;
    g = g * a + 1.1283791065e0f;
    return with_sign_of(-expm1_f32(-a * g), x);
}

/* x = 2^e m, m in sqrt(1/2)..sqrt(2); log m = f - f^2/2 + f^3 p(f), f = m - 1: minimax, relative error 6e-9. */
static inline float log_f32(float x) {
    bool tiny = x < FLT_MIN;
    uint32_t u = bits_of(tiny ? x * 8388608.0f : x);
    int32_t e = (int32_t)(u - 0x3f3504f3u) >> 23;
    float f = float_of(u - ((uint32_t)e << 23)) - 1.0f, n = (float)(e - (tiny ? 23 : 0));
    float p = -7.6344296336e-2f;
    p = p * f + 1.2761549652e-1f;
    p = p * f - 1.3160194457e-1f;
    p = p * f + 1.4201761782e-1f;
    p = p * f - 1.6623356938e-1f;
    p = p * f + 2.0001226664e-1f;
    p = p * f - 2.5000822544e-1f;
    p = p * f + 3.3333331347e-1f;
    float r = (p * f * f * f - n * 2.12194440e-4f) - 0.5f * f * f + f + n * 0.693359375f;
    r = x > FLT_MAX ? x : r;
    r = x == 0.0f ? -INFINITY : r;
    r = x < 0.0f ? NAN : r;
    return x != x ? x : r;
}

/* log(1 + x) with what rounding 1 + x lost put back. */
static inline float log1p_f32(float x) {
    float u = 1.0f + x, lost = x - (u - 1.0f);
    float r = log_f32(u);
    return u > 0.0f && u <= FLT_MAX ? r + lost / u : r;
}

static inline float normal_below_f32(float x) {
    return 0.5f + 0.5f * erf_f32(x * 0.70710678f);
}
static inline float normal_density_f32(float x) {
    return 0.39894228f * exp_f32(-0.5f * x * x);
}
/* 1 + tanh(u) = 2 sigmoid(2u), so this is x sigmoid(2u) with 2u = 2 sqrt(2/pi) (x + 0.044715 x^3). */
static inline float gelu_tanh_gate_f32(float x) {
    return sigmoid_f32(1.5957691216f * (x + 0.044715f * x * x * x));
}
static inline float gelu_tanh_slope_f32(float x) {
    float s = gelu_tanh_gate_f32(x);
    return s + x * s * (1.0f - s) * 1.5957691216f * (1.0f + 0.134145f * x * x);
}
static inline float silu_slope_f32(float x) {
    float s = sigmoid_f32(x);
    return s * (1.0f + x * (1.0f - s));
}

/* -- and in f64 -------------------------------------------------------------------------------- */

static inline double sigmoid_f64(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}
static inline double normal_below_f64(double x) {
    return 0.5 * erfc(-x * M_SQRT1_2);
}
static inline double normal_density_f64(double x) {
    return 0.3989422804014327 * exp(-0.5 * x * x);
}
static inline double gelu_tanh_gate_f64(double x) {
    return sigmoid_f64(1.5957691216057308 * (x + 0.044715 * x * x * x));
}
static inline double gelu_tanh_slope_f64(double x) {
    double s = gelu_tanh_gate_f64(x);
    return s + x * s * (1 - s) * 1.5957691216057308 * (1 + 0.134145 * x * x);
}
static inline double silu_slope_f64(double x) {
    double s = sigmoid_f64(x);
    return s * (1 + x * (1 - s));
}

#endif
