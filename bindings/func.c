/* func.c: the module lacuna.core.func: lc.func, an op whose forward and backward are Lua functions.
 *
 * One call of it is a userdata that the graph keeps through the registry until nothing can call backward any more. It
 * holds the Lua context `ctx` that both functions get, and the tensors that ctx:save put by, with their versions. */
#include <string.h>

#include "model/clock.h"
#include "tensor.h"

#define CTX "lacuna.context"

typedef struct saved {
    lc_tensor *tensor; /* retained; NULL for nil */
    uint64_t version;
} saved;

typedef struct func_call {
    lua_State *main;               /* coroutines may be gone when the graph lets go */
    int anchor;                    /* registry reference to this userdata */
    int arguments;                 /* given to forward */
    int n_in, position[LC_MAX_IN]; /* tensor k is argument position[k] of the call */
    int n_saved;
    saved saved[LC_MAX_IN];
    bool released;  /* backward has run, or never will */
    lc_clock clock; /* when it was called: backward reads the same */
} func_call;

/* User values of the call: 1 is ctx, 2 the table {forward, backward, name}. */
enum { VALUE_CTX = 1, VALUE_DEFINITION = 2 };

/* Key of the call inside ctx. */
static char call_key;

/* -- ctx -- */

static func_call *check_ctx(lua_State *L) {
    if (!lua_istable(L, 1)) lcl_expected(L, 1, "the context of lc.func");
    lua_rawgetp(L, 1, &call_key);
    func_call *call = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (!call) lcl_expected(L, 1, "the context of lc.func");
    return call;
}

static void release_saved(func_call *call) {
    for (int i = 0; i < call->n_saved; i++) lc_tensor_release(call->saved[i].tensor);
    call->n_saved = 0;
}

/* ctx:save(a, b, ...): tensors or nil; in lc.scope they live on. */
static int ctx_save(lua_State *L) {
    func_call *call = check_ctx(L);
    int count = lua_gettop(L) - 1;
    if (call->released) lcl_error(L, "ctx:save: this call's backward pass is over");
    if (count > LC_MAX_IN)
        lcl_error(L, "ctx:save: at most %d tensors, got %d; put others in fields of ctx", LC_MAX_IN, count);
    for (int i = 0; i < count; i++)
        if (!lua_isnil(L, i + 2)) lcl_tensor(L, i + 2);
    release_saved(call);
    for (int i = 0; i < count; i++) {
        lc_tensor *t = lua_isnil(L, i + 2) ? NULL : lcl_tensor(L, i + 2);
        call->saved[i] = (saved){t ? lc_tensor_retain(t) : NULL, t ? t->storage->version : 0};
    }
    call->n_saved = count;
    return 0;
}

/* ctx:saved() -> a, b, ... */
static int ctx_saved(lua_State *L) {
    func_call *call = check_ctx(L);
    if (call->released) lcl_error(L, "ctx:saved: this call's backward pass is over, and what it saved is freed");
    for (int i = 0; i < call->n_saved; i++) {
        lc_tensor *t = call->saved[i].tensor;
        if (t && t->storage->version != call->saved[i].version)
            lcl_error(L,
                      "ctx:saved: tensor %d was changed in place after ctx:save; save x:clone(), or write into a copy",
                      i + 1);
        if (t)
            lcl_push_tensor(L, t);
        else
            lua_pushnil(L);
    }
    return call->n_saved;
}

/* ctx:macs(done, dense): counts multiply-adds that the function did by other means than the engine's products, and what
 * a dense method would have done in their place. */
static int ctx_macs(lua_State *L) {
    check_ctx(L);
    int64_t done = lcl_integer(L, 2), dense = lua_isnoneornil(L, 3) ? done : lcl_integer(L, 3);
    if (done < 0) lcl_error(L, "ctx:macs: a count cannot be negative, got %lld", (long long)done);
    if (dense < done)
        lcl_error(L, "ctx:macs: the dense count, %lld, is less than what was done, %lld", (long long)dense,
                  (long long)done);
    lc_macs_add((uint64_t)done);
    lc_macs_skip((uint64_t)(dense - done));
    return 0;
}

/* Fields that the user has not set: upvalue 1 is the table of methods. */
static int ctx_index(lua_State *L) {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL || lua_type(L, 2) != LUA_TSTRING) return 1;
    const char *name = lua_tostring(L, 2);
    const func_call *call = check_ctx(L);
    if (strcmp(name, "step") == 0)
        lua_pushinteger(L, call->clock.step);
    else if (strcmp(name, "progress") == 0)
        lua_pushnumber(L, call->clock.progress);
    else if (strcmp(name, "training") == 0)
        lua_pushboolean(L, call->clock.training);
    return 1;
}

static void push_ctx_metatable(lua_State *L) {
    static const lcl_function methods[] = {
        {"save", ctx_save, "ctx:save(a, b, ...)", "In forward: keeps tensors for backward."},
        {"saved", ctx_saved, "ctx:saved() -> a, b, ...",
         "In backward: what save kept; raises when one was changed in place since."},
        {"macs", ctx_macs, "ctx:macs(done, dense)",
         "Adds multiply-adds that were done by other means than products to t.macs, and what a dense method would have "
         "done in their place (default: the same) to t.dense_macs."},
        {0},
    };
    if (!luaL_newmetatable(L, CTX)) return;
    lua_newtable(L);
    lcl_functions(L, methods);
    lua_pushcclosure(L, ctx_index, 1);
    lua_setfield(L, -2, "__index");
}

/* -- what core calls: each pushes a C function, which cannot fail, and does all that may raise inside it -- */

/* Pushes the function `name` of the call's definition, and ctx. */
static void push_function(lua_State *L, const func_call *call, const char *name) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->anchor);
    lua_getiuservalue(L, -1, VALUE_DEFINITION);
    lua_getfield(L, -1, name);
    lua_getiuservalue(L, -3, VALUE_CTX);
}

typedef struct forward_job {
    func_call *call;
    lc_tensor **out;
    int *n_out;
} forward_job;

/* Argument 1 is the job, the others are those of the call. */
static int forward_protected(lua_State *L) {
    forward_job *job = lua_touserdata(L, 1);
    int arguments = lua_gettop(L) - 1;
    luaL_checkstack(L, arguments + 8, NULL);
    push_function(L, job->call, "forward");
    for (int i = 1; i <= arguments; i++) lua_pushvalue(L, i + 1);
    int base = lua_gettop(L) - arguments - 2;
    lua_call(L, arguments + 1, LUA_MULTRET);
    int results = lua_gettop(L) - base;
    if (results < 1 || results > LC_MAX_OUT)
        lcl_error(L, "lc.func: forward must return 1 to %d tensors, got %d values", LC_MAX_OUT, results);
    for (int i = 1; i <= results; i++)
        if (!lcl_test(L, base + i, &LCL_TENSOR))
            lcl_error(L, "lc.func: forward must return tensors, got %s", lcl_describe(L, base + i));
    for (int i = 0; i < results; i++) job->out[i] = lc_tensor_retain(lcl_peek(L, base + 1 + i));
    *job->n_out = results;
    return 0;
}

/* Runs in the frame of call_func, whose arguments are at 1.. of the stack. */
static lc_status run_forward(void *context, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    (void)in, (void)n_in;
    lua_State *L = lcl_running();
    forward_job job = {context, out, n_out};
    int arguments = job.call->arguments;
    if (!lua_checkstack(L, arguments + 2)) return lc_fail(LC_ENOMEM, "lc.func: too many arguments");
    lua_pushcfunction(L, forward_protected);
    lua_pushlightuserdata(L, &job);
    for (int i = 1; i <= arguments; i++) lua_pushvalue(L, i);
    return lcl_call(L, arguments + 1, 0);
}

typedef struct backward_job {
    func_call *call;
    lc_tensor *const *dy;
    int n_out;
    const bool *wanted;
    lc_tensor **dx;
    int n_in;
} backward_job;

static int backward_protected(lua_State *L) {
    backward_job *job = lua_touserdata(L, 1);
    luaL_checkstack(L, job->n_out + 8, NULL);
    push_function(L, job->call, "backward");
    int base = lua_gettop(L) - 2;
    for (int i = 0; i < job->n_out; i++) {
        if (job->dy[i])
            lcl_push_tensor(L, job->dy[i]);
        else
            lua_pushnil(L);
    }
    lua_call(L, job->n_out + 1, LUA_MULTRET);
    int results = lua_gettop(L) - base;
    while (results && lua_isnil(L, base + results)) results--;
    if (results > job->call->arguments)
        lcl_error(L, "lc.func: backward gave %d gradients, but %d %s given", results, job->call->arguments,
                  job->call->arguments == 1 ? "argument was" : "arguments were");
    for (int k = 0; k < job->n_in; k++) {
        int argument = job->call->position[k];
        if (!lua_isnoneornil(L, base + argument) && !lcl_test(L, base + argument, &LCL_TENSOR))
            lcl_error(L, "lc.func: backward must return a tensor or nil for argument %d, got %s", argument,
                      lcl_describe(L, base + argument));
    }
    for (int k = 0; k < job->n_in; k++) {
        lc_tensor *gradient = lcl_peek(L, base + job->call->position[k]);
        job->dx[k] = job->wanted[k] && gradient ? lc_tensor_retain(gradient) : NULL;
    }
    return 0;
}

static lc_status run_backward(void *context, lc_tensor *const *dy, int n_out, const bool *wanted, lc_tensor **dx,
                              int n_in) {
    lua_State *L = lcl_running();
    if (!L || !lua_checkstack(L, 4)) return lc_fail(LC_ESTATE, "lc.func: backward was reached from outside Lua");
    backward_job job = {context, dy, n_out, wanted, dx, n_in};
    lua_pushcfunction(L, backward_protected);
    lua_pushlightuserdata(L, &job);
    return lcl_call(L, 1, 0);
}

static void release_call(void *context) {
    func_call *call = context;
    release_saved(call);
    call->released = true;
    luaL_unref(call->main, LUA_REGISTRYINDEX, call->anchor);
}

/* -- lc.func -- */

/* Pushes a new call with its ctx, for the definition at upvalue 1. */
static func_call *push_call(lua_State *L) {
    func_call *call = lua_newuserdatauv(L, sizeof *call, 2);
    memset(call, 0, sizeof *call);
    call->clock = lc_clock_now();
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    call->main = lua_tothread(L, -1);
    lua_pop(L, 1);
    lua_createtable(L, 0, 4);
    lua_pushvalue(L, -2);
    lua_rawsetp(L, -2, &call_key);
    luaL_setmetatable(L, CTX);
    lua_setiuservalue(L, -2, VALUE_CTX);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setiuservalue(L, -2, VALUE_DEFINITION);
    return call;
}

/* The function that lc.func returns; upvalue 1 is its definition. */
static int call_func(lua_State *L) {
    int arguments = lua_gettop(L), n_in = 0, n_out = 0;
    lc_tensor *in[LC_MAX_IN], *out[LC_MAX_OUT], **slots[LC_MAX_OUT];
    luaL_checkstack(L, 16, NULL);
    func_call *call = push_call(L);
    int call_index = lua_gettop(L);
    call->arguments = arguments;
    for (int i = 1; i <= arguments; i++) {
        lc_tensor *t = lcl_test(L, i, &LCL_TENSOR);
        if (!t) continue;
        if (n_in == LC_MAX_IN) lcl_error(L, "lc.func: at most %d tensors can be given", LC_MAX_IN);
        call->position[n_in] = i;
        in[n_in++] = t;
    }
    lc_external external = {call, run_forward, NULL, release_call, "lc.func"};
    if (lua_getfield(L, lua_upvalueindex(1), "backward") == LUA_TFUNCTION) external.backward = run_backward;
    lua_pop(L, 1);
    for (int i = 0; i < LC_MAX_OUT; i++) slots[i] = lcl_push(L, &LCL_TENSOR);
    lua_pushvalue(L, call_index);
    call->anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_apply_external(&external, in, n_in, out, &n_out);
    lcl_leave(outer);
    if (status) lcl_raise(L, status);
    for (int i = 0; i < n_out; i++) *slots[i] = out[i];
    lua_getiuservalue(L, call_index, VALUE_CTX);
    lcl_keep(L, -1); /* what the user put into ctx must outlive a scope */
    lua_settop(L, call_index + n_out);
    return n_out;
}

static const lcl_option func_rows[] = {
    {"forward", LCL_ANY, .required = true, .doc = "function(ctx, ...) -> tensors, run without recording"},
    {"backward", LCL_ANY, .doc = "function(ctx, dy, ...) -> a gradient for each argument, nil for none"},
    {0},
};
static const lcl_option_set func_set = {"func", func_rows};

static int func(lua_State *L) {
    lcl_options(L, 1, &func_set, NULL);
    lua_settop(L, 1);
    for (const lcl_option *row = func_rows; row->name; row++) {
        int type = lcl_field(L, 1, row->name);
        if (type != LUA_TFUNCTION && (row->required || type != LUA_TNIL))
            lcl_error(L, "func: option '%s' must be a function, got %s", row->name, lcl_describe(L, -1));
    }
    lua_createtable(L, 0, 2); /* a copy, so that later changes to the table change nothing */
    for (const lcl_option *row = func_rows; row->name; row++) {
        lua_getfield(L, 1, row->name);
        lua_setfield(L, -2, row->name);
    }
    lua_pushcclosure(L, call_func, 1);
    return 1;
}

static const lcl_function functions[] = {
    {"func", func, "lc.func {forward = function(ctx, ...) end, backward = function(ctx, dy, ...) end} -> function",
     "An op in Lua. ctx goes from forward to backward: ctx:save(...), ctx:saved(), ctx.step, ctx.progress, "
     "ctx.training, ctx:macs(done, dense), and fields of your own.",
     &func_set},
    {0},
};

int luaopen_lacuna_func(lua_State *L) {
    push_ctx_metatable(L);
    lua_newtable(L);
    lcl_functions(L, functions);
    return 1;
}
