/* lcl.c: handles and their lifetimes, errors, and the way back into Lua.
 *
 * A handle is a userdata with one counted pointer. It lives until Lua collects it, `<close>` leaves its block, or
 * lc.scope ends; whichever comes first frees the object, and the others find nothing left to do. */
#include "lcl.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/pool.h"

/* -- handles -- */

static void unlink_handle(lcl_handle *h) {
    if (!h->next) return;
    h->previous->next = h->next;
    h->next->previous = h->previous;
    h->previous = h->next = NULL;
}

static void link_handle(lcl_handle *h, lcl_scope *scope) {
    h->previous = &scope->list;
    h->next = scope->list.next;
    h->next->previous = h;
    scope->list.next = h;
}

static void free_object(lcl_handle *h) {
    void *object = h->object;
    h->object = NULL;
    unlink_handle(h);
    if (object) h->type->release(object);
}

static int handle_gc(lua_State *L) {
    free_object(lua_touserdata(L, 1));
    return 0;
}

/* Registry key of the Lua error behind LC_EEXTERNAL. */
static char kept_error;

static const char *short_name(const lcl_type *type) {
    const char *dot = strrchr(type->name, '.');
    return dot ? dot + 1 : type->name;
}

/* "a mask", "an optimizer". */
static const char *push_kind(lua_State *L, const lcl_type *type) {
    const char *name = short_name(type);
    return lua_pushfstring(L, "%s %s", strchr("aeiou", *name) ? "an" : "a", name);
}

static int no_method(lua_State *L) {
    static const char *const no_fields[] = {NULL};
    lcl_no_field(L, lua_tostring(L, lua_upvalueindex(2)), no_fields, sizeof *no_fields);
}

/* Reading a name that the table of methods on top has not is an error. */
static void refuse_other_names(lua_State *L, const lcl_type *type) {
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, -2);
    push_kind(L, type);
    lua_pushcclosure(L, no_method, 2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

void lcl_register(lua_State *L, const lcl_type *type) {
    lua_pushboolean(L, false);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_error);
    if (luaL_newmetatable(L, type->name)) {
        lua_createtable(L, 0, 16);
        if (type->methods) luaL_setfuncs(L, type->methods, 0);
        refuse_other_names(L, type);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, handle_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, handle_gc);
        lua_setfield(L, -2, "__close");
        if (type->meta) luaL_setfuncs(L, type->meta, 0);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, type);
    }
    lua_pop(L, 1);
}

void lcl_metatable(lua_State *L, const lcl_type *type) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, type);
}

static lcl_scope *innermost;

/* Tensors come from many modules: the first one to make a tensor opens the module that defines them. */
static void open_tensor_module(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lacuna.core.tensor");
    lua_call(L, 1, 0);
}

void *lcl_push(lua_State *L, const lcl_type *type) {
    bool tensor = type == &LCL_TENSOR;
    if (tensor) lcl_collect(L);
    lcl_handle *h = lua_newuserdatauv(L, sizeof *h, tensor ? 0 : 1);
    *h = (lcl_handle){.type = type};
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, type) == LUA_TNIL && tensor) {
        open_tensor_module(L);
        lua_pop(L, 1);
        lua_rawgetp(L, LUA_REGISTRYINDEX, type);
    }
    lua_setmetatable(L, -2);
    if (tensor && innermost) link_handle(h, innermost);
    return &h->object;
}

/* NULL when the value at `index` is no handle of this type. Size and first word tell handles from others' userdata
 * without a look-up: every call of every method comes through here. */
static lcl_handle *to_handle(lua_State *L, int index, const lcl_type *type) {
    lcl_handle *h = lua_touserdata(L, index);
    return h && lua_rawlen(L, index) == sizeof *h && h->type == type ? h : NULL;
}

static void *living(lua_State *L, lcl_handle *h) {
    if (h->object) return h->object;
    if (h->type == &LCL_TENSOR) lcl_error(L, "this tensor was freed by lc.scope");
    lcl_error(L, "this %s was closed", short_name(h->type));
}

void *lcl_test(lua_State *L, int arg, const lcl_type *type) {
    lcl_handle *h = to_handle(L, arg, type);
    return h ? living(L, h) : NULL;
}

void *lcl_check(lua_State *L, int arg, const lcl_type *type) {
    lcl_handle *h = to_handle(L, arg, type);
    if (h) return living(L, h);
    lcl_expected(L, arg, push_kind(L, type));
}

lc_tensor *lcl_peek(lua_State *L, int index) {
    lcl_handle *h = to_handle(L, index, &LCL_TENSOR);
    return h ? h->object : NULL;
}

static const lcl_type TEXT = {"lacuna.text", lc_free, NULL, NULL};

char **lcl_text(lua_State *L) {
    lcl_register(L, &TEXT); /* does nothing but the first time */
    return lcl_push(L, &TEXT);
}

const char *lcl_path(lua_State *L, int arg) {
    const char *path = lcl_string(L, arg);
    char **expanded = lcl_text(L);
    lcl_done(L, lc_path_expand(path, expanded), 0);
    lua_pushstring(L, *expanded);
    lua_replace(L, arg);
    lua_pop(L, 1);
    return lua_tostring(L, arg);
}

void lcl_close(lua_State *L, int index) {
    free_object(lua_touserdata(L, index));
}

/* -- collection: Lua sees handles of a few bytes, so the engine's own count says when to collect -- */

#define COLLECT_FLOOR ((size_t)256 << 20)
static size_t live_after_collection;

void lcl_collect(lua_State *L) {
    size_t live = lc_memory_get().live;
    if (live < COLLECT_FLOOR || live < 2 * live_after_collection) return;
    lua_gc(L, LUA_GCCOLLECT);
    live_after_collection = lc_memory_get().live;
}

static int nothing(lua_State *L) {
    (void)L;
    return 0;
}

void lcl_collect_all(lua_State *L) {
    /* Lua drops a finalizer that it has no memory to call: a call must have room first. */
    lua_pushcfunction(L, nothing);
    if (lua_pcall(L, 0, 0, 0) == LUA_OK)
        lua_gc(L, LUA_GCCOLLECT);
    else
        lua_pop(L, 1);
    lc_memory_trim();
    live_after_collection = lc_memory_get().live;
}

/* -- scopes -- */

void lcl_scope_enter(lcl_scope *scope) {
    scope->list.previous = scope->list.next = &scope->list;
    scope->outer = innermost;
    innermost = scope;
}

static bool is_parameter(const lc_tensor *t) {
    return t->name || t->leaf || (t->requires_grad && !t->node);
}

void lcl_scope_leave(lcl_scope *scope) {
    innermost = scope->outer;
    while (scope->list.next != &scope->list) {
        lcl_handle *h = scope->list.next;
        if (h->object && is_parameter(h->object))
            unlink_handle(h);
        else
            free_object(h);
    }
}

static void keep_handle(lcl_handle *h, lcl_scope *scope) {
    bool listed = h->next != NULL;
    unlink_handle(h);
    if (listed && scope) link_handle(h, scope);
}

/* Keeps a tensor; puts a table that is not in the set at `seen` there and at the end of the list at `seen` + 1. */
static void visit(lua_State *L, int index, int seen, lcl_scope *scope) {
    index = lua_absindex(L, index);
    lcl_handle *h = to_handle(L, index, &LCL_TENSOR);
    if (h) keep_handle(h, scope);
    if (!lua_istable(L, index)) return;
    lua_pushvalue(L, index);
    bool known = lua_rawget(L, seen) != LUA_TNIL;
    lua_pop(L, 1);
    if (known) return;
    lua_pushvalue(L, index);
    lua_pushboolean(L, true);
    lua_rawset(L, seen);
    lua_pushvalue(L, index);
    lua_rawseti(L, seen + 1, (lua_Integer)lua_rawlen(L, seen + 1) + 1);
}

/* A list and no recursion: tables may be nested deeper than the C stack is. */
static void keep_in(lua_State *L, int index, lcl_scope *scope) {
    index = lua_absindex(L, index);
    luaL_checkstack(L, 8, NULL);
    lua_newtable(L);
    lua_newtable(L);
    int seen = lua_gettop(L) - 1;
    visit(L, index, seen, scope);
    for (lua_Integer i = 1; lua_rawgeti(L, seen + 1, i) != LUA_TNIL; i++) {
        for (lua_pushnil(L); lua_next(L, seen + 2); lua_pop(L, 1)) {
            visit(L, -1, seen, scope);
            visit(L, -2, seen, scope);
        }
        lua_settop(L, seen + 1);
    }
    lua_settop(L, seen - 1);
}

void lcl_keep(lua_State *L, int index) {
    if (innermost) keep_in(L, index, NULL);
}

void lcl_keep_result(lua_State *L, int index) {
    if (innermost) keep_in(L, index, innermost->outer);
}

/* -- errors -- */

/* Pushes "recipe.lua:12: " for the first line of the user's code up the stack; "" when there is none. */
static void push_position(lua_State *L) {
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0 && strncmp(ar.source, LCL_LIBRARY_CHUNK, strlen(LCL_LIBRARY_CHUNK)) != 0) {
            lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
            return;
        }
    }
    lua_pushliteral(L, "");
}

void lcl_error(lua_State *L, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    push_position(L);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    lua_error(L);
    __builtin_unreachable();
}

const char *lcl_function_name(lua_State *L) {
    lua_Debug ar;
    if (lua_type(L, lua_upvalueindex(3)) == LUA_TSTRING) return lua_tostring(L, lua_upvalueindex(3));
    if (!lua_getstack(L, 0, &ar) || !lua_getinfo(L, "n", &ar) || !ar.name) return "?";
    return ar.name;
}

const char *lcl_describe(lua_State *L, int index) {
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        return lua_pushfstring(L, "the string '%s'", lua_tostring(L, index));
    case LUA_TNUMBER:
        if (lua_tonumber(L, index) != lua_tonumber(L, index)) return "nan";
        lua_pushvalue(L, index); /* a copy, because conversion changes the value in place */
        return lua_pushfstring(L, "%s", lua_tostring(L, -1));
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? "true" : "false";
    case LUA_TNONE:
    case LUA_TNIL:
        return "nil";
    case LUA_TUSERDATA:
        if (luaL_getmetafield(L, index, "__name") == LUA_TSTRING) {
            const char *dot = strrchr(lua_tostring(L, -1), '.'), *name = dot ? dot + 1 : lua_tostring(L, -1);
            return lua_pushfstring(L, "%s %s", strchr("aeiou", *name) ? "an" : "a", name);
        }
        return "a userdata";
    default:
        return lua_pushfstring(L, "a %s", luaL_typename(L, index));
    }
}

/* Pushes a function of lacuna.errors. */
static void push_errors(lua_State *L, const char *function) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lacuna.errors");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, function);
    lua_remove(L, -2);
}

const char *lcl_suggestion(lua_State *L, const char *word) {
    push_errors(L, "suggestion");
    lua_insert(L, -2);
    lua_pushstring(L, word);
    lua_insert(L, -2);
    lua_call(L, 2, 1);
    return lua_tostring(L, -1);
}

void lcl_no_field(lua_State *L, const char *what, const char *const *name, size_t size) {
    if (lua_type(L, 2) != LUA_TSTRING) lcl_error(L, "%s has no %s", what, lcl_describe(L, 2));
    push_errors(L, "no_field");
    lua_pushstring(L, what);
    lua_pushvalue(L, 2);
    lua_newtable(L);
    int list = lua_gettop(L), count = 0;
    for (lua_pushnil(L); lua_next(L, lua_upvalueindex(1)); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_rawseti(L, list, ++count);
    }
    for (; *name; name = (const char *const *)((const char *)name + size)) {
        lua_pushstring(L, *name);
        lua_rawseti(L, list, ++count);
    }
    lua_call(L, 3, 1);
    lcl_error(L, "%s", lua_tostring(L, -1));
}

void lcl_expected(lua_State *L, int arg, const char *expected) {
    lua_Debug ar = {0};
    const char *got = lcl_describe(L, arg), *function = lcl_function_name(L);
    bool known = lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar);
    if (known && strcmp(ar.namewhat, "metamethod") == 0)
        lcl_error(L, "%s: expected %s, got %s", function, expected, got);
    if (known && strcmp(ar.namewhat, "method") == 0) arg--; /* the receiver is not counted where it is not written */
    if (arg == 0) lcl_error(L, "%s: expected %s before the colon, got %s", function, expected, got);
    lcl_error(L, "%s: argument %d: expected %s, got %s", function, arg, expected, got);
}

void lcl_raise(lua_State *L, lc_status status) {
    if (status == LC_EEXTERNAL && lua_rawgetp(L, LUA_REGISTRYINDEX, &kept_error) != LUA_TNIL) {
        lua_pushboolean(L, false); /* not nil: the key keeps its place, so that lcl_call need not allocate one */
        lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_error);
        lua_error(L);
    }
    if (status == LC_ECANCEL) {
        lc_cancel_clear();
        lua_pushliteral(L, "interrupted");
        lua_error(L);
    }
    lcl_error(L, "%s", lc_message());
}

int lcl_done(lua_State *L, lc_status status, int results) {
    if (status) lcl_raise(L, status);
    return results;
}

/* -- the way back into Lua -- */

static lua_State *running;

lua_State *lcl_enter(lua_State *L) {
    lua_State *outer = running;
    running = L;
    return outer;
}

void lcl_leave(lua_State *outer) {
    running = outer;
}

lua_State *lcl_running(void) {
    return running;
}

lc_status lcl_call(lua_State *L, int arguments, int results) {
    if (lua_pcall(L, arguments, results, 0) == LUA_OK) return LC_OK;
    lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_error);
    return lc_fail(LC_EEXTERNAL, "a Lua function failed");
}
