/* tensor.h: strided views on counted storage.
 *
 * A tensor is a view: dtype, shape, strides (in elements) and offset on a storage that others may share. Dimensions
 * count from 0, row-major when fresh. Counted references: lc_tensor_new gives one, retain adds one, release takes one.
 * Arguments are borrowed. Tensors belong to the main thread; pool threads only touch their data. */
#ifndef LC_TENSOR_H
#define LC_TENSOR_H

#include "tensor/dtype.h"

#define LC_MAX_DIMS 8

typedef enum lc_device { LC_CPU, LC_CUDA, LC_DEVICES } lc_device;
const char *lc_device_name(lc_device d);

typedef struct lc_storage {
    int64_t refs;
    uint64_t
        version; /* goes up with every in-place write: a pending backward that needs the old content then refuses */
    size_t bytes;
    void *data;
    lc_device device;
} lc_storage;

/* What records how a tensor was made; grad/ defines the rest. */
typedef struct lc_node lc_node;
struct lc_node_head {
    int64_t refs;
    void (*release)(lc_node *node);
};

typedef struct lc_tensor {
    int64_t refs;
    lc_dtype dtype;
    int ndim; /* 0..LC_MAX_DIMS */
    int64_t shape[LC_MAX_DIMS];
    int64_t strides[LC_MAX_DIMS]; /* in elements; 0 where broadcast */
    int64_t offset;               /* in elements */
    lc_storage *storage;
    bool requires_grad;     /* a leaf that wants .grad, or a tensor made from one under recording */
    int node_output;        /* which output of `node` this is */
    lc_node *node;          /* retained; NULL for leaves and unrecorded tensors */
    struct lc_tensor *grad; /* retained; leaves only; NULL until a backward pass reached it */
    struct lc_tensor *leaf; /* retained; set on a permuted alias of a leaf (a Conv1D weight seen as in its file): its
                               .grad is the leaf's, permuted the same way */
    char *name;             /* owned; parameters only */
} lc_tensor;

/* Contiguous, content undefined. LC_ESHAPE for a negative size or more than LC_MAX_DIMS; LC_ENOMEM. */
lc_status lc_tensor_new(lc_dtype dtype, int ndim, const int64_t *shape, lc_device device, lc_tensor **out);
lc_status lc_tensor_zeros(lc_dtype dtype, int ndim, const int64_t *shape, lc_device device, lc_tensor **out);
/* 0-d tensor holding `value` cast to dtype. */
lc_status lc_tensor_scalar(lc_dtype dtype, double value, lc_tensor **out);
lc_tensor *lc_tensor_retain(lc_tensor *t);
void lc_tensor_release(lc_tensor *t); /* NULL is fine */
lc_status lc_tensor_set_name(lc_tensor *t, const char *name);

int64_t lc_numel(const lc_tensor *t);
int64_t lc_shape_numel(int ndim, const int64_t *shape);
/* Bytes of a contiguous tensor. LC_ESHAPE for a negative size or too many dimensions, LC_ENOMEM for more than any
 * memory holds: after it, counting elements cannot overflow. */
lc_status lc_shape_bytes(lc_dtype dtype, int ndim, const int64_t *shape, size_t *bytes);
bool lc_is_contiguous(const lc_tensor *t);
bool lc_same_shape(const lc_tensor *a, const lc_tensor *b);
/* "(2, 3, 4)" into a per-thread ring of buffers: good for one message. */
const char *lc_shape_text(int ndim, const int64_t *shape);
#define LC_SHAPE(t) lc_shape_text((t)->ndim, (t)->shape)
/* First element, whatever the dtype. */
static inline void *lc_data(const lc_tensor *t) {
    return (char *)t->storage->data + (size_t)t->offset * lc_dtype_size(t->dtype);
}
#define LC_DATA(type, t) ((type *)lc_data(t))
/* One element by flat storage position (offset included), as double or integer: for ref kernels, printing and item().
 */
double lc_get_f64(const lc_tensor *t, int64_t position);
int64_t lc_get_i64(const lc_tensor *t, int64_t position);
void lc_set_f64(lc_tensor *t, int64_t position,
                double value); /* floats keep NaN; integers saturate and truncate towards 0 */
void lc_set_i64(lc_tensor *t, int64_t position, int64_t value);
/* Storage position of the element with flat row-major number `index`. */
int64_t lc_position(const lc_tensor *t, int64_t index);
/* Says that the content was changed in place. */
static inline void lc_touch(lc_tensor *t) {
    t->storage->version++;
}

/* Views: share storage, record nothing (grad/ops has the recording forms). Negative dims are the caller's to resolve.
 */
lc_status lc_view_alias(lc_tensor *x, lc_tensor **out);
lc_status lc_view_reshape(lc_tensor *x, int ndim, const int64_t *shape,
                          lc_tensor **out); /* LC_ESHAPE unless a view can do it; one -1 is inferred */
bool lc_can_view_as(const lc_tensor *x, int ndim, const int64_t *shape, int64_t *strides);
lc_status lc_view_permute(lc_tensor *x, const int *order, lc_tensor **out);
lc_status lc_view_expand(lc_tensor *x, int ndim, const int64_t *shape,
                         lc_tensor **out); /* broadcast; new dims in front */
lc_status lc_view_slice(lc_tensor *x, int dim, int64_t start, int64_t length, int64_t step, lc_tensor **out);
lc_status lc_view_select(lc_tensor *x, int dim, int64_t index, lc_tensor **out); /* drops dim */
lc_status lc_view_strided(lc_tensor *x, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset,
                          lc_tensor **out);
/* The shape two shapes broadcast to; LC_ESHAPE names both. */
lc_status lc_broadcast_shape(int na, const int64_t *a, int nb, const int64_t *b, int *n, int64_t *shape);

/* Walks any number of same-shaped strided operands row by row, adjacent dims merged where all operands allow it. */
#define LC_MAX_OPERANDS 6
typedef struct lc_iter {
    int operands, ndim; /* ndim of the outer part; the inner row is apart */
    int64_t shape[LC_MAX_DIMS];
    int64_t strides[LC_MAX_OPERANDS][LC_MAX_DIMS];
    int64_t inner, inner_stride[LC_MAX_OPERANDS]; /* the last, merged, dimension */
    int64_t rows;                                 /* number of inner rows */
} lc_iter;
/* All operands have the same shape (expand first). */
void lc_iter_init(lc_iter *it, int operands, lc_tensor *const *t);
/* Element offsets (from lc_data) of row r for each operand. */
void lc_iter_row(const lc_iter *it, int64_t row, int64_t offsets[LC_MAX_OPERANDS]);

#endif
