/* simd_plain.c: the inner loops for any CPU. */
#pragma GCC optimize("O3,no-math-errno,no-trapping-math")
#define LANES 4
#define SIMD lc_simd_plain
#define SIMD_NAME "plain"
#include "ops/cpu/simd_body.h"
