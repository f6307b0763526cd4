/* modules.h: the library inside the binary. */
#ifndef LC_MODULES_H
#define LC_MODULES_H

#include <lua.h>

/* Makes `require` find the C modules of bindings/modules.def as "lacuna.core.NAME" and the embedded Lua files; none is
 * opened yet. A file given through LUA_PATH does not hide them. */
void modules_install(lua_State *L);

#endif
