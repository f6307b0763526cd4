/* test.c: the module lacuna.core.test: what tests ask of the engine and recipes do not: live bytes, failing allocations
 * and writes, and the reference backend. */
#include <signal.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/pool.h"
#include "lcl.h"
#include "ops/backend.h"

/* live() -> bytes that tensors and graphs hold, all bytes in use (Lua's too), their peak, bytes cached */
static int live(lua_State *L) {
    lc_memory_stats stats = lc_memory_get();
    lua_pushinteger(L, (lua_Integer)stats.buffers);
    lua_pushinteger(L, (lua_Integer)stats.live);
    lua_pushinteger(L, (lua_Integer)stats.peak);
    lua_pushinteger(L, (lua_Integer)stats.cached);
    return 4;
}

/* allocations() -> how many so far */
static int allocations(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)lc_memory_count());
    return 1;
}

/* fail_at(n): the n-th allocation from now fails; 0 = off */
static int fail_at(lua_State *L) {
    lc_memory_fail_at((uint64_t)lcl_integer(L, 1));
    return 0;
}

/* failing(n, times, fn, ...) -> pcall(fn, ...): the n-th allocation in it fails, and the times - 1 after it. Garbage
 * waits: Lua drops a finalizer that it has no memory to call, and what it would have freed is lost. */
static int failing(lua_State *L) {
    lua_gc(L, LUA_GCSTOP);
    lc_memory_fail_times((uint64_t)lcl_integer(L, 1), (uint64_t)lcl_integer(L, 2));
    int status = lua_pcall(L, lua_gettop(L) - 3, LUA_MULTRET, 0);
    lc_memory_fail_at(0);
    lua_gc(L, LUA_GCRESTART);
    lua_pushboolean(L, status == LUA_OK);
    lua_replace(L, 2);
    return lua_gettop(L) - 1;
}

/* fail_write_at(n, errno): the n-th write from now fails; 0 = off */
static int fail_write_at(lua_State *L) {
    lc_file_fail_at((uint64_t)lcl_integer(L, 1), (int)lcl_integer(L, 2));
    return 0;
}

/* force_ref(on): every op runs on the reference backend */
static int force_ref(lua_State *L) {
    lc_backend_force_ref(lcl_boolean(L, 1));
    return 0;
}

/* ops() -> {{name, outputs, backend}, ...} in the order of ops.def */
static int ops(lua_State *L) {
    lua_createtable(L, LC_OPS, 0);
    for (int op = 0; op < LC_OPS; op++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, lc_op_name((lc_op)op));
        lua_setfield(L, -2, "name");
        lua_pushinteger(L, lc_op_outputs((lc_op)op));
        lua_setfield(L, -2, "outputs");
        lua_pushstring(L, lc_op_backend((lc_op)op, LC_CPU));
        lua_setfield(L, -2, "backend");
        lua_rawseti(L, -2, op + 1);
    }
    return 1;
}

/* threads([n]) -> threads in use */
static int threads(lua_State *L) {
    if (!lua_isnoneornil(L, 1)) lcl_done(L, lc_set_threads((int)lcl_integer(L, 1)), 0);
    lua_pushinteger(L, lc_threads());
    return 1;
}

/* cancel(): as Ctrl-C */
static int cancel(lua_State *L) {
    (void)L;
    lc_cancel();
    return 0;
}

/* interrupt_after(seconds): SIGINT then, as Ctrl-C; 0 = not any more */
static int interrupt_after(lua_State *L) {
    static timer_t timer;
    static bool made;
    double seconds = lcl_number(L, 1);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGINT};
    if (!made && timer_create(CLOCK_MONOTONIC, &event, &timer)) lcl_error(L, "interrupt_after: no timer");
    made = true;
    struct itimerspec when = {.it_value.tv_sec = (time_t)seconds};
    when.it_value.tv_nsec = (long)((seconds - (double)when.it_value.tv_sec) * 1e9);
    timer_settime(timer, 0, &when, NULL);
    return 0;
}

/* macs() -> multiply-adds done so far */
static int macs(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)lc_macs());
    return 1;
}

int luaopen_lacuna_test(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"live", live},
        {"allocations", allocations},
        {"fail_at", fail_at},
        {"failing", failing},
        {"fail_write_at", fail_write_at},
        {"force_ref", force_ref},
        {"ops", ops},
        {"threads", threads},
        {"cancel", cancel},
        {"macs", macs},
        {"interrupt_after", interrupt_after},
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
