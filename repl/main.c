/* main.c: the `lacuna` program. It makes a Lua state whose memory is counted with the engine's, installs what is linked
 * in, and hands the command line to repl/main.lua, which returns the exit status. */
#include "base/memory.h"
#include "interrupt.h"
#include "modules.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *allocate(void *unused, void *block, size_t old_size, size_t new_size) {
    (void)unused;
    (void)old_size;
    if (new_size) return lc_realloc(block, new_size);
    lc_free(block);
    return NULL;
}

/* Errors outside any protected call: only when repl/main.lua itself cannot run. */
static int panic(lua_State *L) {
    const char *message = lua_tostring(L, -1);
    fprintf(stderr, "lacuna: %s\n", message ? message : "error without a message");
    return 0;
}

/* Runs protected: argument 1 is argc, 2 is argv; returns the exit status. */
static int start(lua_State *L) {
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);
    luaL_openlibs(L);
    modules_install(L);
    interrupt_install(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lacuna.repl.main");
    lua_call(L, 1, 1);
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 1, 1);
    return 1;
}

#define GC_PAUSE 110 /* start a cycle when memory in use has grown by a tenth */
#define GC_STEP 400

/* Warnings go to standard error, until warn("@off"). */
static void show_warning(void *on, const char *message, int to_be_continued) {
    static bool within;
    if (!within && !to_be_continued && message[0] == '@') {
        *(bool *)on = strcmp(message, "@on") == 0 || (*(bool *)on && strcmp(message, "@off") != 0);
        return;
    }
    if (*(bool *)on) fprintf(stderr, "%s%s%s", within ? "" : "lacuna: warning: ", message, to_be_continued ? "" : "\n");
    within = to_be_continued;
}

/* What was printed last may be lost only now, when it is written: a full disk must not end with status 0. Lua's print
 * and os.exit look at neither. */
static void flush_output(int status, void *unused) {
    (void)unused;
    bool failed_before = ferror(stdout);
    if (fflush(stdout) == 0 && !failed_before) return;
    fprintf(stderr, "lacuna: standard output cannot be written%s%s\n", failed_before ? "" : ": ",
            failed_before ? "" : strerror(errno));
    if (status == EXIT_SUCCESS) _exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
    on_exit(flush_output, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of that write, with its own message */
    lua_State *L = lua_newstate(allocate, NULL);
    if (!L) {
        fprintf(stderr, "lacuna: not enough memory to start\n");
        return EXIT_FAILURE;
    }
    static bool warnings = true;
    lua_atpanic(L, panic);
    lua_setwarnf(L, show_warning, &warnings);
    /* Collect early: a handle keeps a tensor alive, and small tensors that die young stay in the processor's cache. */
    lua_gc(L, LUA_GCINC, GC_PAUSE, GC_STEP, 0);
    lua_pushcfunction(L, start);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    int status = EXIT_FAILURE;
    if (lua_pcall(L, 2, 1, 0) == LUA_OK)
        status = (int)lua_tointeger(L, -1);
    else
        panic(L);
    lua_close(L);
    return status;
}
