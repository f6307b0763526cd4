/* cpu.c: the table of the cpu backend: ref, with the rows that this directory does better. */
#include "ops/cpu/cpu.h"
#include "ops/gemm_avx512.h"

const lc_simd *lc_simd_get(void) {
    static const lc_simd *chosen;
    if (!chosen) {
        __builtin_cpu_init();
        bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        bool avx512 = avx2 && lc_has_avx512();
        chosen = avx512 ? &lc_simd_avx512 : avx2 ? &lc_simd_avx2 : &lc_simd_plain;
    }
    return chosen;
}

static const lc_backend cpu = {
    .name = "cpu",
    .kernel =
        {
            [LC_OP_COPY] = cpu_copy,
            [LC_OP_FILL] = cpu_fill,
            [LC_OP_NEG... LC_OP_MOD] = cpu_elementwise,
            [LC_OP_MINIMUM... LC_OP_XOR] = cpu_elementwise,
            [LC_OP_POW] = cpu_pow,
            [LC_OP_WHERE] = cpu_where,
            [LC_OP_SUM... LC_OP_ALL] = cpu_reduce,
            [LC_OP_CUMSUM] = cpu_cumsum,
            [LC_OP_LOGSUMEXP] = cpu_reduce,
            [LC_OP_SUM_TO] = cpu_sum_to,
            [LC_OP_SORT] = cpu_sort,
            [LC_OP_TOPK] = cpu_sort,
            [LC_OP_KTH] = cpu_kthvalue,
            [LC_OP_QUANTILE] = cpu_quantile,
            [LC_OP_KEEP] = cpu_keep,
            [LC_OP_GATHER] = cpu_gather,
            [LC_OP_INDEX] = cpu_index,
            [LC_OP_SCATTER] = cpu_scatter,
            [LC_OP_INDEX_ADD] = cpu_index_add,
            [LC_OP_TRIANGLE] = cpu_triangle,
            [LC_OP_CAT] = cpu_cat,
            [LC_OP_MASKED_FILL] = cpu_masked_fill,
            [LC_OP_CHOLESKY] = cpu_cholesky,
            [LC_OP_INVERSE] = cpu_inverse,
            [LC_OP_EIGH] = cpu_eigh,
            [LC_OP_SOLVE_TRIANGULAR] = cpu_solve_triangular,
            [LC_OP_MATMUL] = cpu_matmul,
            [LC_OP_LINEAR] = cpu_linear,
            [LC_OP_SOFTMAX... LC_OP_LOG_SOFTMAX_BACKWARD] = cpu_softmax,
            [LC_OP_LAYER_NORM] = cpu_layer_norm,
            [LC_OP_LAYER_NORM_BACKWARD] = cpu_layer_norm_backward,
            [LC_OP_RMS_NORM] = cpu_rms_norm,
            [LC_OP_RMS_NORM_BACKWARD] = cpu_rms_norm_backward,
            [LC_OP_DROPOUT] = cpu_dropout,
            [LC_OP_EMBEDDING] = cpu_embedding,
            [LC_OP_EMBEDDING_BACKWARD] = cpu_embedding_backward,
            [LC_OP_ROTARY] = cpu_rotary,
            [LC_OP_ATTENTION] = cpu_attention,
            [LC_OP_ATTENTION_BACKWARD] = cpu_attention_backward,
            [LC_OP_CROSS_ENTROPY] = cpu_cross_entropy,
            [LC_OP_CROSS_ENTROPY_BACKWARD] = cpu_cross_entropy_backward,
            [LC_OP_LINEAR_CROSS_ENTROPY] = cpu_linear_cross_entropy,
            [LC_OP_SQUARE_SUM] = cpu_square_sum,
            [LC_OP_ADAMW_STEP] = cpu_adamw_step,
            [LC_OP_SGD_STEP] = cpu_sgd_step,
            [LC_OP_ZERO_PRUNED] = cpu_zero_pruned,
        },
};

const lc_backend *lc_backend_cpu(void) {
    return &cpu;
}
