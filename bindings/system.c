/* system.c: module lacuna.core.system: versions, the CPU, threads, memory counters, and work that Ctrl-C must not cut.
 */
#include "lcl.h"

#include "base/memory.h"
#include "base/pool.h"
#include "base/version.h"
#include "ops/blas.h"
#include "ops/gemm.h"
#include "ops/op.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* system.threads([n]) -> threads in use, after setting them when n is given. */
static int threads(lua_State *L) {
    if (!lua_isnoneornil(L, 1)) {
        int64_t n = lcl_integer(L, 1);
        lcl_done(L, lc_set_threads(n < 0 || n > INT32_MAX ? 0 : (int)n), 0);
    }
    lua_pushinteger(L, lc_threads());
    return 1;
}

static void set_count(lua_State *L, const char *name, size_t value) {
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

/* system.memory() -> bytes: {live, peak, cached} of the engine (Lua's own included), {resident, resident_peak} of the
 * process. */
static int memory(lua_State *L) {
    lc_memory_stats stats = lc_memory_get();
    lua_createtable(L, 0, 5);
    set_count(L, "live", stats.live);
    set_count(L, "peak", stats.peak);
    set_count(L, "cached", stats.cached);
    set_count(L, "resident", lc_resident_now());
    set_count(L, "resident_peak", lc_resident_peak());
    return 1;
}

/* system.reset_peak(): `peak` starts again from what is live. */
static int reset_peak(lua_State *L) {
    (void)L;
    lc_memory_reset_peak();
    return 0;
}

/* system.macs() -> multiply-adds done by products since the process began. */
static int macs(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)lc_macs());
    return 1;
}

/* system.uninterrupted(fn, ...) -> fn(...): Ctrl-C is answered only after it. For the few places where the library's
 * Lua code changes two things that must agree. */
static int uninterrupted(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lc_cancel_hold();
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    lc_cancel_release();
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* The "model name" line of /proc/cpuinfo, or the architecture's name. */
static void push_cpu_model(lua_State *L) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) found = strncmp(line, "model name", 10) == 0;
    if (file) fclose(file);
    const char *colon = found ? strchr(line, ':') : NULL;
    if (colon)
        lua_pushlstring(L, colon + 2, strcspn(colon + 2, "\n"));
    else
        lua_pushliteral(L, "unknown CPU");
}

/* system.cpu() -> {model, features}: of the vector extensions that kernels look for, those this CPU has. */
static int cpu(lua_State *L) {
    lua_createtable(L, 0, 2);
    push_cpu_model(L);
    lua_setfield(L, -2, "model");
    lua_newtable(L);
#if defined(__x86_64__)
#define LIST(feature)                                           \
    if (__builtin_cpu_supports(feature)) {                      \
        lua_pushliteral(L, feature);                            \
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1); \
    }
    LIST("avx2")
    LIST("fma")
    LIST("avx512f")
    LIST("avx512bw")
    LIST("avx512vnni")
#undef LIST
#endif
    lua_setfield(L, -2, "features");
    return 1;
}

static void set_text(lua_State *L, const char *name, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* system.blas() -> {library, config, core, chosen, preset, products}: the opened library and the kernels it runs; see
 * ops/blas.h. `products` says whose kernel f32 products run by: "library" or "own AVX-512". */
static int blas(lua_State *L) {
    lc_blas_info info;
    lcl_done(L, lc_blas_describe(&info), 0);
    lua_createtable(L, 0, 6);
    set_text(L, "library", info.library);
    set_text(L, "config", info.config);
    set_text(L, "core", info.core);
    set_text(L, "chosen", info.chosen);
    set_text(L, "preset", info.preset);
    set_text(L, "products", lc_gemm_has_own_kernel() ? "own AVX-512" : "library");
    return 1;
}

/* system.keep_blas_kernels(keep): true leaves OPENBLAS_CORETYPE as the environment has it; before the first product. */
static int keep_blas_kernels(lua_State *L) {
    return lcl_done(L, lc_blas_keep_environment(lcl_boolean(L, 1)), 0);
}

/* system.clock() -> seconds from an arbitrary moment, never going back. */
static int monotonic_clock(lua_State *L) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec * 1e-9);
    return 1;
}

/* What the build says of itself (Makefile); "" where it does not. */
#ifdef __clang__
#define LC_COMPILER __VERSION__
#else
#define LC_COMPILER "gcc " __VERSION__
#endif
#ifndef LC_BUILD_FLAGS
#define LC_BUILD_FLAGS ""
#endif
#ifndef LC_BUILD_REVISION
#define LC_BUILD_REVISION ""
#endif

int luaopen_lacuna_system(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"threads", threads},
        {"memory", memory},
        {"reset_peak", reset_peak},
        {"macs", macs},
        {"uninterrupted", uninterrupted},
        {"cpu", cpu},
        {"blas", blas},
        {"keep_blas_kernels", keep_blas_kernels},
        {"clock", monotonic_clock},
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    lua_pushliteral(L, LC_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushliteral(L, LC_COMPILER);
    lua_setfield(L, -2, "compiler");
    lua_pushliteral(L, LC_BUILD_FLAGS);
    lua_setfield(L, -2, "flags");
    lua_pushliteral(L, LC_BUILD_REVISION);
    lua_setfield(L, -2, "revision");
    lua_pushliteral(L, LUA_RELEASE);
    lua_setfield(L, -2, "lua_release");
    return 1;
}
