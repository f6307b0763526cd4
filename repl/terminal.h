/* terminal.h: line editing for the prompt, as Lua module "lacuna.repl.terminal". */
#ifndef LC_TERMINAL_H
#define LC_TERMINAL_H

#include <lua.h>

int luaopen_lacuna_terminal(lua_State *L);

#endif
