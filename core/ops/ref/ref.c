/* ref.c: the table of reference kernels, complete by construction, and the walk along a dimension that they share. */
#include "ops/ref/ref.h"
#include "ops/backend.h"

const lc_backend lc_backend_ref = {
    .name = "ref",
    .kernel =
        {
#define LC_OP(ENUM, name, infer, inputs, outputs, types, layout) [LC_OP_##ENUM] = lc_ref_##name,
#include "ops/ops.def"
#undef LC_OP
        },
};

int64_t ref_lines(const lc_tensor *t, int dim) {
    if (dim < 0) return 1;
    int64_t count = 1;
    for (int d = 0; d < t->ndim; d++)
        if (d != dim) count *= t->shape[d];
    return count;
}

ref_line ref_line_at(lc_tensor *t, int dim, int64_t number) {
    if (dim < 0) return (ref_line){.t = t, .length = lc_numel(t), .all = true};
    ref_line line = {.t = t, .length = t->shape[dim], .start = t->offset, .stride = t->strides[dim]};
    for (int d = t->ndim - 1; d >= 0; d--) {
        if (d == dim) continue;
        line.start += number % t->shape[d] * t->strides[d];
        number /= t->shape[d];
    }
    return line;
}
