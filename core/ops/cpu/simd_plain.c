/* simd_plain.c: the inner loops for any CPU. */
#ifndef __clang__
#pragma GCC optimize("O3,no-math-errno,no-trapping-math")
#endif
#define LANES 4
#define SIMD lc_simd_plain
#define SIMD_NAME "plain"
#include "ops/cpu/simd_body.h"
