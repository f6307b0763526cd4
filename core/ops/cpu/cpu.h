/* cpu.h: the kernels of the cpu backend. Each overrides a row of ref: the same results to rounding, on all threads, in
 * vector code. A kernel that is given a type or layout it has no fast way for hands the call to ref. Private to
 * core/ops/cpu.
 *
 * Kernels cut work by shape alone (GRAIN elements to a piece), so their results do not depend on the number of threads.
 */
#ifndef LC_CPU_H
#define LC_CPU_H

#include "base/memory.h"
#include "base/pool.h"
#include "ops/backend.h"
#include "ops/cpu/simd.h"

/* Elements that are worth waking a thread for. */
#define GRAIN (16 << 10)

static inline lc_status cpu_on_ref(const lc_call *call) {
    return lc_backend_ref.kernel[call->op](call);
}

/* Rows of `length` elements in pieces of about GRAIN elements. */
static inline int64_t cpu_row_grain(int64_t length) {
    return lc_max(1, GRAIN / lc_max(length, 1));
}

/* y[i] = block(operands[i] ...) over strided operands of one shape; element sizes are those of the dtypes. */
lc_status cpu_map(lc_block block, const lc_attr *attr, lc_tensor *y, lc_tensor *const *x, int n);

/* lc_iter_init, walking along the last operand as it lies in memory. */
void cpu_walk(lc_iter *it, int n, lc_tensor *const *t);

/* elementwise.c */
lc_status cpu_elementwise(const lc_call *call);
lc_status cpu_where(const lc_call *call);
lc_status cpu_pow(const lc_call *call);
/* Runs `kernel` with contiguous stand-ins for its outputs, and copies them over. */
lc_status cpu_by_contiguous_outputs(const lc_call *call, lc_kernel kernel);
/* matmul.c */
lc_status cpu_matmul(const lc_call *call);
lc_status cpu_linear(const lc_call *call);
/* rows.c */
lc_status cpu_softmax(const lc_call *call); /* and log_softmax, and their backward rows */
lc_status cpu_layer_norm(const lc_call *call);
lc_status cpu_rms_norm(const lc_call *call);
lc_status cpu_layer_norm_backward(const lc_call *call);
lc_status cpu_rms_norm_backward(const lc_call *call);
lc_status cpu_dropout(const lc_call *call);
lc_dropout cpu_dropout_of(double rate, uint64_t key, uint64_t counter);
/* rotary.c */
lc_status cpu_rotary(const lc_call *call);
/* attention.c, attention_backward.c */
lc_status cpu_attention(const lc_call *call);
lc_status cpu_attention_backward(const lc_call *call);
/* loss.c */
lc_status cpu_cross_entropy(const lc_call *call);
lc_status cpu_cross_entropy_backward(const lc_call *call);
lc_status cpu_linear_cross_entropy(const lc_call *call); /* attr.add: dw is added to */
/* update.c */
lc_status cpu_adamw_step(const lc_call *call);
lc_status cpu_sgd_step(const lc_call *call);
lc_status cpu_zero_pruned(const lc_call *call);
lc_status cpu_square_sum(const lc_call *call);
/* embedding.c */
lc_status cpu_embedding(const lc_call *call);
lc_status cpu_embedding_backward(const lc_call *call);
/* reduce.c */
lc_status cpu_reduce(const lc_call *call);
lc_status cpu_sum_to(const lc_call *call);
lc_status cpu_cumsum(const lc_call *call);
/* order.c */
lc_status cpu_sort(const lc_call *call); /* and topk */
lc_status cpu_kthvalue(const lc_call *call);
lc_status cpu_quantile(const lc_call *call);
lc_status cpu_keep(const lc_call *call);
/* select.c */
/* Indices (`what` is the word for one) as int64_t, checked against 0..size-1; lc_free. */
lc_status cpu_read_indices(const lc_call *call, lc_tensor *indices, int64_t size, const char *what, int64_t **out);
lc_status cpu_index(const lc_call *call);
lc_status cpu_gather(const lc_call *call);
lc_status cpu_cat(const lc_call *call);
lc_status cpu_masked_fill(const lc_call *call);
/* scatter.c */
lc_status cpu_scatter(const lc_call *call);
lc_status cpu_index_add(const lc_call *call);
lc_status cpu_triangle(const lc_call *call);
/* solve.c */
lc_status cpu_cholesky(const lc_call *call);
lc_status cpu_solve_triangular(const lc_call *call);
/* eigen.c */
lc_status cpu_inverse(const lc_call *call);
lc_status cpu_eigh(const lc_call *call);
/* copy.c */
lc_status cpu_copy(const lc_call *call);
lc_status cpu_fill(const lc_call *call);

#endif
