/* tensor.c: the module lacuna.core.tensor: the tensor handle, its properties and operators, and the tables that make up
 * the array library. */
#include "tensor.h"

#include <string.h>

/* -- running ops -- */

static lc_status apply_or_collect(lua_State *L, lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in,
                                  lc_tensor **out) {
    lc_status status = lc_apply(op, attr, in, n_in, out);
    if (status != LC_ENOMEM) return status;
    lcl_collect_all(L);
    return lc_apply(op, attr, in, n_in, out);
}

int lcl_apply(lua_State *L, lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, int outputs) {
    lc_tensor *out[LC_MAX_OUT] = {0}, **slots[LC_MAX_OUT];
    for (int i = 0; i < outputs; i++) slots[i] = lcl_push(L, &LCL_TENSOR);
    lc_status status = apply_or_collect(L, op, attr, in, n_in, out);
    if (status) lcl_raise(L, status);
    for (int i = 0; i < LC_MAX_OUT; i++) {
        if (i < outputs)
            *slots[i] = out[i];
        else
            lc_tensor_release(out[i]);
    }
    return outputs;
}

/* Where expand repeats one number, a write would come several times or be lost. */
static void refuse_repeated(lua_State *L, const lc_tensor *x) {
    if (lc_numel(x) == 0) return; /* an empty tensor's strides may be 0 too */
    for (int i = 0; i < x->ndim; i++)
        if (x->strides[i] == 0 && x->shape[i] > 1)
            lcl_error(L, "%s: this view shows one number in several places (expand); write into x:clone()",
                      lcl_function_name(L));
}

int lcl_apply_into(lua_State *L, lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor *x) {
    lc_tensor *into[LC_MAX_OUT] = {x};
    refuse_repeated(L, x);
    lc_status status = lc_apply_into(op, attr, in, n_in, into);
    if (status == LC_ENOMEM) {
        lcl_collect_all(L);
        status = lc_apply_into(op, attr, in, n_in, into);
    }
    lua_pushvalue(L, 1);
    return lcl_done(L, status, 1);
}

/* 0 boolean, 1 integer, 2 float. */
static int kind_of(lc_dtype dtype) {
    return lc_dtype_is_float(dtype) ? 2 : dtype != LC_BOOL;
}

/* The kind of number that an op makes of these inputs, before it is cast to where it goes. */
static int result_kind(lc_op op, lc_tensor *const *in, int n_in) {
    static const bool makes_float[LC_OPS] = {
#define FLOAT true
#define SAME false
#define COMMON false
#define TEST false
#define RAW false
#define LC_OP(ENUM, name, infer, inputs, outputs, types, layout) [LC_OP_##ENUM] = types,
#include "ops/ops.def"
#undef LC_OP
#undef FLOAT
#undef SAME
#undef COMMON
#undef TEST
#undef RAW
    };
    int kind = makes_float[op] ? 2 : 0;
    for (int i = 0; i < n_in; i++) kind = lc_max(kind, kind_of(in[i]->dtype));
    return kind;
}

int lcl_finish(lua_State *L, const lc_attr *attr, lc_tensor *const *in, int n_in) {
    lc_op op = lcl_op(L);
    if (!lcl_in_place(L)) return lcl_apply(L, op, attr, in, n_in, 1);
    static const char *const kinds[] = {"booleans", "integers", "floats"};
    int kind = result_kind(op, in, n_in);
    if (kind > kind_of(in[0]->dtype))
        lcl_error(L, "%s: the result has %s, which a tensor of %s cannot hold; use x:to", lcl_function_name(L),
                  kinds[kind], lc_dtype_name(in[0]->dtype));
    return lcl_apply_into(L, op, attr, in, n_in, in[0]);
}

int lcl_optional_dim(lua_State *L, int arg, int ndim, int fallback) {
    return lua_isnoneornil(L, arg) ? fallback : lcl_dim(L, arg, ndim);
}

/* -- numbers beside tensors -- */

static bool fits(lc_dtype dtype, int64_t value) {
    switch (dtype) {
    case LC_BOOL:
        return value == 0 || value == 1;
    case LC_U8:
        return value >= 0 && value <= UINT8_MAX;
    case LC_I32:
        return value >= INT32_MIN && value <= INT32_MAX;
    default:
        return true;
    }
}

lc_dtype lcl_number_dtype(lua_State *L, int arg, const lc_tensor *other) {
    lc_dtype dtype = other->dtype;
    if (lua_isboolean(L, arg)) return LC_BOOL;
    if (lua_type(L, arg) != LUA_TNUMBER) lcl_expected(L, arg, "a tensor or a number");
    if (lc_dtype_is_float(dtype)) return dtype;
    if (!lua_isinteger(L, arg)) return LC_F32;
    int64_t value = lua_tointeger(L, arg);
    if (dtype == LC_BOOL) dtype = fits(LC_I32, value) ? LC_I32 : LC_I64;
    if (!fits(dtype, value))
        lcl_error(L, "%s: %lld does not fit into a tensor of %s; use x:to 'i64'", lcl_function_name(L),
                  (long long)value, lc_dtype_name(dtype));
    return dtype;
}

double lcl_number_value(lua_State *L, int arg) {
    return lua_isboolean(L, arg) ? lua_toboolean(L, arg) : lua_tonumber(L, arg);
}

lc_tensor *lcl_operand(lua_State *L, int arg, const lc_tensor *other) {
    lc_tensor *t = lcl_test(L, arg, &LCL_TENSOR);
    if (t) {
        lua_pushvalue(L, arg);
        return t;
    }
    lc_dtype dtype = lcl_number_dtype(L, arg, other);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_scalar(dtype, lcl_number_value(L, arg), slot), 1);
    return *slot;
}

void lcl_check_fits(lua_State *L, int arg, lc_dtype dtype) {
    if (lua_isboolean(L, arg)) return;
    lua_Integer value;
    int whole;
    if (lua_type(L, arg) != LUA_TNUMBER) lcl_expected(L, arg, "a number");
    if (lc_dtype_is_float(dtype)) return;
    value = lua_tointegerx(L, arg, &whole);
    if (!whole || !fits(dtype, value))
        lcl_error(L, "%s: %s does not fit into a tensor of %s", lcl_function_name(L), lcl_describe(L, arg),
                  lc_dtype_name(dtype));
}

lc_tensor *lcl_source(lua_State *L, int arg, const lc_tensor *target) {
    if (lua_istable(L, arg)) return lcl_table_to_tensor(L, arg, target->dtype);
    lc_tensor *source = lcl_test(L, arg, &LCL_TENSOR);
    if (!source)
        lcl_check_fits(L, arg, target->dtype);
    else if (lc_dtype_is_float(source->dtype) && !lc_dtype_is_float(target->dtype))
        lcl_error(L, "%s: a tensor of %s cannot hold floats; use x:to", lcl_function_name(L),
                  lc_dtype_name(target->dtype));
    return lcl_operand(L, arg, target);
}

/* -- properties -- */

static int get_shape(lua_State *L, lc_tensor *x) {
    lua_createtable(L, x->ndim, 0);
    for (int i = 0; i < x->ndim; i++) {
        lua_pushinteger(L, x->shape[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int get_ndim(lua_State *L, lc_tensor *x) {
    lua_pushinteger(L, x->ndim);
    return 1;
}

static int get_dtype(lua_State *L, lc_tensor *x) {
    lua_pushstring(L, lc_dtype_name(x->dtype));
    return 1;
}

static int get_device(lua_State *L, lc_tensor *x) {
    lua_pushstring(L, lc_device_name(x->storage->device));
    return 1;
}

static int get_requires_grad(lua_State *L, lc_tensor *x) {
    lua_pushboolean(L, x->requires_grad);
    return 1;
}

static int get_name(lua_State *L, lc_tensor *x) {
    lua_pushstring(L, x->name); /* nil when it has none */
    return 1;
}

static int get_grad(lua_State *L, lc_tensor *x) {
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_get_grad(x, slot), 1);
    if (!*slot) lua_pushnil(L);
    return 1;
}

static const struct property {
    const char *name;
    int (*get)(lua_State *L, lc_tensor *x);
} properties[] = {
    {"shape", get_shape},   {"ndim", get_ndim}, {"dtype", get_dtype},
    {"device", get_device}, {"grad", get_grad}, {"requires_grad", get_requires_grad},
    {"name", get_name},     {NULL, NULL},
};

/* x.shape, x:exp, x[1], x[{...}]; upvalue 1 is the table of methods. */
static int tensor_index(lua_State *L) {
    int type = lua_type(L, 2);
    if (type != LUA_TSTRING) return lcl_view_index(L);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    lc_tensor *x = lcl_tensor(L, 1);
    const char *name = lua_tostring(L, 2);
    for (const struct property *p = properties; p->name; p++)
        if (strcmp(p->name, name) == 0) return p->get(L, x);
    lcl_no_field(L, "a tensor", &properties->name, sizeof *properties);
}

/* x[1] = v, and x.grad = nil. */
static int tensor_newindex(lua_State *L) {
    if (lua_type(L, 2) != LUA_TSTRING) return lcl_view_assign(L);
    lc_tensor *x = lcl_tensor(L, 1);
    const char *name = lua_tostring(L, 2);
    if (strcmp(name, "grad") != 0) lcl_error(L, "a tensor's '%s' cannot be assigned to", name);
    if (!lua_isnil(L, 3)) lcl_error(L, "x.grad can only be set to nil, got %s", lcl_describe(L, 3));
    return lcl_done(L, lc_clear_grad(x), 0);
}

/* -- operators -- */

static int tensor_length(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    if (x->ndim == 0) lcl_error(L, "#x: a tensor without dimensions has no length; use x:item()");
    lua_pushinteger(L, x->shape[0]);
    return 1;
}

static int refuse_less(lua_State *L) {
    lcl_error(L, "tensors are compared by methods: use a:lt(b), or a:gt(b) with a tensor on the left (Lua makes one "
                 "boolean of a < b)");
}

static int refuse_less_equal(lua_State *L) {
    lcl_error(L, "tensors are compared by methods: use a:le(b), or a:ge(b) with a tensor on the left (Lua makes one "
                 "boolean of a <= b)");
}

/* & | ~ are for masks; upvalue 1 is the op. */
static int logical(lua_State *L) {
    lc_tensor *in[2];
    int count = lcl_op(L) == LC_OP_NOT ? 1 : 2;
    for (int i = 0; i < count; i++) {
        in[i] = lcl_tensor(L, i + 1);
        if (in[i]->dtype != LC_BOOL)
            lcl_error(L, "& | ~ are for tensors of booleans, got %s; compare first, as in x:ne(0)",
                      lc_dtype_name(in[i]->dtype));
    }
    return lcl_apply(L, lcl_op(L), NULL, in, count, 1);
}

/* The operators that are functions of the library too. */
static const char *const operators[][2] = {
    {"__add", "add"}, {"__sub", "sub"}, {"__mul", "mul"}, {"__div", "div"},
    {"__mod", "mod"}, {"__pow", "pow"}, {"__unm", "neg"},
};

static const struct {
    const char *name;
    lc_op op;
} logical_operators[] = {
    {"__band", LC_OP_AND},
    {"__bor", LC_OP_OR},
    {"__bxor", LC_OP_XOR},
    {"__bnot", LC_OP_NOT},
};

static void release_tensor(void *object) {
    lc_tensor_release(object);
}

static const luaL_Reg meta[] = {
    {"__len", tensor_length},
    {"__lt", refuse_less},
    {"__le", refuse_less_equal},
    {"__tostring", lcl_tensor_tostring},
    {"__call", lcl_view_call},
    {"__newindex", tensor_newindex},
    {NULL, NULL},
};

const lcl_type LCL_TENSOR = {"lacuna.tensor", release_tensor, NULL, meta};

/* -- the module -- */

/* The metamethods that share a function with a method; `methods` is on top of the stack. */
static void set_operators(lua_State *L) {
    lcl_metatable(L, &LCL_TENSOR);
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        lua_getfield(L, -2, operators[i][1]);
        lua_setfield(L, -2, operators[i][0]);
    }
    for (size_t i = 0; i < sizeof logical_operators / sizeof *logical_operators; i++) {
        lua_pushinteger(L, logical_operators[i].op);
        lua_pushcclosure(L, logical, 1);
        lua_setfield(L, -2, logical_operators[i].name);
    }
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, tensor_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int luaopen_lacuna_tensor(lua_State *L) {
    static const lcl_function *const tables[] = {
        lcl_make_functions,    lcl_view_functions,    lcl_math_functions,    lcl_reduce_functions, lcl_select_functions,
        lcl_product_functions, lcl_network_functions, lcl_convert_functions, lcl_grad_functions,
    };
    lcl_register(L, &LCL_TENSOR);
    lua_createtable(L, 0, 256);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) lcl_functions(L, tables[i]);
    set_operators(L);
    return 1;
}
