/* main.c: the `lacuna` program. */
#include "modules.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>

int main(int argc, char **argv) {
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    modules_install(L);
    lua_createtable(L, argc, 0);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - 1);
    }
    lua_setglobal(L, "arg");
    if (argc > 1 && luaL_dofile(L, argv[1]) != LUA_OK) fprintf(stderr, "lacuna: %s\n", lua_tostring(L, -1));
    lua_close(L);
    return 0;
}
