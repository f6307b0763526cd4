/* lcl.h: what every binding shares: handles, options, numbers, errors.
 *
 * A binding checks its arguments, calls core, pushes the result. The handle is pushed (collectable) before core
 * allocates; nothing that must be freed stands between two Lua calls that can raise; no binding allocates for itself.
 */
#ifndef LCL_H
#define LCL_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "tensor/tensor.h"

/* -- handles: a userdata holding one counted pointer
 * ------------------------------------------------------------------------ */
typedef struct lcl_type {
    const char *name;              /* metatable name, "lacuna.tensor"; messages say what follows the dot */
    void (*release)(void *object); /* called once, by __gc and __close */
    const luaL_Reg *methods;       /* reachable as x:method() */
    const luaL_Reg *meta;          /* metamethods besides __gc, __close, __name, __index; __index here overrides */
} lcl_type;

/* Makes the metatable; call once per type when its module opens. */
void lcl_register(lua_State *L, const lcl_type *type);
/* Pushes an empty handle and returns its slot: core writes the pointer there (`T **out`). */
void *lcl_push(lua_State *L, const lcl_type *type);
/* The object of argument `arg`. Raises "<where>: expected a tensor, got nil" or, when lc.scope or close freed it,
 * "this tensor was freed by lc.scope". */
void *lcl_check(lua_State *L, int arg, const lcl_type *type);
void *lcl_test(lua_State *L, int arg, const lcl_type *type); /* NULL when it is something else */

extern const lcl_type LCL_TENSOR; /* bindings/tensor.c */

/* Returns the number of results (what is above `base` arguments is the caller's business): raises when status is not
 * LC_OK. */
int lcl_done(lua_State *L, lc_status status, int results);
/* Raises the core's message, with the recipe's line in front; LC_ECANCEL raises the interrupt; LC_EEXTERNAL raises the
 * Lua error that is kept. */
_Noreturn void lcl_raise(lua_State *L, lc_status status);
/* As luaL_error, for messages made in bindings. */
_Noreturn void lcl_error(lua_State *L, const char *format, ...) LC_PRINTF(2, 3);

/* -- options tables
 * ------------------------------------------------------------------------------------------------------------ */
typedef enum lcl_kind { LCL_INT, LCL_NUMBER, LCL_BOOL, LCL_STRING, LCL_CHOICE, LCL_ANY } lcl_kind;
/* One row is the one home of an option: parsing, range, default, error text, help() and completion all read it. */
typedef struct lcl_option {
    const char *name;
    lcl_kind kind;
    size_t offset; /* into the struct: int64_t, double, bool, const char * (anchored in the options table), int
                      (choice), unused (ANY) */
    bool required;
    double min, max;            /* inclusive; both 0 = any */
    const char *const *choices; /* NULL-terminated */
    const char *fallback; /* the default as Lua source: "0.9", "true", "'row'"; NULL = stays as it is in the struct */
    const char *doc;      /* with units */
} lcl_option;
typedef struct lcl_option_set {
    const char *function;   /* "prune.magnitude": begins every message */
    const lcl_option *rows; /* ends with {0} */
} lcl_option_set;
/* Reads table `arg` (nil = {}) into `out`, defaults first. Unknown names raise with a suggestion. ANY rows are only
 * checked for their name. */
void lcl_options(lua_State *L, int arg, const lcl_option_set *set, void *out);
/* The candidate nearest to `word` by edit distance, or NULL when none is near. */
const char *lcl_suggest(const char *word, const char *const *candidates);

/* -- counting: what is written in Lua counts from 1, negatives from the end; the only place that shifts
 * --------------------------- */
int lcl_dim(lua_State *L, int arg, int ndim);           /* 1..ndim or -ndim..-1 -> 0..ndim-1 */
int64_t lcl_index(lua_State *L, int arg, int64_t size); /* 1..size or -size..-1 -> 0..size-1 */
/* Strict readers: no conversion from strings; a float with an integral value is an integer. */
int64_t lcl_integer(lua_State *L, int arg);
double lcl_number(lua_State *L, int arg);
bool lcl_boolean(lua_State *L, int arg);
const char *lcl_string(lua_State *L, int arg);

/* -- tensors ----------------------------------------------------------------------------------- */
lc_tensor *lcl_tensor(lua_State *L, int arg);
/* A tensor, or a table of integers (nested to any depth) made into an i64 tensor; the slot is anchored on the stack:
 * pushes one value. */
lc_tensor *lcl_ids(lua_State *L, int arg);
/* Pushes a handle for `t` and takes over one reference. */
void lcl_push_tensor(lua_State *L, lc_tensor *t);

/* Pushes the options table's field; shorthand for LCL_ANY rows. Returns its type. */
int lcl_field(lua_State *L, int arg, const char *name);

/* Collects garbage when live engine bytes have doubled; bindings that made large tensors call it before returning. */
void lcl_collect(lua_State *L);

#endif
