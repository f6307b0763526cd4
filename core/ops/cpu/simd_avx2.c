/* simd_avx2.c: the inner loops for CPUs with AVX2, FMA and F16C. */
#ifdef __clang__ /* the fuzzers' compiler */
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#pragma GCC optimize("O3,no-math-errno,no-trapping-math")
#endif
#define LANES 8
#define SIMD lc_simd_avx2
#define SIMD_NAME "avx2"
#include "ops/cpu/simd_body.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
