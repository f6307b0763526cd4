/* grad.c: the module lacuna.core.grad, and the tensor methods about gradients and lifetimes: backward, detach,
 * lc.no_grad, lc.scope, lc.param, lc.gradcheck. */
#include "grad/check.h"
#include "tensor.h"

/* -- methods -- */

static int backward(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1), *seed = lua_isnoneornil(L, 2) ? NULL : lcl_tensor(L, 2);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_backward(x, seed);
    lcl_leave(outer);
    return lcl_done(L, status, 0);
}

static int detach(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1), **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_detach(x, slot), 1);
}

static int requires_grad(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    bool on = lua_isnoneornil(L, 2) ? true : lcl_boolean(L, 2);
    lua_settop(L, 1);
    return lcl_done(L, lc_require_grad(x, on), 1);
}

const lcl_function lcl_grad_functions[] = {
    {"backward", backward, "x:backward([seed])",
     "Adds the gradients of x, times seed (1 for a single number), into the .grad of every leaf behind it."},
    {"detach", detach, "x:detach() -> tensor",
     "The same numbers in the same storage, without the history of gradients."},
    {"requires_grad_", requires_grad, "x:requires_grad_([on = true]) -> x",
     "Makes x a leaf that wants a gradient, or no longer."},
    {0},
};

/* -- functions that run a function -- */

/* Calls the function at 1 with what follows it; leaves its results, or the error object, as the whole stack. */
static bool call_rest(lua_State *L) {
    return lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0) == LUA_OK;
}

static void check_function(lua_State *L) {
    if (!lua_isfunction(L, 1)) lcl_expected(L, 1, "a function");
}

static int no_grad(lua_State *L) {
    check_function(L);
    bool before = lc_set_recording(false);
    bool ok = call_rest(L);
    lc_set_recording(before);
    return ok ? lua_gettop(L) : lua_error(L);
}

/* Registry key of the tables whose tensors every scope spares (weak keys). */
static char exempt_tables;

static void push_exempt(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &exempt_tables) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &exempt_tables);
}

static int exempt(lua_State *L) {
    if (!lua_istable(L, 1)) lcl_expected(L, 1, "a table");
    push_exempt(L);
    lua_pushvalue(L, 1);
    lua_pushboolean(L, true);
    lua_rawset(L, -3);
    lua_settop(L, 1);
    return 1;
}

static int keep_exempt(lua_State *L) {
    push_exempt(L);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) lcl_keep(L, -2);
    lua_pop(L, 1);
    return 0;
}

/* Calls the function at 1 and takes its results out of the scope. */
static int run_in_scope(lua_State *L) {
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    int results = lua_gettop(L);
    luaL_checkstack(L, 16, NULL);
    for (int i = 1; i <= results; i++) lcl_keep_result(L, i);
    return results;
}

/* Everything that can raise runs protected, because `inside` must not stay open when this frame is gone. */
static int scope(lua_State *L) {
    check_function(L);
    luaL_checkstack(L, 4, NULL);
    lua_pushcfunction(L, run_in_scope);
    lua_insert(L, 1);
    lcl_scope inside;
    lcl_scope_enter(&inside);
    bool ok = call_rest(L);
    lua_pushcfunction(L, keep_exempt);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
    lcl_scope_leave(&inside);
    return ok ? lua_gettop(L) : lua_error(L);
}

/* -- leaves -- */

static int param(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lua_settop(L, 2);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_detach(x, slot), 1);
    if (!lua_isnoneornil(L, 2)) lcl_done(L, lc_tensor_set_name(*slot, lcl_string(L, 2)), 1);
    return lcl_done(L, lc_require_grad(*slot, true), 1);
}

/* -- the gradient checker -- */

typedef struct gradcheck_options {
    double step;
} gradcheck_options;

static const lcl_option gradcheck_rows[] = {
    {"step", LCL_NUMBER, offsetof(gradcheck_options, step), .min = 1e-12, .max = 1, .fallback = "1e-6",
     .doc = "distance of the differences"},
    {0},
};
static const lcl_option_set gradcheck_set = {"gradcheck", gradcheck_rows};

typedef struct check_job {
    lc_tensor *const *x;
    int n;
    lc_tensor **y;
} check_job;

/* Arguments: the job, and the user's function. */
static int check_protected(lua_State *L) {
    check_job *job = lua_touserdata(L, 1);
    luaL_checkstack(L, job->n + 4, NULL);
    for (int i = 0; i < job->n; i++) lcl_push_tensor(L, job->x[i]);
    lua_call(L, job->n, 1);
    lc_tensor *result = lcl_test(L, -1, &LCL_TENSOR);
    if (!result) lcl_error(L, "gradcheck: the function must return a tensor, got %s", lcl_describe(L, -1));
    *job->y = lc_tensor_retain(result);
    return 0;
}

/* Runs in the frame of gradcheck, whose argument 1 is the user's function. */
static lc_status call_checked(void *context, lc_tensor *const *x, int n, lc_tensor **y) {
    lua_State *L = context;
    check_job job = {x, n, y};
    lua_pushcfunction(L, check_protected);
    lua_pushlightuserdata(L, &job);
    lua_pushvalue(L, 1);
    return lcl_call(L, 2, 0);
}

static int gradcheck(lua_State *L) {
    check_function(L);
    if (!lua_istable(L, 2)) lcl_expected(L, 2, "a list of f64 tensors");
    gradcheck_options o;
    lcl_options(L, 3, &gradcheck_set, &o);
    lc_tensor *x[LC_MAX_IN];
    int64_t n = (int64_t)lua_rawlen(L, 2);
    if (n < 1 || n > LC_MAX_IN) lcl_error(L, "gradcheck: takes 1 to %d tensors, got %lld", LC_MAX_IN, (long long)n);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 2, i + 1);
        x[i] = lcl_test(L, -1, &LCL_TENSOR);
        if (!x[i]) lcl_error(L, "gradcheck: entry %d of the list is %s, not a tensor", i + 1, lcl_describe(L, -1));
        lua_pop(L, 1);
        lcl_done(L, lc_require_grad(x[i], true), 0);
    }
    luaL_checkstack(L, 8, NULL);
    double worst = 0;
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_gradient_check(call_checked, L, x, (int)n, o.step, &worst);
    lcl_leave(outer);
    lua_pushnumber(L, lcl_plain(worst));
    return lcl_done(L, status, 1);
}

static const lcl_function functions[] = {
    {"no_grad", no_grad, "lc.no_grad(fn, ...) -> fn's results", "Runs fn without recording for gradients."},
    {"scope", scope, "lc.scope(fn, ...) -> fn's results",
     "Runs fn, then frees the tensors that it made, except its results and parameters."},
    {"exempt", exempt, "lacuna.core.grad.exempt(table) -> table",
     "lc.scope spares the tensors in this table, to any depth, as long as the table lives."},
    {"param", param, "lc.param(tensor [, name]) -> leaf",
     "A leaf on the same storage, which wants a gradient: something to train."},
    {"gradcheck", gradcheck, "lc.gradcheck(fn, {x, ...}, {step}) -> worst error",
     "Compares the gradients of fn(x, ...) with central differences; x must be f64. The error is relative above 1, "
     "else absolute.",
     &gradcheck_set},
    {0},
};

int luaopen_lacuna_grad(lua_State *L) {
    lua_newtable(L);
    lcl_functions(L, functions);
    return 1;
}
