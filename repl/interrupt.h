/* interrupt.h: Ctrl-C.
 *
 * The signal handler asks the engine to stop and sets a Lua hook, so that both long engine calls and loops in plain Lua
 * answer. Whoever raises the error "interrupted" clears the request. */
#ifndef LC_INTERRUPT_H
#define LC_INTERRUPT_H

#include <lua.h>
#include <stdbool.h>

/* Installs the handler for L, and makes coroutine.resume and coroutine.wrap note which coroutine runs. */
void interrupt_install(lua_State *L);
/* At the prompt, between the user's commands, Ctrl-C raises no error (the line editor sees lc_cancel_pending), and a
 * second Ctrl-C before the first was answered does not end the process, as it does in a script. */
void interrupt_at_prompt(bool on);

#endif
