/* simd_avx512.c: the inner loops for CPUs with AVX-512 F, BW, DQ and VL. */
#ifdef __clang__ /* the fuzzers' compiler */
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c,prefer-vector-width=512")
#pragma GCC optimize("O3,no-math-errno,no-trapping-math")
#endif
#define LANES 16
#define SIMD lc_simd_avx512
#define SIMD_NAME "avx512"
#include "ops/cpu/simd_body.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
