/* random.c: the module lacuna.core.random: named streams of random numbers, and tensors drawn from them.
 *
 * One seed (lc.seed) gives every named stream of the process; a stream made with a seed of its own stands apart. A
 * stream is its key and position, so that what is saved with a checkpoint is two integers. */
#include <string.h>

#include "tensor.h"

#define STREAM "lacuna.stream"

int luaopen_lacuna_random(lua_State *L);

/* Registry keys: the table of named streams, and the seed. */
static char named_streams, seed_key;

static uint64_t process_seed(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &seed_key);
    uint64_t seed = (uint64_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return seed;
}

static lc_stream *push_stream(lua_State *L, uint64_t seed, const char *name) {
    lc_stream *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = lc_stream_make(seed, name);
    luaL_setmetatable(L, STREAM);
    return s;
}

/* Pushes the table of named streams. */
static void push_named(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &named_streams) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &named_streams);
}

/* Pushes the process's stream of that name. */
static lc_stream *push_named_stream(lua_State *L, const char *name) {
    luaL_requiref(L, "lacuna.core.random", luaopen_lacuna_random, 0); /* the metatable must exist */
    lua_pop(L, 1);
    push_named(L);
    if (lua_getfield(L, -1, name) == LUA_TNIL) {
        lua_pop(L, 1);
        push_stream(L, process_seed(L), name);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, name);
    }
    lua_remove(L, -2);
    return lua_touserdata(L, -1);
}

lc_stream *lcl_stream(lua_State *L, const char *name) {
    lc_stream *s = push_named_stream(L, name);
    lua_pop(L, 1); /* the table of streams keeps it */
    return s;
}

static lc_stream *check_stream(lua_State *L, int arg) {
    lc_stream *s = luaL_testudata(L, arg, STREAM);
    if (!s) lcl_expected(L, arg, "a stream");
    return s;
}

/* -- the seed and the streams -- */

static int seed(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        lua_pushinteger(L, (lua_Integer)process_seed(L));
        return 1;
    }
    lua_Integer value = lcl_integer(L, 1);
    lua_pushinteger(L, value);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &seed_key);
    push_named(L);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lc_stream *s = lua_touserdata(L, -1);
        *s = lc_stream_make((uint64_t)value, lua_tostring(L, -2));
    }
    return 0;
}

static int stream(lua_State *L) {
    const char *name = lcl_string(L, 1);
    if (lua_isnoneornil(L, 2))
        push_named_stream(L, name);
    else
        push_stream(L, (uint64_t)lcl_integer(L, 2), name);
    return 1;
}

static void push_state(lua_State *L, const lc_stream *s) {
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, (lua_Integer)s->key);
    lua_setfield(L, -2, "key");
    lua_pushinteger(L, (lua_Integer)s->counter);
    lua_setfield(L, -2, "counter");
}

/* Reads {key, counter} from the table at `arg`. */
static lc_stream read_state(lua_State *L, int arg) {
    lc_stream s = {0};
    if (!lua_istable(L, arg))
        lcl_error(L, "restore: a stream's state is {key = ..., counter = ...}, got %s", lcl_describe(L, arg));
    arg = lua_absindex(L, arg);
    if (lua_getfield(L, arg, "key") != LUA_TNUMBER || lua_getfield(L, arg, "counter") != LUA_TNUMBER)
        lcl_error(L, "restore: a stream's state is {key = ..., counter = ...}");
    s.key = (uint64_t)lua_tointeger(L, -2);
    s.counter = (uint64_t)lua_tointeger(L, -1);
    lua_pop(L, 2);
    return s;
}

/* All named streams as {seed = n, streams = {name = state}}, for checkpoints. */
static int state(lua_State *L) {
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, (lua_Integer)process_seed(L));
    lua_setfield(L, -2, "seed");
    lua_newtable(L);
    push_named(L);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        push_state(L, lua_touserdata(L, -2));
        lua_rawset(L, -6);
    }
    lua_pop(L, 1);
    lua_setfield(L, -2, "streams");
    return 1;
}

static int restore(lua_State *L) {
    if (!lua_istable(L, 1)) lcl_expected(L, 1, "what state() gave");
    lua_getfield(L, 1, "seed");
    lua_pushcfunction(L, seed);
    lua_insert(L, -2);
    lua_call(L, 1, 0);
    if (lua_getfield(L, 1, "streams") != LUA_TTABLE) lcl_error(L, "restore: expected what state() gave");
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) lcl_error(L, "restore: a stream's name must be a string");
        lc_stream s = read_state(L, -1);
        *lcl_stream(L, lua_tostring(L, -2)) = s;
    }
    return 0;
}

/* -- numbers from a stream -- */

static int stream_uniform(lua_State *L) {
    lua_pushnumber(L, lc_stream_uniform(check_stream(L, 1)));
    return 1;
}

static int stream_normal(lua_State *L) {
    lua_pushnumber(L, lc_stream_normal(check_stream(L, 1)));
    return 1;
}

static int stream_below(lua_State *L) {
    lc_stream *s = check_stream(L, 1);
    int64_t n = lcl_integer(L, 2);
    if (n < 1) lcl_error(L, "below: needs at least 1, got %lld", (long long)n);
    lua_pushinteger(L, (lua_Integer)lc_stream_below(s, (uint64_t)n));
    return 1;
}

static int stream_state(lua_State *L) {
    push_state(L, check_stream(L, 1));
    return 1;
}

static int stream_restore(lua_State *L) {
    *check_stream(L, 1) = read_state(L, 2);
    return 0;
}

/* -- tensors from a stream: as methods of one, or of lc with the option `stream` -- */

static const lcl_option draw_rows[] = {
    {"dtype", LCL_STRING, 0, .doc = "f32 (default) or f64; for randint any, i64 by default"},
    {"stream", LCL_ANY, .doc = "a stream, or the name of one; \"default\" when nil"},
    {0},
};
static const lcl_option_set draw_set = {"random", draw_rows};

/* The index of the first argument after a stream that may stand before the others. */
static int first_argument(lua_State *L) {
    return luaL_testudata(L, 1, STREAM) ? 2 : 1;
}

/* Reads {dtype, stream} at `arg`; *dtype holds the default before. */
static lc_stream *read_options(lua_State *L, int arg, lc_dtype *dtype) {
    const char *name = NULL;
    lcl_option_set set = {lcl_function_name(L), draw_rows};
    lcl_options(L, arg, &set, &name);
    if (name) lcl_done(L, lc_dtype_parse(name, dtype), 0);
    if (first_argument(L) == 2) return check_stream(L, 1);
    lc_stream *s = NULL;
    int type = lcl_field(L, arg, "stream");
    if (type == LUA_TNIL)
        s = lcl_stream(L, "default");
    else if (type == LUA_TSTRING)
        s = lcl_stream(L, lua_tostring(L, -1));
    else
        s = luaL_testudata(L, -1, STREAM);
    if (!s) lcl_error(L, "%s: option 'stream' must be a stream or a name, got %s", set.function, lcl_describe(L, -1));
    lua_pop(L, 1); /* the options table keeps it */
    return s;
}

/* Pushes a tensor of floats in the shape at the first argument. */
static int draw_floats(lua_State *L, lc_status (*fill_f32)(lc_stream *, float *, int64_t),
                       lc_status (*fill_f64)(lc_stream *, double *, int64_t)) {
    int first = first_argument(L);
    int64_t shape[LC_MAX_DIMS];
    int ndim = lcl_shape(L, first, false, shape);
    lc_dtype dtype = LC_F32;
    lc_stream *s = read_options(L, first + 1, &dtype);
    if (dtype != LC_F32 && dtype != LC_F64)
        lcl_error(L, "%s: dtype must be f32 or f64, got %s; cast with x:to", lcl_function_name(L),
                  lc_dtype_name(dtype));
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(dtype, ndim, shape, LC_CPU, slot), 1);
    int64_t n = lc_numel(*slot);
    return lcl_done(L, dtype == LC_F32 ? fill_f32(s, lc_data(*slot), n) : fill_f64(s, lc_data(*slot), n), 1);
}

static int rand_(lua_State *L) {
    return draw_floats(L, lc_stream_fill_uniform_f32, lc_stream_fill_uniform_f64);
}

static int randn(lua_State *L) {
    return draw_floats(L, lc_stream_fill_normal_f32, lc_stream_fill_normal_f64);
}

static int randint(lua_State *L) {
    int first = first_argument(L);
    int64_t low = lcl_integer(L, first), high = lcl_integer(L, first + 1), shape[LC_MAX_DIMS];
    if (high <= low) lcl_error(L, "randint: the range from %lld up to %lld is empty", (long long)low, (long long)high);
    int ndim = lcl_shape(L, first + 2, false, shape);
    lc_dtype dtype = LC_I64;
    lc_stream *s = read_options(L, first + 3, &dtype);
    lcl_check_fits(L, first, dtype);
    lua_pushinteger(L, high - 1);
    lcl_check_fits(L, lua_gettop(L), dtype);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(dtype, ndim, shape, LC_CPU, slot), 1);
    for (int64_t i = 0, n = lc_numel(*slot); i < n; i++)
        lc_set_i64(*slot, i, low + (int64_t)lc_stream_below(s, (uint64_t)high - (uint64_t)low));
    return 1;
}

static int permutation(lua_State *L) {
    int first = first_argument(L);
    int64_t n = lcl_integer(L, first);
    lc_dtype dtype = LC_I64;
    lc_stream *s = read_options(L, first + 1, &dtype);
    if (dtype != LC_I64) lcl_error(L, "permutation: dtype must be i64, got %s; cast with x:to", lc_dtype_name(dtype));
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(LC_I64, 1, &n, LC_CPU, slot), 1);
    lc_stream_permutation(s, lc_data(*slot), n);
    return 1;
}

/* -- the module -- */

static const lcl_function tensor_functions[] = {
    {"rand", rand_, "lc.rand(shape, {dtype, stream}) -> tensor", "Random numbers from 0 up to 1, all alike.",
     &draw_set},
    {"randn", randn, "lc.randn(shape, {dtype, stream}) -> tensor", "Normal random numbers: mean 0, deviation 1.",
     &draw_set},
    {"randint", randint, "lc.randint(low, high, shape, {dtype, stream}) -> tensor",
     "Random integers from low to high - 1.", &draw_set},
    {"permutation", permutation, "lc.permutation(n, {stream}) -> tensor", "0..n-1 in random order, i64.", &draw_set},
    {0},
};

static const lcl_function module_functions[] = {
    {"seed", seed, "lc.seed([n]) -> n",
     "Sets the seed of all named streams, and puts them at their start; without n gives the seed."},
    {"stream", stream, "lc.stream(name [, seed]) -> stream",
     "The process's stream of that name, or with a seed a new one that stands apart. It has rand, randn, randint, "
     "permutation, uniform, normal, below, state and restore."},
    {0},
};

static const luaL_Reg checkpoint_functions[] = {{"state", state}, {"restore", restore}, {NULL, NULL}};

static const luaL_Reg stream_methods[] = {
    {"uniform", stream_uniform}, {"normal", stream_normal},   {"below", stream_below},
    {"state", stream_state},     {"restore", stream_restore}, {NULL, NULL},
};

int luaopen_lacuna_random(lua_State *L) {
    if (luaL_newmetatable(L, STREAM)) {
        luaL_newlib(L, stream_methods);
        lcl_functions(L, tensor_functions);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
    luaL_newlib(L, checkpoint_functions);
    lcl_functions(L, tensor_functions);
    lcl_functions(L, module_functions);
    return 1;
}
