/* simd_body.h: the loops of simd.h, included by one file for each instruction set. Elementwise loops are plain C that
 * the compiler turns into vector code; sums use vectors of LANES floats explicitly, because a compiler may not reorder
 * additions. */

#include "ops/cpu/simd.h"
#include "ops/cpu/simd_math.h"

/* y may be x: iterations are independent all the same. */
#ifdef __clang__
#define EACH for (int64_t i = 0; i < n; i++)
#else
#define EACH _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)
#endif

/* -- element by element ------------------------------------------------------------------------ */

#define UNARY(op, type, T, Y, formula)                                                                \
    static void map_##op##_##type(void *out, const void *const *in, int64_t n, const lc_attr *attr) { \
        Y *y = out;                                                                                   \
        const T *x = in[0];                                                                           \
        (void)attr;                                                                                   \
        EACH {                                                                                        \
            T a = x[i];                                                                               \
            y[i] = (Y)(formula);                                                                      \
        }                                                                                             \
    }

#define BINARY(op, type, T, Y, formula)                                                               \
    static void map_##op##_##type(void *out, const void *const *in, int64_t n, const lc_attr *attr) { \
        Y *y = out;                                                                                   \
        const T *p = in[0], *q = in[1];                                                               \
        (void)attr;                                                                                   \
        EACH {                                                                                        \
            T a = p[i], b = q[i];                                                                     \
            y[i] = (Y)(formula);                                                                      \
        }                                                                                             \
    }

/* Tests and comparisons: every type, result bool. */
#define TESTS(type, T)                                         \
    UNARY(logical_not, type, T, uint8_t, a == 0)               \
    BINARY(eq, type, T, uint8_t, a == b)                       \
    BINARY(ne, type, T, uint8_t, a != b)                       \
    BINARY(lt, type, T, uint8_t, a < b)                        \
    BINARY(le, type, T, uint8_t, a <= b)                       \
    BINARY(gt, type, T, uint8_t, a > b)                        \
    BINARY(ge, type, T, uint8_t, a >= b)                       \
    BINARY(logical_and, type, T, uint8_t, (a != 0) & (b != 0)) \
    BINARY(logical_or, type, T, uint8_t, (a != 0) | (b != 0))  \
    BINARY(logical_xor, type, T, uint8_t, (a != 0) ^ (b != 0))

/* Arithmetic on integers wraps: it is done in the unsigned type U. */
#define INTEGERS(type, T, U)                             \
    UNARY(neg, type, T, T, 0 - (U)a)                     \
    UNARY(abs, type, T, T, a > 0 ? (U)a : 0 - (U)a)      \
    UNARY(sign, type, T, T, a > 0 ? 1 : a == 0 ? 0 : -1) \
    UNARY(square, type, T, T, (U)a *(U)a)                \
    UNARY(relu, type, T, T, a > 0 ? a : 0)               \
    BINARY(add, type, T, T, (U)a + (U)b)                 \
    BINARY(sub, type, T, T, (U)a - (U)b)                 \
    BINARY(mul, type, T, T, (U)a *(U)b)                  \
    BINARY(minimum, type, T, T, a < b ? a : b)           \
    BINARY(maximum, type, T, T, a > b ? a : b)

/* s: the suffix of the C library's functions. */
#define FLOATS(type, T, s)                                                                         \
    UNARY(neg, type, T, T, -a)                                                                     \
    UNARY(abs, type, T, T, fabs##s(a))                                                             \
    UNARY(sign, type, T, T, a > 0 ? 1 : a < 0 ? -1 : a)                                            \
    UNARY(square, type, T, T, (a) * (a))                                                           \
    UNARY(floor, type, T, T, floor##s(a))                                                          \
    UNARY(ceil, type, T, T, ceil##s(a))                                                            \
    UNARY(round, type, T, T, rint##s(a))                                                           \
    UNARY(sqrt, type, T, T, sqrt##s(a))                                                            \
    UNARY(rsqrt, type, T, T, 1 / sqrt##s(a))                                                       \
    UNARY(reciprocal, type, T, T, 1 / a)                                                           \
    UNARY(sin, type, T, T, sin##s(a))                                                              \
    UNARY(cos, type, T, T, cos##s(a))                                                              \
    UNARY(relu, type, T, T, a <= 0 ? 0 : a)                                                        \
    UNARY(sigmoid, type, T, T, sigmoid_##type(a))                                                  \
    UNARY(silu, type, T, T, (a)*sigmoid_##type(a))                                                 \
    UNARY(gelu, type, T, T, (a)*normal_below_##type(a))                                            \
    UNARY(gelu_tanh, type, T, T, (a)*gelu_tanh_gate_##type(a))                                     \
    UNARY(clamp, type, T, T, clamp_##type(attr, a))                                                \
    UNARY(isnan, type, T, uint8_t, a != a)                                                         \
    UNARY(isfinite, type, T, uint8_t, a - a == 0)                                                  \
    BINARY(silu_backward, type, T, T, silu_slope_##type(a) * b)                                    \
    BINARY(gelu_backward, type, T, T, (normal_below_##type(a) + a * normal_density_##type(a)) * b) \
    BINARY(gelu_tanh_backward, type, T, T, gelu_tanh_slope_##type(a) * b)                          \
    BINARY(add, type, T, T, a + b)                                                                 \
    BINARY(sub, type, T, T, a - b)                                                                 \
    BINARY(mul, type, T, T, (a) * (b))                                                             \
    BINARY(div, type, T, T, a / b)                                                                 \
    BINARY(mod, type, T, T, mod_##type(a, b))                                                      \
    BINARY(pow, type, T, T, pow##s(a, b))                                                          \
    BINARY(minimum, type, T, T, ((a < b) | (a != a)) ? a : b) /* NaN wins */                       \
    BINARY(maximum, type, T, T, ((a > b) | (a != a)) ? a : b)

#define CLAMP_AND_MOD(type, T, s)                            \
    static inline T clamp_##type(const lc_attr *attr, T a) { \
        T low = (T)attr->a, high = (T)attr->b;               \
        a = a < low ? low : a;                               \
        return a > high ? high : a;                          \
    }                                                        \
    static inline T mod_##type(T a, T b) {                   \
        T r = fmod##s(a, b);                                 \
        return r != 0 && (r < 0) != (b < 0) ? r + b : r;     \
    }

CLAMP_AND_MOD(f32, float, f)
CLAMP_AND_MOD(f64, double, )
TESTS(u8, uint8_t)
TESTS(i32, int32_t)
TESTS(i64, int64_t)
TESTS(f32, float)
TESTS(f64, double)
INTEGERS(u8, uint8_t, uint8_t)
INTEGERS(i32, int32_t, uint32_t)
INTEGERS(i64, int64_t, uint64_t)
FLOATS(f32, float, f)
FLOATS(f64, double, )
UNARY(exp, f32, float, float, exp_f32(a))
UNARY(expm1, f32, float, float, expm1_f32(a))
UNARY(log, f32, float, float, log_f32(a))
UNARY(log1p, f32, float, float, log1p_f32(a))
UNARY(tanh, f32, float, float, tanh_f32(a))
UNARY(erf, f32, float, float, erf_f32(a))
UNARY(exp, f64, double, double, exp(a))
UNARY(expm1, f64, double, double, expm1(a))
UNARY(log, f64, double, double, log(a))
UNARY(log1p, f64, double, double, log1p(a))
UNARY(tanh, f64, double, double, tanh(a))
UNARY(erf, f64, double, double, erf(a))

/* Choices move bits: one function for each width serves all types of it. */
#define CHOOSE(width, T)                                                                          \
    static void where_##width(void *out, const void *const *in, int64_t n, const lc_attr *attr) { \
        T *y = out;                                                                               \
        const uint8_t *c = in[0];                                                                 \
        const T *p = in[1], *q = in[2];                                                           \
        (void)attr;                                                                               \
        EACH {                                                                                    \
            T a = p[i], b = q[i];                                                                 \
            y[i] = c[i] ? a : b;                                                                  \
        }                                                                                         \
    }
CHOOSE(8, uint8_t)
CHOOSE(32, uint32_t)
CHOOSE(64, uint64_t)

/* -- casts ------------------------------------------------------------------------------------- */

#define CAST(from, F, to, T, formula)                                                              \
    static void from##_to_##to(void *out, const void *const *in, int64_t n, const lc_attr *attr) { \
        T *y = out;                                                                                \
        const F *x = in[0];                                                                        \
        (void)attr;                                                                                \
        for (int64_t i = 0; i < n; i++) {                                                          \
            F a = x[i];                                                                            \
            y[i] = (T)(formula);                                                                   \
        }                                                                                          \
    }
CAST(u8, uint8_t, bool, uint8_t, a != 0)
CAST(i32, int32_t, bool, uint8_t, a != 0)
CAST(i64, int64_t, bool, uint8_t, a != 0)
CAST(f32, float, bool, uint8_t, a != 0)
CAST(f64, double, bool, uint8_t, a != 0)
CAST(u8, uint8_t, i32, int32_t, a)
CAST(u8, uint8_t, i64, int64_t, a)
CAST(i32, int32_t, i64, int64_t, a)
CAST(i64, int64_t, i32, int32_t, a<INT32_MIN ? INT32_MIN : a> INT32_MAX ? INT32_MAX : a)
CAST(u8, uint8_t, f32, float, a)
CAST(i32, int32_t, f32, float, a)
CAST(i64, int64_t, f32, float, a)
CAST(f64, double, f32, float, a)
CAST(u8, uint8_t, f64, double, a)
CAST(i32, int32_t, f64, double, a)
CAST(i64, int64_t, f64, double, a)
CAST(f32, float, f64, double, a)
CAST(bf16, uint16_t, f32, float, float_of((uint32_t)a << 16))
CAST(f32, float, bf16, uint16_t,
     a != a ? bits_of(a) >> 16 | 0x40 : (bits_of(a) + 0x7fff + (bits_of(a) >> 16 & 1)) >> 16) /* nearest even */
#ifdef __F16C__
#include <immintrin.h>
CAST(f16, uint16_t, f32, float, _cvtsh_ss(a))
CAST(f32, float, f16, uint16_t, _cvtss_sh(a, _MM_FROUND_TO_NEAREST_INT))
#else
CAST(f16, uint16_t, f32, float, lc_f16_to_f32(a))
CAST(f32, float, f16, uint16_t, lc_f32_to_f16(a))
#endif

/* -- sums -------------------------------------------------------------------------------------- */

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t lane_mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef double wide_lanes __attribute__((vector_size(4 * LANES), aligned(8), may_alias));
typedef int64_t wide_mask __attribute__((vector_size(4 * LANES), aligned(8), may_alias));

static inline lanes load(const float *x) {
    return *(const lanes *)x;
}

static inline float add_lanes(lanes a) {
    float t[LANES];
    memcpy(t, &a, sizeof t);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) t[i] += t[i + width];
    return t[0];
}

/* Sums term(i) over i < n: `vector` is the term for LANES of them, `single` for one. */
#define SUM(result, vector, single)                       \
    float result = 0;                                     \
    {                                                     \
        lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};     \
        int64_t k = 0;                                    \
        for (; k + 4 * LANES <= n; k += 4 * LANES) {      \
            int64_t i = k;                                \
            s0 += vector;                                 \
            i += LANES;                                   \
            s1 += vector;                                 \
            i += LANES;                                   \
            s2 += vector;                                 \
            i += LANES;                                   \
            s3 += vector;                                 \
        }                                                 \
        for (; k + LANES <= n; k += LANES) {              \
            int64_t i = k;                                \
            s0 += vector;                                 \
        }                                                 \
        result = add_lanes((s0 + s1) + (s2 + s3));        \
        for (int64_t i = k; i < n; i++) result += single; \
    }

static float sum(const float *x, int64_t n) {
    SUM(total, load(x + i), x[i])
    return total;
}

static float square_sum(const float *x, float center, int64_t n) {
    SUM(total, (load(x + i) - center) * (load(x + i) - center), (x[i] - center) * (x[i] - center))
    return total;
}

static float dot(const float *x, const float *y, int64_t n) {
    SUM(total, load(x + i) * load(y + i), x[i] * y[i])
    return total;
}

static inline lanes choose_lanes(lane_mask m, lanes a, lanes b) {
    return (lanes)((m & (lane_mask)a) | (~m & (lane_mask)b));
}

#define EXTREME(name, start, better)                                                                  \
    static float name(const float *x, int64_t n) {                                                    \
        lanes m0 = (lanes){0} + start, m1 = m0, m2 = m0, m3 = m0;                                     \
        int64_t i = 0;                                                                                \
        for (; i + 4 * LANES <= n; i += 4 * LANES) {                                                  \
            lanes a = load(x + i), b = load(x + i + LANES);                                           \
            lanes c = load(x + i + 2 * LANES), d = load(x + i + 3 * LANES);                           \
            m0 = choose_lanes(a better m0, a, m0);                                                    \
            m1 = choose_lanes(b better m1, b, m1);                                                    \
            m2 = choose_lanes(c better m2, c, m2);                                                    \
            m3 = choose_lanes(d better m3, d, m3);                                                    \
        }                                                                                             \
        for (; i + LANES <= n; i += LANES) m0 = choose_lanes(load(x + i) better m0, load(x + i), m0); \
        m0 = choose_lanes(m1 better m0, m1, m0);                                                      \
        m2 = choose_lanes(m3 better m2, m3, m2);                                                      \
        m0 = choose_lanes(m2 better m0, m2, m0);                                                      \
        float t[LANES], result = start;                                                               \
        memcpy(t, &m0, sizeof t);                                                                     \
        for (int j = 0; j < LANES; j++) result = t[j] better result ? t[j] : result;                  \
        for (; i < n; i++) result = x[i] better result ? x[i] : result;                               \
        return result;                                                                                \
    }
EXTREME(max, -INFINITY, >)
EXTREME(min, INFINITY, <)

static double least_after(double *y, const double *a, const double *x, const double *b, double scale, int64_t n) {
    enum { WIDE = LANES / 2 };
    wide_lanes least = (wide_lanes){0} + INFINITY;
    double result = INFINITY;
    int64_t i = 0;
    for (; i + WIDE <= n; i += WIDE) {
        wide_lanes d =
            *(const wide_lanes *)(a + i) - scale * *(const wide_lanes *)(x + i) * *(const wide_lanes *)(b + i);
        wide_mask less = d < least;
        *(wide_lanes *)(y + i) = d;
        least = (wide_lanes)((less & (wide_mask)d) | (~less & (wide_mask)least));
    }
    for (; i < n; i++) {
        y[i] = a[i] - scale * x[i] * b[i];
        result = y[i] < result ? y[i] : result;
    }
    for (int l = 0; l < WIDE; l++) result = least[l] < result ? least[l] : result;
    return result;
}

static bool any_nan(const float *x, int64_t n) {
    lane_mask found = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) found |= load(x + i) != load(x + i);
    int32_t any = 0;
    for (int k = 0; k < LANES; k++) any |= found[k];
    for (; i < n; i++) any |= x[i] != x[i];
    return any != 0;
}

/* -- rows -------------------------------------------------------------------------------------- */

static float exp_sum(float *y, const float *x, float scale, float shift, int64_t n) {
    EACH y[i] = exp_f32(x[i] * scale - shift);
    return sum(y, n);
}

static void scale(float *y, float a, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] *= a;
}

static void axpy(float *y, float a, const float *x, int64_t n) {
    EACH y[i] += a * x[i];
}

static void softmax_backward(float *dx, const float *y, const float *dy, float dot, int64_t n) {
    EACH dx[i] = y[i] * (dy[i] - dot);
}

static void normalise(float *y, const float *x, float mean, float rstd, const float *w, const float *b, int64_t n) {
    if (w && b)
        EACH y[i] = (x[i] - mean) * rstd * w[i] + b[i];
    else if (w)
        EACH y[i] = (x[i] - mean) * rstd * w[i];
    else if (b)
        EACH y[i] = (x[i] - mean) * rstd + b[i];
    else
        EACH y[i] = (x[i] - mean) * rstd;
}

static void norm_sums(const float *x, const float *dy, const float *w, float mean, float rstd, float *dw, float *db,
                      float *sum_g, float *sum_gx, int64_t n) {
    if (dw) EACH dw[i] += dy[i] * ((x[i] - mean) * rstd);
    if (db) EACH db[i] += dy[i];
    if (w) {
        SUM(g, load(dy + i) * load(w + i), dy[i] * w[i])
        SUM(gx, load(dy + i) * load(w + i) * (load(x + i) - mean), dy[i] * w[i] * (x[i] - mean))
        *sum_g = g;
        *sum_gx = gx * rstd;
    } else {
        SUM(gx, load(dy + i) * (load(x + i) - mean), dy[i] * (x[i] - mean))
        *sum_g = sum(dy, n);
        *sum_gx = gx * rstd;
    }
}

static void norm_dx(float *dx, const float *x, const float *dy, const float *w, float mean, float rstd, float mean_g,
                    float mean_gx, int64_t n) {
    if (w)
        EACH dx[i] = rstd * (dy[i] * w[i] - mean_g - (x[i] - mean) * rstd * mean_gx);
    else
        EACH dx[i] = rstd * (dy[i] - mean_g - (x[i] - mean) * rstd * mean_gx);
}

static void rotate(float *y, const float *x, const float *cosine, const float *sine, int64_t n) {
    EACH {
        float a = x[i], b = x[n + i];
        y[i] = a * cosine[i] - b * sine[i];
        y[n + i] = b * cosine[i] + a * sine[i];
    }
}

/* Blocks `counter`.. of Philox 4x32-10 (see base/random.h), 16 at a time. */
enum { PHILOX = 64 };
static void philox(uint64_t key, uint64_t counter, uint32_t out[PHILOX]) {
    for (int i = 0; i < PHILOX / 4; i++) {
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        uint32_t x0 = (uint32_t)(counter + (uint64_t)i), x1 = (uint32_t)((counter + (uint64_t)i) >> 32), x2 = 0, x3 = 0;
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
            x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
            x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
            x1 = (uint32_t)p1;
            x3 = (uint32_t)p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        out[4 * i] = x0;
        out[4 * i + 1] = x1;
        out[4 * i + 2] = x2;
        out[4 * i + 3] = x3;
    }
}

static void dropout(float *y, const float *x, const lc_dropout *d, int64_t first, int64_t n) {
    bool all = d->threshold > UINT32_MAX;
    uint32_t threshold = (uint32_t)d->threshold;
    float scale = d->scale;
    for (int64_t i = 0; i < n;) {
        int64_t skip = (first + i) % 4, count = n - i < PHILOX - skip ? n - i : PHILOX - skip;
        uint32_t random[PHILOX];
        float values[PHILOX];
        philox(d->key, d->counter + (uint64_t)(first + i) / 4, random);
        for (int k = 0; k < PHILOX; k++) values[k] = scale;
        for (int64_t k = 0; x && k < count; k++) values[skip + k] = x[i + k] * scale;
        for (int k = 0; k < PHILOX; k++) values[k] = (all | (random[k] < threshold)) ? 0 : values[k];
        memcpy(y + i, values + skip, sizeof *y * (size_t)count);
        i += count;
    }
}

/* -- the update -------------------------------------------------------------------------------- */

static void adamw(float *w, const float *g, float *m, float *v, const uint8_t *keep, const lc_adamw *a, int64_t n) {
    float scale = (float)a->grad_scale, shrink = (float)(1 - a->lr * a->weight_decay), eps = (float)a->eps;
    float beta1 = (float)a->beta1, beta2 = (float)a->beta2, rest1 = (float)(1 - a->beta1),
          rest2 = (float)(1 - a->beta2);
    float step = (float)(a->lr / a->correction1), root = (float)(1 / sqrt(a->correction2));
    EACH {
        float gi = g[i] * scale;
        float mi = beta1 * m[i] + rest1 * gi;
        float vi = beta2 * v[i] + rest2 * gi * gi;
        float wi = w[i] * shrink - step * mi / (sqrtf(vi) * root + eps);
        m[i] = mi;
        v[i] = vi;
        w[i] = wi;
    }
    if (!keep) return;
    EACH {
        bool kept = keep[i];
        w[i] = kept ? w[i] : 0;
        m[i] = kept ? m[i] : 0;
        v[i] = kept ? v[i] : 0;
    }
}

/* -- the table --------------------------------------------------------------------------------- */

#define TYPES_ALL(ENUM, name)                                                                                \
    [LC_OP_##ENUM] = {[LC_BOOL] = map_##name##_u8, [LC_U8] = map_##name##_u8,   [LC_I32] = map_##name##_i32, \
                      [LC_I64] = map_##name##_i64, [LC_F32] = map_##name##_f32, [LC_F64] = map_##name##_f64}
#define TYPES_NUMBER(ENUM, name)                   \
    [LC_OP_##ENUM] = {[LC_U8] = map_##name##_u8,   \
                      [LC_I32] = map_##name##_i32, \
                      [LC_I64] = map_##name##_i64, \
                      [LC_F32] = map_##name##_f32, \
                      [LC_F64] = map_##name##_f64}
#define TYPES_FLOAT(ENUM, name) [LC_OP_##ENUM] = {[LC_F32] = map_##name##_f32, [LC_F64] = map_##name##_f64}

const lc_simd SIMD = {
    .name = SIMD_NAME,
    .map =
        {
            TYPES_ALL(NOT, logical_not),
            TYPES_ALL(EQ, eq),
            TYPES_ALL(NE, ne),
            TYPES_ALL(LT, lt),
            TYPES_ALL(LE, le),
            TYPES_ALL(GT, gt),
            TYPES_ALL(GE, ge),
            TYPES_ALL(AND, logical_and),
            TYPES_ALL(OR, logical_or),
            TYPES_ALL(XOR, logical_xor),
            TYPES_NUMBER(NEG, neg),
            TYPES_NUMBER(ABS, abs),
            TYPES_NUMBER(SIGN, sign),
            TYPES_NUMBER(SQUARE, square),
            TYPES_NUMBER(RELU, relu),
            TYPES_NUMBER(ADD, add),
            TYPES_NUMBER(SUB, sub),
            TYPES_NUMBER(MUL, mul),
            TYPES_NUMBER(MINIMUM, minimum),
            TYPES_NUMBER(MAXIMUM, maximum),
            TYPES_FLOAT(FLOOR, floor),
            TYPES_FLOAT(CEIL, ceil),
            TYPES_FLOAT(ROUND, round),
            TYPES_FLOAT(EXP, exp),
            TYPES_FLOAT(EXPM1, expm1),
            TYPES_FLOAT(LOG, log),
            TYPES_FLOAT(LOG1P, log1p),
            TYPES_FLOAT(SQRT, sqrt),
            TYPES_FLOAT(RSQRT, rsqrt),
            TYPES_FLOAT(RECIPROCAL, reciprocal),
            TYPES_FLOAT(SIN, sin),
            TYPES_FLOAT(COS, cos),
            TYPES_FLOAT(TANH, tanh),
            TYPES_FLOAT(SIGMOID, sigmoid),
            TYPES_FLOAT(ERF, erf),
            TYPES_FLOAT(SILU, silu),
            TYPES_FLOAT(GELU, gelu),
            TYPES_FLOAT(GELU_TANH, gelu_tanh),
            TYPES_FLOAT(SILU_BACKWARD, silu_backward),
            TYPES_FLOAT(GELU_BACKWARD, gelu_backward),
            TYPES_FLOAT(GELU_TANH_BACKWARD, gelu_tanh_backward),
            TYPES_FLOAT(CLAMP, clamp),
            TYPES_FLOAT(IS_NAN, isnan),
            TYPES_FLOAT(IS_FINITE, isfinite),
            TYPES_FLOAT(DIV, div),
            TYPES_FLOAT(MOD, mod),
            TYPES_FLOAT(POW, pow),
            [LC_OP_WHERE] = {[LC_BOOL] = where_8,
                             [LC_U8] = where_8,
                             [LC_I32] = where_32,
                             [LC_I64] = where_64,
                             [LC_F32] = where_32,
                             [LC_F64] = where_64},
        },
    .cast =
        {
            [LC_BOOL] = {[LC_I32] = u8_to_i32, [LC_I64] = u8_to_i64, [LC_F32] = u8_to_f32, [LC_F64] = u8_to_f64},
            [LC_U8] = {[LC_BOOL] = u8_to_bool,
                       [LC_I32] = u8_to_i32,
                       [LC_I64] = u8_to_i64,
                       [LC_F32] = u8_to_f32,
                       [LC_F64] = u8_to_f64},
            [LC_I32] = {[LC_BOOL] = i32_to_bool, [LC_I64] = i32_to_i64, [LC_F32] = i32_to_f32, [LC_F64] = i32_to_f64},
            [LC_I64] = {[LC_BOOL] = i64_to_bool, [LC_I32] = i64_to_i32, [LC_F32] = i64_to_f32, [LC_F64] = i64_to_f64},
            [LC_F16] = {[LC_F32] = f16_to_f32},
            [LC_BF16] = {[LC_F32] = bf16_to_f32},
            [LC_F32] = {[LC_BOOL] = f32_to_bool, [LC_F16] = f32_to_f16, [LC_BF16] = f32_to_bf16, [LC_F64] = f32_to_f64},
            [LC_F64] = {[LC_BOOL] = f64_to_bool, [LC_F32] = f64_to_f32},
        },
    .sum = sum,
    .square_sum = square_sum,
    .dot = dot,
    .max = max,
    .min = min,
    .least_after = least_after,
    .any_nan = any_nan,
    .exp_sum = exp_sum,
    .scale = scale,
    .axpy = axpy,
    .softmax_backward = softmax_backward,
    .normalise = normalise,
    .norm_sums = norm_sums,
    .norm_dx = norm_dx,
    .rotate = rotate,
    .dropout = dropout,
    .adamw = adamw,
};
