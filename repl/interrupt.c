/* interrupt.c: SIGINT to lc_cancel() and a Lua hook. */
#include "interrupt.h"

#include "base/pool.h"

#include <lauxlib.h>
#include <pthread.h>
#include <signal.h>

#define STOP_AT (LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT)

static lua_State *main_state;
static pthread_t main_thread;
static lua_State *volatile running; /* the coroutine that runs now: hooks belong to one coroutine each */
static volatile sig_atomic_t at_prompt, prompt_used;

/* Runs at the next Lua instruction. An update that is being finished (lc_cancel_hold) is waited for. */
static void stop(lua_State *L, lua_Debug *where) {
    (void)where;
    if (lc_cancel_pending() && lc_poll() == LC_OK) return;
    lua_sethook(L, NULL, 0, 0);
    if (at_prompt || !lc_cancel_pending()) return; /* the line editor answers, or the engine did */
    lc_cancel_clear();
    lua_pushliteral(L, "interrupted");
    lua_error(L);
}

static void on_interrupt(int signal_number) {
    if (!pthread_equal(pthread_self(), main_thread)) { /* a hook may only be set where Lua runs */
        pthread_kill(main_thread, signal_number);
        return;
    }
    if (!prompt_used && lc_cancel_pending()) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
        return;
    }
    lc_cancel();
    lua_sethook(main_state, stop, STOP_AT, 1);
    if (running != main_state) lua_sethook(running, stop, STOP_AT, 1);
}

/* Calls the function below its arguments on the stack while `coroutine` counts as running. */
static int call_as(lua_State *L, lua_State *coroutine) {
    lua_State *before = running;
    running = coroutine;
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    running = before;
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* coroutine.resume; upvalue 1 is Lua's own. */
static int resume(lua_State *L) {
    lua_State *coroutine = lua_tothread(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return call_as(L, coroutine ? coroutine : running);
}

/* What coroutine.wrap returns; upvalue 1 is Lua's own wrapper, 2 its coroutine. */
static int call_wrapped(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return call_as(L, lua_tothread(L, lua_upvalueindex(2)));
}

/* coroutine.wrap; upvalue 1 is Lua's own. */
static int wrap(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    lua_getupvalue(L, -1, 1); /* the coroutine inside */
    lua_pushcclosure(L, call_wrapped, 2);
    return 1;
}

static void replace(lua_State *L, const char *name, lua_CFunction function) {
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

void interrupt_install(lua_State *L) {
    main_state = L;
    running = L;
    main_thread = pthread_self();
    lua_getglobal(L, "coroutine");
    replace(L, "resume", resume);
    replace(L, "wrap", wrap);
    lua_pop(L, 1);
    struct sigaction action = {.sa_handler =
                                   on_interrupt}; /* no SA_RESTART: a script that waits for input answers too */
    sigaction(SIGINT, &action, NULL);
}

void interrupt_at_prompt(bool on) {
    at_prompt = on;
    if (on) prompt_used = true;
}
