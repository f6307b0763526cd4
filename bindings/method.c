/* method.c: layer:transform and layer:replace: Lua functions installed on a layer, their trained tensors and their
 * state.
 *
 * The function gets `s`, the same handle that the installing call returns: s.<name> reads a parameter or a state
 * tensor, s.<name> = tensor writes state, and s.step, s.progress and s.training read the clock of the layer's model. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "grad/graph.h"
#include "model.h"

/* What core keeps of a Lua method. Lives in a userdata that the registry anchors until core lets go. */
typedef struct lua_method {
    lua_State *main; /* the coroutine that installed it may be gone by then */
    int anchor;      /* registry reference to this userdata; its user value is the function */
} lua_method;

/* -- what core calls ---------------------------------------------------------------------------- */

typedef struct method_call {
    lc_installed *me;
    lc_tensor *in[3]; /* x?, w, b?; NULL is passed as nil */
    int n_in;
    lc_tensor *out;
} method_call;

/* Runs protected: calls the function with tensors and s. */
static int call_function(lua_State *L) {
    method_call *call = lua_touserdata(L, 1);
    lua_method *method = call->me->method.context;
    luaL_checkstack(L, 8, NULL);
    lua_rawgeti(L, LUA_REGISTRYINDEX, method->anchor);
    lua_getiuservalue(L, -1, 1);
    for (int i = 0; i < call->n_in; i++) {
        if (call->in[i])
            lcl_push_tensor(L, call->in[i]);
        else
            lua_pushnil(L);
    }
    lc_installed **s = lcl_push(L, &LCL_INSTALLED);
    *s = lc_installed_retain(call->me);
    lua_call(L, call->n_in + 1, 1);
    lc_tensor *result = lcl_test(L, -1, &LCL_TENSOR);
    if (!result)
        lcl_error(L, "%s '%s' on %s must return a tensor, got %s", call->me->method.transform ? "transform" : "product",
                  call->me->method.name, call->me->layer ? call->me->layer->name : "its layer", lcl_describe(L, -1));
    call->out = lc_tensor_retain(result);
    return 0;
}

static lc_status run(method_call *call, lc_tensor **out) {
    lua_State *L = lcl_running();
    if (!L || !lua_checkstack(L, 4))
        return lc_fail(LC_ESTATE, "'%s' is a Lua function and was reached from outside Lua", call->me->method.name);
    lua_pushcfunction(L, call_function);
    lua_pushlightuserdata(L, call);
    LC_TRY(lcl_call(L, 1, 0));
    *out = call->out;
    return LC_OK;
}

static lc_status run_transform(lc_installed *me, lc_layer *layer, lc_tensor *w, lc_tensor **out) {
    (void)layer;
    return run(&(method_call){.me = me, .in = {w}, .n_in = 1}, out);
}

static lc_status run_product(lc_installed *me, lc_layer *layer, lc_tensor *x, lc_tensor *w, lc_tensor *b,
                             lc_tensor **y) {
    (void)layer;
    return run(&(method_call){.me = me, .in = {x, w, b}, .n_in = 3}, y);
}

static void release_method(void *context) {
    lua_method *method = context;
    luaL_unref(method->main, LUA_REGISTRYINDEX, method->anchor);
}

/* -- options ------------------------------------------------------------------------------------ */

typedef struct method_options {
    const char *name;
} method_options;

static const lcl_option method_rows[] = {
    {"name", LCL_STRING, offsetof(method_options, name),
     .doc = "printed, and part of its tensors' names in checkpoints; default transform.<number> or product"},
    {"params", LCL_ANY, .doc = "{name = leaf}: trained beside the model's parameters, clipped, checkpointed"},
    {"state", LCL_ANY, .doc = "{name = tensor} or {'name', ...}: kept from call to call, checkpointed"},
    {0},
};
static const lcl_option_set transform_set = {"transform", method_rows}, replace_set = {"replace", method_rows};

/* Names that handles have themselves. */
static const char *const reserved[] = {"remove", "name", "layer", "step", "progress", "training", NULL};

static void check_name(lua_State *L, const char *name) {
    for (const char *const *r = reserved; *r; r++)
        if (!strcmp(name, *r))
            lcl_error(L, "'%s' cannot name a parameter or state: every handle has it; choose another", name);
}

/* Pushes the sorted list of the names in the table at `index`: its string keys, and the strings in its list part. */
static lua_Integer push_names(lua_State *L, int index) {
    lua_newtable(L);
    int list = lua_gettop(L);
    lua_Integer n = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        bool listed = lua_isinteger(L, -2);
        lua_pushvalue(L, listed ? -1 : -2);
        if (lua_type(L, -1) != LUA_TSTRING) lcl_error(L, "expected {name = tensor}, got %s", lcl_describe(L, -1));
        check_name(L, lua_tostring(L, -1));
        lua_rawseti(L, list, ++n);
    }
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, LUA_TABLIBNAME);
    lua_getfield(L, -1, "sort");
    lua_pushvalue(L, list);
    lua_call(L, 1, 0);
    lua_settop(L, list);
    return n;
}

/* The leaf behind a tensor: itself, or what a parameter in its file's shape stands for. */
static lc_tensor *leaf_of(lc_tensor *t) {
    return t->leaf ? t->leaf : t;
}

/* Adds what the option `field` names to the method, in the order of the names. */
static void add_tensors(lua_State *L, const char *field, lc_installed *me, bool trained) {
    int type = lcl_field(L, 3, field), table = lua_gettop(L);
    if (type == LUA_TNIL) return;
    if (type != LUA_TTABLE) lcl_error(L, "%s must be a table {name = tensor}, got %s", field, lcl_describe(L, table));
    lua_Integer n = push_names(L, table);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, table + 1, i);
        const char *name = lua_tostring(L, -1);
        lua_getfield(L, table, name);
        lc_tensor *t = lcl_test(L, -1, &LCL_TENSOR);
        if (!t && (trained || !lua_isnil(L, -1)))
            lcl_error(L, "%s.%s must be a tensor, got %s", field, name, lcl_describe(L, -1));
        lcl_done(L, trained ? lc_installed_add_param(me, name, leaf_of(t)) : lc_installed_add_state(me, name, t), 0);
        lua_pop(L, 2);
    }
    lua_settop(L, table - 1);
}

/* Runs protected, with the handle at 1 and the options at 3. */
static int add_all_tensors(lua_State *L) {
    lc_installed *me = lcl_check(L, 1, &LCL_INSTALLED);
    add_tensors(L, "params", me, true);
    add_tensors(L, "state", me, false);
    return 0;
}

/* -- installing --------------------------------------------------------------------------------- */

/* Pushes the anchored context of the function at argument 2. */
static lua_method *push_method(lua_State *L) {
    lua_method *method = lua_newuserdatauv(L, sizeof *method, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    method->main = lua_tothread(L, -1);
    lua_pop(L, 1);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    return method;
}

/* "transform.<number>": one more than the last one of such a name that the layer has. */
static void default_name(const lc_layer *layer, char *name, size_t size) {
    int last = 0, number;
    for (int i = 0; i < layer->n_transforms; i++)
        if (sscanf(layer->transforms[i]->method.name, "transform.%d", &number) == 1) last = lc_max(last, number);
    snprintf(name, size, "transform.%d", last + 1);
}

static int install(lua_State *L, bool product) {
    lc_layer *layer = lcl_check(L, 1, &LCL_LAYER);
    if (!lua_isfunction(L, 2)) lcl_expected(L, 2, "a function");
    char place[40] = "product";
    if (!product) default_name(layer, place, sizeof place);
    method_options o = {0};
    lcl_options(L, 3, product ? &replace_set : &transform_set, &o);
    lua_settop(L, 3);
    lua_method *context = push_method(L);
    lc_installed **slot = lcl_push(L, &LCL_INSTALLED);
    lc_method method = {.name = o.name ? o.name : place, .release = release_method, .context = context};
    if (product)
        method.product = run_product;
    else
        method.transform = run_transform;
    lua_pushvalue(L, 4);
    context->anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    lcl_done(L, lc_layer_install(layer, &method, slot), 0);
    lua_pushcfunction(L, add_all_tensors);
    lua_pushvalue(L, 5);
    lua_pushnil(L);
    lua_pushvalue(L, 3);
    if (lua_pcall(L, 3, 0, 0) != LUA_OK) { /* what cannot have its tensors is not installed */
        lc_installed_remove(*slot);
        lua_error(L);
    }
    return 1;
}

int lcl_layer_transform(lua_State *L) {
    return install(L, false);
}

int lcl_layer_replace(lua_State *L) {
    return install(L, true);
}

/* -- saving ------------------------------------------------------------------------------------- */

static lc_status find_transform(void *context, lc_installed *me) {
    lc_installed **found = context;
    if (me->method.transform) *found = me;
    return LC_OK;
}

void lcl_warn_of_transforms(lua_State *L, lc_model *m) {
    lc_installed *found = NULL;
    lcl_done(L, lc_model_each_installed(m, find_transform, &found), 0);
    if (!found) return;
    lua_pushfstring(L, "save: transform '%s' is installed on %s; the file holds the weights without it",
                    found->method.name, found->layer->name);
    lua_warning(L, lua_tostring(L, -1), 0);
    lua_pop(L, 1);
}

/* -- the handle --------------------------------------------------------------------------------- */

static lc_installed *check(lua_State *L) {
    return lcl_check(L, 1, &LCL_INSTALLED);
}

static int handle_remove(lua_State *L) {
    lc_installed_remove(check(L));
    return 0;
}

static const lcl_function functions[] = {
    {"remove", handle_remove, "handle:remove()", "Takes the method out of its layer; what it kept can still be read."},
    {0},
};

/* Pushes the tensor of that name, or nil; false when the method has no such name. */
static bool push_named(lua_State *L, lc_installed *me, const char *name) {
    lc_param *p = lc_installed_param(me, name);
    lc_state *state = p ? NULL : lc_installed_state(me, name);
    if (!p && !state) return false;
    if (p)
        lcl_push_param(L, p);
    else if (state->tensor)
        lcl_push_tensor(L, state->tensor);
    else
        lua_pushnil(L);
    return true;
}

/* s.name; upvalue 1 is the table of methods. */
static int handle_index(lua_State *L) {
    lc_installed *me = check(L);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    const char *name = lcl_string(L, 2);
    lc_clock clock = lc_installed_clock(me);
    if (push_named(L, me, name)) return 1;
    if (!strcmp(name, "name"))
        lua_pushstring(L, me->method.name);
    else if (!strcmp(name, "step"))
        lua_pushinteger(L, clock.step);
    else if (!strcmp(name, "progress"))
        lua_pushnumber(L, clock.progress);
    else if (!strcmp(name, "training"))
        lua_pushboolean(L, clock.training);
    else if (!strcmp(name, "layer") && me->layer)
        lcl_push_layer(L, me->layer);
    else if (!strcmp(name, "layer"))
        lua_pushnil(L);
    else
        lcl_error(L, "'%s' has no parameter or state '%s'; name it in the call that installs it", me->method.name,
                  name);
    return 1;
}

/* s.name = tensor or nil: values only, without their graph. */
static int handle_newindex(lua_State *L) {
    lc_installed *me = check(L);
    const char *name = lcl_string(L, 2);
    lc_state *state = lc_installed_state(me, name);
    if (!state)
        lcl_error(L, "'%s' %s", name,
                  lc_installed_param(me, name) ? "is trained: write into it with copy_"
                                               : "is no state; name it in the call that installs the method");
    if (lua_isnil(L, 3)) {
        lc_state_set(state, NULL);
        return 0;
    }
    lc_tensor *value = lcl_tensor(L, 3), **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_detach(value, slot), 0);
    lc_state_set(state, *slot);
    return 0;
}

static int handle_tostring(lua_State *L) {
    lc_installed *me = check(L);
    lua_pushfstring(L, "%s '%s' on %s", me->method.transform ? "transform" : "product", me->method.name,
                    me->layer ? me->layer->name : "nothing any more");
    return 1;
}

static void release_installed(void *object) {
    lc_installed_release(object);
}

static const luaL_Reg meta[] = {{"__newindex", handle_newindex}, {"__tostring", handle_tostring}, {NULL, NULL}};

const lcl_type LCL_INSTALLED = {"lacuna.method", release_installed, NULL, meta};

void lcl_open_method(lua_State *L) {
    lcl_register(L, &LCL_INSTALLED);
    lcl_metatable(L, &LCL_INSTALLED);
    lua_newtable(L);
    lcl_functions(L, functions);
    lua_pushcclosure(L, handle_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
