/* torch.c: see torch.h. A tensor is pickled as the call torch._utils._rebuild_tensor_v2(storage, offset, size, stride,
 * requires_grad, hooks), a storage as the persistent id ("storage", class, key, location, elements). */
#include "io/torch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A long text in the memo could be copied as often as it is named. */
#define MAX_KEY 200  /* of a storage; torch.save counts them */
#define MAX_NAME 500 /* of a tensor */

/* Tags of objects. */
enum { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, STORAGE_CLASS, STORAGE, TENSOR };

typedef struct stored_tensor {
    lc_torch_storage *storage;
    int ndim;
    int64_t offset, shape[LC_MAX_DIMS], strides[LC_MAX_DIMS]; /* in elements */
} stored_tensor;

static const struct {
    const char *module, *name;
    uint32_t tag;
} names[] = {
    {"collections", "OrderedDict", ORDERED_DICT},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER},
};

static const struct {
    const char *name, *type; /* of safetensors */
} storages[] = {
    {"FloatStorage", "F32"}, {"DoubleStorage", "F64"}, {"HalfStorage", "F16"},  {"BFloat16Storage", "BF16"},
    {"LongStorage", "I64"},  {"IntStorage", "I32"},    {"ShortStorage", "I16"}, {"CharStorage", "I8"},
    {"ByteStorage", "U8"},   {"BoolStorage", "BOOL"},
};

/* How torch._utils makes tensors that Lacuna does not read. */
static const struct {
    const char *name, *what, *advice;
} unread[] = {
    {"_rebuild_tensor_v3", "a tensor of a type such as float8", "save it as float32 or bfloat16"},
    {"_rebuild_qtensor", "a quantised tensor", "save tensor.dequantize()"},
    {"_rebuild_sparse_tensor", "a sparse tensor", "save tensor.to_dense()"},
    {"_rebuild_meta_tensor_no_storage", "a meta tensor, without numbers", "save the model once its weights are there"},
};

/* -- what a pickle may ask for ------------------------------------------------------------------ */

static lc_status make_object(lc_torch *t, uint32_t tag, const void *object, lc_pickled **out) {
    lc_pickled *v = lc_pickle_new(t->arena, LC_PICKLE_OBJECT);
    if (!v) return LC_ENOMEM;
    v->tag = tag;
    v->object = (void *)object;
    *out = v;
    return LC_OK;
}

static lc_status find_global(void *context, const char *module, const char *name, lc_pickled **out) {
    lc_torch *t = context;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(module, names[i].module) && !strcmp(name, names[i].name))
            return make_object(t, names[i].tag, NULL, out);
    for (size_t i = 0; !strcmp(module, "torch") && i < sizeof storages / sizeof *storages; i++)
        if (!strcmp(name, storages[i].name))
            return make_object(t, STORAGE_CLASS, lc_stored_type_named(storages[i].type), out);
    for (size_t i = 0; !strcmp(module, "torch._utils") && i < sizeof unread / sizeof *unread; i++)
        if (!strcmp(name, unread[i].name))
            return lc_fail(LC_EFORMAT, "%s: holds %s (%s), which lacuna does not read; %s", t->path, unread[i].what,
                           name, unread[i].advice);
    return lc_fail(LC_EFORMAT,
                   "%s: the pickle asks for %.80s.%.80s; lacuna builds tensors and plain values from pickles "
                   "and runs no code: save model.state_dict() alone",
                   t->path, module, name);
}

static bool is_object(const lc_pickled *v, uint32_t tag) {
    return v->kind == LC_PICKLE_OBJECT && v->tag == tag;
}

/* A tuple of `*n` sizes, none negative. */
static bool read_sizes(const lc_pickled *tuple, int *n, int64_t *out) {
    if (tuple->kind != LC_PICKLE_TUPLE || tuple->count > LC_MAX_DIMS) return false;
    *n = (int)tuple->count;
    for (int d = 0; d < *n; d++) {
        const lc_pickled *v = tuple->items[d];
        if (v->kind != LC_PICKLE_INT || v->integer < 0) return false;
        out[d] = v->integer;
    }
    return true;
}

static bool is_empty(const stored_tensor *s) {
    for (int d = 0; d < s->ndim; d++)
        if (s->shape[d] == 0) return true;
    return false;
}

/* Elements between the first and the last of a tensor, both included; false when that goes beyond `limit`. */
static bool find_span(const stored_tensor *s, uint64_t limit, uint64_t *span) {
    uint64_t last = 0;
    *span = 0;
    if (is_empty(s)) return true;
    for (int d = 0; d < s->ndim; d++) {
        uint64_t steps = (uint64_t)s->shape[d] - 1, stride = (uint64_t)s->strides[d];
        if (steps && stride > (limit - last) / steps) return false;
        last += steps * stride;
    }
    *span = last + 1;
    return *span <= limit;
}

static lc_status rebuild_tensor(lc_torch *t, const lc_pickled *arguments, lc_pickled **out) {
    stored_tensor *s = lc_arena_alloc(t->arena, sizeof *s);
    if (!s) return LC_ENOMEM;
    lc_pickled *const *a = arguments->items;
    int strides;
    if (arguments->count < 4 || !is_object(a[0], STORAGE) || a[1]->kind != LC_PICKLE_INT || a[1]->integer < 0 ||
        !read_sizes(a[2], &s->ndim, s->shape) || !read_sizes(a[3], &strides, s->strides) || strides != s->ndim)
        return lc_fail(LC_EFORMAT,
                       "%s: a tensor is not described by a storage, an offset, sizes and strides (at most %d "
                       "dimensions)",
                       t->path, LC_MAX_DIMS);
    s->storage = a[0]->object;
    s->offset = a[1]->integer;
    if (is_empty(s)) s->offset = 0; /* PyTorch's may lie behind the storage */
    uint64_t span, count = s->storage->count;
    if ((uint64_t)s->offset > count || !find_span(s, count - (uint64_t)s->offset, &span))
        return lc_fail(LC_EFORMAT, "%s: a tensor of shape %s ends past the end of its storage of %" PRIu64 " elements",
                       t->path, lc_shape_text(s->ndim, s->shape), count);
    return make_object(t, TENSOR, s, out);
}

static lc_status call(void *context, const lc_pickled *callable, const lc_pickled *arguments, lc_pickled **out) {
    lc_torch *t = context;
    if (callable->tag == ORDERED_DICT && arguments->count == 0)
        return (*out = lc_pickle_new(t->arena, LC_PICKLE_DICT)) ? LC_OK : LC_ENOMEM;
    if (callable->tag == REBUILD_TENSOR) return rebuild_tensor(t, arguments, out);
    if (callable->tag == REBUILD_PARAMETER && arguments->count >= 1 && is_object(arguments->items[0], TENSOR)) {
        *out = arguments->items[0];
        return LC_OK;
    }
    return lc_fail(LC_EFORMAT, "%s: the pickle calls what torch.save never calls so", t->path);
}

static lc_status find_storage(void *context, const lc_pickled *id, lc_pickled **out) {
    lc_torch *t = context;
    lc_pickled *const *a = id->items;
    if (id->kind != LC_PICKLE_TUPLE || id->count < 5 || !lc_pickle_is(a[0], "storage") ||
        !is_object(a[1], STORAGE_CLASS) || a[2]->kind != LC_PICKLE_STRING || a[4]->kind != LC_PICKLE_INT ||
        a[4]->integer < 0 || (id->count > 5 && a[5]->kind != LC_PICKLE_NONE))
        return lc_fail(LC_EFORMAT, "%s: a storage is not described by its class, key, place and size", t->path);
    if (a[2]->count > MAX_KEY || memchr(a[2]->text, 0, (size_t)a[2]->count))
        return lc_fail(LC_EFORMAT, "%s: a storage's key is not a short string without zero bytes", t->path);
    lc_torch_storage *s = lc_arena_alloc(t->arena, sizeof *s);
    if (!s) return LC_ENOMEM;
    *s = (lc_torch_storage){.type = a[1]->object, .count = (uint64_t)a[4]->integer};
    s->key = lc_arena_strndup(t->arena, a[2]->text, (size_t)a[2]->count);
    if (!s->key) return LC_ENOMEM;
    if (s->count > t->bytes / s->type->size)
        return lc_fail(LC_EFORMAT,
                       "%s: storage %.40s of %" PRIu64 " elements is larger than the file (%" PRIu64
                       " bytes); the download looks cut off: fetch it again",
                       t->path, s->key, s->count, t->bytes);
    LC_TRY(t->place(t, s));
    return make_object(t, STORAGE, s, out);
}

lc_status lc_torch_unpickle(lc_torch *t, const char *bytes, size_t length, size_t *used, lc_pickled **out) {
    lc_pickle_reader reader = {.name = t->path,
                               .arena = t->arena,
                               .context = t,
                               .global = find_global,
                               .call = call,
                               .persistent = find_storage};
    return lc_pickle_read(&reader, bytes, length, used, out);
}

/* -- the state dict ----------------------------------------------------------------------------- */

static bool has_tensors(const lc_pickled *dict) {
    for (int64_t i = 0; dict->kind == LC_PICKLE_DICT && i < dict->count; i++)
        if (is_object(dict->items[2 * i + 1], TENSOR)) return true;
    return false;
}

/* "a, b, c and 4 more": the keys of a dict, for a message. */
static lc_status fail_without_tensors(const lc_torch *t, const lc_pickled *value) {
    if (value->kind != LC_PICKLE_DICT)
        return lc_fail(LC_EFORMAT, "%s: holds %s, expected a state dict: tensors by name", t->path,
                       is_object(value, TENSOR) ? "one tensor" : lc_pickle_describe(value));
    char keys[256] = "";
    for (int64_t i = 0; i < value->count && strlen(keys) < sizeof keys - 64; i++) {
        const lc_pickled *key = value->items[2 * i];
        if (key->kind != LC_PICKLE_STRING) continue;
        snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s%.*s", *keys ? ", " : "",
                 (int)lc_min(key->count, 40), key->text);
    }
    return lc_fail(LC_EFORMAT,
                   "%s: no tensors by name, neither at the top nor under state_dict, model_state_dict, model "
                   "or module; it has the keys: %s",
                   t->path, *keys ? keys : "none");
}

static lc_status find_state_dict(const lc_torch *t, const lc_pickled *value, const lc_pickled **out) {
    static const char *const wrappers[] = {"state_dict", "model_state_dict", "model", "module"};
    *out = value;
    if (has_tensors(value)) return LC_OK;
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++) {
        *out = lc_pickle_get(value, wrappers[i]);
        if (*out && has_tensors(*out)) return LC_OK;
    }
    return fail_without_tensors(t, value);
}

/* Length of what stands before every tensor's name. */
static size_t common_prefix(const lc_pickled *dict) {
    static const char *const prefixes[] = {"module.", "_orig_mod."};
    for (size_t p = 0; p < 2; p++) {
        size_t n = strlen(prefixes[p]);
        bool all = true;
        for (int64_t i = 0; i < dict->count && all; i++) {
            const lc_pickled *key = dict->items[2 * i];
            all = !is_object(dict->items[2 * i + 1], TENSOR) ||
                  (key->kind == LC_PICKLE_STRING && (size_t)key->count > n && !memcmp(key->text, prefixes[p], n));
        }
        if (all) return n;
    }
    return 0;
}

static bool is_contiguous(const stored_tensor *s) {
    int64_t next = 1;
    if (is_empty(s)) return true; /* whatever its other sizes, whose product may be beyond 64 bits */
    for (int d = s->ndim - 1; d >= 0; d--) {
        if (s->shape[d] > 1 && s->strides[d] != next) return false;
        next *= s->shape[d];
    }
    return true;
}

/* A view that repeats elements may be larger than the file, and is not read then. */
static lc_status check_size(const lc_torch *t, const char *name, const stored_tensor *s) {
    uint64_t bytes = s->storage->type->size;
    if (is_empty(s)) return LC_OK;
    for (int d = 0; d < s->ndim; d++) {
        if ((uint64_t)s->shape[d] > t->bytes / bytes)
            return lc_fail(LC_EFORMAT,
                           "%s: tensor %s of shape %s needs more bytes than the file has (%" PRIu64 "): it "
                           "repeats elements; save it with .contiguous()",
                           t->path, name, lc_shape_text(s->ndim, s->shape), t->bytes);
        bytes *= (uint64_t)s->shape[d];
    }
    return LC_OK;
}

static lc_status add_tensor(lc_torch *t, lc_weights *w, const lc_pickled *key, size_t prefix, const stored_tensor *s) {
    if (key->kind != LC_PICKLE_STRING || key->count == 0 || memchr(key->text, 0, (size_t)key->count))
        return lc_fail(LC_EFORMAT, "%s: a tensor's name is %s, expected a string without zero bytes", t->path,
                       key->kind == LC_PICKLE_STRING ? "empty or has a zero byte" : lc_pickle_describe(key));
    if (key->count > MAX_NAME)
        return lc_fail(LC_EFORMAT, "%s: the name of a tensor, %.40s..., has more than %d bytes", t->path, key->text,
                       MAX_NAME);
    const char *name = lc_arena_strndup(lc_weights_arena(w), key->text + prefix, (size_t)key->count - prefix);
    if (!name) return LC_ENOMEM;
    LC_TRY(check_size(t, name, s));
    uint64_t span = 0, size = s->storage->type->size;
    find_span(s, s->storage->count, &span);
    lc_stored e = {.name = name,
                   .type = s->storage->type->name,
                   .dtype = s->storage->type->dtype,
                   .ndim = s->ndim,
                   .strided = !is_contiguous(s),
                   .part = s->storage->part};
    memcpy(e.shape, s->shape, sizeof e.shape);
    memcpy(e.strides, s->strides, sizeof e.strides);
    e.begin = s->storage->begin + (uint64_t)s->offset * size;
    e.end = e.begin + span * size;
    return lc_weights_add(w, &e);
}

lc_status lc_torch_add(lc_torch *t, lc_weights *w, const lc_pickled *value) {
    const lc_pickled *dict;
    LC_TRY(find_state_dict(t, value, &dict));
    size_t prefix = common_prefix(dict);
    for (int64_t i = 0; i < dict->count; i++)
        if (is_object(dict->items[2 * i + 1], TENSOR))
            LC_TRY(add_tensor(t, w, dict->items[2 * i], prefix, dict->items[2 * i + 1]->object));
    return LC_OK;
}
