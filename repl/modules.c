/* modules.c: package.preload entries for what is linked in: C modules by their open function, Lua files by their text.
 */
#include "modules.h"

#include "terminal.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

#define LCL_MODULE(name) int luaopen_lacuna_##name(lua_State *L);
#include "modules.def"
#undef LCL_MODULE

static int luaopen_lacuna_source(lua_State *L);

static const luaL_Reg c_modules[] = {
#define LCL_MODULE(name) {"lacuna.core." #name, luaopen_lacuna_##name},
#include "modules.def"
#undef LCL_MODULE
    {"lacuna.repl.terminal", luaopen_lacuna_terminal},
    {"lacuna.repl.source", luaopen_lacuna_source},
    {NULL, NULL},
};

/* Written by repl/embed.sh. */
typedef struct embedded_file {
    const char *name; /* of the module; NULL ends the table */
    const char *begin, *end;
} embedded_file;
extern const embedded_file lc_embedded[];

/* Chunks are named "lacuna/steps.lua", which is how messages and tracebacks tell the library from the user's files. */
static void push_chunk_name(lua_State *L, const char *module) {
    const char *path = luaL_gsub(L, module, ".", "/");
    lua_pushfstring(L, "=%s%s", path, strchr(path, '/') ? ".lua" : "/init.lua");
    lua_remove(L, -2);
}

static int open_embedded(lua_State *L) {
    const embedded_file *file = lua_touserdata(L, lua_upvalueindex(1));
    push_chunk_name(L, file->name);
    if (luaL_loadbufferx(L, file->begin, (size_t)(file->end - file->begin), lua_tostring(L, -1), "t") != LUA_OK)
        return lua_error(L);
    lua_pushstring(L, file->name);
    lua_call(L, 1, 1);
    return 1;
}

/* source(chunk name) -> text of the embedded file whose chunk it is ("lacuna/steps.lua"), or nil. */
static int source(lua_State *L) {
    const char *wanted = luaL_checkstring(L, 1);
    for (const embedded_file *file = lc_embedded; file->name; file++) {
        push_chunk_name(L, file->name);
        bool found = strcmp(lua_tostring(L, -1) + 1, wanted) == 0;
        lua_pop(L, 1);
        if (!found) continue;
        lua_pushlstring(L, file->begin, (size_t)(file->end - file->begin));
        return 1;
    }
    lua_pushnil(L);
    return 1;
}

/* Module "lacuna.repl.source": that function. */
static int luaopen_lacuna_source(lua_State *L) {
    lua_pushcfunction(L, source);
    return 1;
}

void modules_install(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    for (const luaL_Reg *m = c_modules; m->name; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
    for (const embedded_file *file = lc_embedded; file->name; file++) {
        lua_pushlightuserdata(L, (void *)file);
        lua_pushcclosure(L, open_embedded, 1);
        lua_setfield(L, -2, file->name);
    }
    lua_pop(L, 1);
}
