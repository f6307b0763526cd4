/* files.c: the module lacuna.core.files: files that are written whole or not at all, and logs that grow by a line. */
#include "base/file.h"

#include <dirent.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "lcl.h"

/* Metatable of an open directory, closed when it is collected. */
#define DIRECTORY "lacuna.directory"

/* append(path, text): one write, then fsync */
static int append(lua_State *L) {
    const char *path = lcl_string(L, 1);
    lcl_string(L, 2);
    size_t length;
    const char *text = lua_tolstring(L, 2, &length);
    return lcl_done(L, lc_file_append(path, text, length), 0);
}

/* write(path, text): the old content or the new one, never a part */
static int write(lua_State *L) {
    const char *path = lcl_string(L, 1);
    lcl_string(L, 2);
    size_t length;
    const char *text = lua_tolstring(L, 2, &length);
    return lcl_done(L, lc_file_write(path, text, length), 0);
}

/* read(path) -> text, or nil when there is no such file */
static int read(lua_State *L) {
    const char *path = lcl_string(L, 1);
    if (!lc_file_exists(path)) return 0;
    size_t length = 0;
    char **slot = lcl_text(L);
    lcl_done(L, lc_file_read(path, 0, slot, &length), 0);
    lua_pushlstring(L, *slot, length);
    lcl_close(L, -2);
    return 1;
}

static int close_directory(lua_State *L) {
    DIR **d = lua_touserdata(L, 1);
    if (*d) closedir(*d);
    *d = NULL;
    return 0;
}

/* list(path) -> names in a directory, in order; nil when it is none */
static int list(lua_State *L) {
    const char *path = lcl_string(L, 1);
    DIR **d = lua_newuserdatauv(L, sizeof *d, 0);
    *d = NULL;
    luaL_setmetatable(L, DIRECTORY);
    *d = opendir(path);
    if (!*d) return 0;
    lua_newtable(L);
    lua_Integer n = 0;
    for (struct dirent *e; (e = readdir(*d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        lua_pushstring(L, e->d_name);
        lua_rawseti(L, -2, ++n);
    }
    lua_getglobal(L, "table");
    lua_getfield(L, -1, "sort");
    lua_pushvalue(L, -3);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
    return 1;
}

static int make_dirs(lua_State *L) {
    return lcl_done(L, lc_make_dirs(lcl_string(L, 1)), 0);
}

static int remove_tree(lua_State *L) {
    return lcl_done(L, lc_remove_tree(lcl_string(L, 1)), 0);
}

static int exists(lua_State *L) {
    const char *path = lcl_string(L, 1);
    lua_pushboolean(L, lc_file_exists(path) || lc_is_dir(path));
    return 1;
}

static void release_lock(void *lock) {
    lc_lock_release(lock);
}

static const lcl_type LOCK = {"lacuna.lock", release_lock, NULL, NULL};

/* lock(path) -> the lock, let go when it is collected; nil when another process has it */
static int lock(lua_State *L) {
    const char *path = lcl_string(L, 1);
    lc_lock **slot = lcl_push(L, &LOCK);
    lc_status status = lc_lock_take(path, slot);
    return status == LC_ESTATE ? 0 : lcl_done(L, status, 1);
}

/* hash(text) -> 32 hex digits */
static int hash(lua_State *L) {
    lcl_string(L, 1);
    size_t length;
    const char *text = lua_tolstring(L, 1, &length);
    char digits[33];
    lc_hash_hex(text, length, digits);
    lua_pushstring(L, digits);
    return 1;
}

/* hash_file(path) -> 32 hex digits of its content */
static int hash_file(lua_State *L) {
    char digits[33];
    lcl_done(L, lc_hash_file(lcl_string(L, 1), digits), 0);
    lua_pushstring(L, digits);
    return 1;
}

static int watch(lua_State *L) {
    (void)L;
    lc_file_watch();
    return 0;
}

/* watched(i) -> the i-th file that was read since watch(), from 1; nil past the last */
static int watched(lua_State *L) {
    lua_pushstring(L, lc_file_watched((size_t)lcl_integer(L, 1) - 1));
    return 1;
}

int luaopen_lacuna_files(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"append", append},   {"write", write}, {"read", read}, {"make_dirs", make_dirs}, {"remove_tree", remove_tree},
        {"exists", exists},   {"hash", hash},   {"list", list}, {"hash_file", hash_file}, {"watch", watch},
        {"watched", watched}, {"lock", lock},   {NULL, NULL},
    };
    lcl_register(L, &LOCK);
    if (luaL_newmetatable(L, DIRECTORY)) {
        lua_pushcfunction(L, close_directory);
        lua_setfield(L, -2, "__gc");
    }
    luaL_newlib(L, functions);
    return 1;
}
