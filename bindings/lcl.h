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
#include <math.h>

#include "base/random.h"
#include "tensor/tensor.h"

/* -- handles: a userdata holding one counted pointer (lcl.c) -- */

typedef struct lcl_type {
    const char *name;              /* metatable name, "lacuna.tensor"; messages say what follows the dot */
    void (*release)(void *object); /* called once, by __gc, __close or lc.scope */
    const luaL_Reg *methods;       /* reachable as x:method(); NULL = none */
    const luaL_Reg *meta; /* metamethods besides __gc, __close, __name, __index; __index here overrides; NULL = none */
} lcl_type;

extern const lcl_type LCL_TENSOR; /* bindings/tensor.c */

/* Makes the metatable; call once per type when its module opens. */
void lcl_register(lua_State *L, const lcl_type *type);
/* Pushes the metatable that lcl_register made. */
void lcl_metatable(lua_State *L, const lcl_type *type);
/* Pushes an empty handle and returns its slot: core writes the pointer there (`T **out`). A handle that is no tensor
 * has one user value, for Lua things that must live as long as it does. */
void *lcl_push(lua_State *L, const lcl_type *type);
/* The object of argument `arg`. Raises "matmul: argument 1: expected a tensor, got nil" or, when it was freed,
 * "this tensor was freed by lc.scope". */
void *lcl_check(lua_State *L, int arg, const lcl_type *type);
/* The same, but NULL when the argument is something else. */
void *lcl_test(lua_State *L, int arg, const lcl_type *type);
/* The living tensor at `index`, else NULL; never raises, so core's callbacks may use it. */
lc_tensor *lcl_peek(lua_State *L, int index);
/* Pushes an empty slot for text that core allocates (lc_free), which is freed with the value. */
char **lcl_text(lua_State *L);
/* The string at `arg` as a path: "~" at its beginning is $HOME, put into the argument's place. */
const char *lcl_path(lua_State *L, int arg);
/* Frees the object of the handle at `index` now, whoever holds the handle; later use of it raises. */
void lcl_close(lua_State *L, int index);

/* Collects garbage when live engine bytes have doubled since the last collection. Every new tensor handle asks. */
void lcl_collect(lua_State *L);
/* Out of memory: collects everything and gives cached buffers back. A binding then tries once more. */
void lcl_collect_all(lua_State *L);

/* -- lc.scope: tensor handles made between enter and leave are freed by leave, unless kept (lcl.c) -- */

typedef struct lcl_handle {
    const lcl_type *type;               /* compared by address: tells our userdata from others' */
    void *object;                       /* NULL before core wrote it and once freed */
    struct lcl_handle *previous, *next; /* neighbours in the innermost scope's list; NULL outside every scope */
} lcl_handle;

typedef struct lcl_scope { /* lives in the caller's frame */
    lcl_handle list;
    struct lcl_scope *outer;
} lcl_scope;

void lcl_scope_enter(lcl_scope *scope);
/* Frees what is left in `scope`; leaves that want gradients, and named parameters, are exempt. */
void lcl_scope_leave(lcl_scope *scope);
/* Exempts the tensor at `index`, or every tensor in the table there (to any depth), from every open scope: what a
 * handle or run.state holds. */
void lcl_keep(lua_State *L, int index);
/* Moves it from the innermost scope to the one outside: what lc.scope returns. */
void lcl_keep_result(lua_State *L, int index);

/* -- errors (lcl.c) -- */

/* Chunks of the part of the language that is written in Lua have this in front of their names: an error names the first
 * line outside it. */
#define LCL_LIBRARY_CHUNK "=lacuna/"

/* Returns `results` when status is LC_OK, else raises. */
int lcl_done(lua_State *L, lc_status status, int results);
/* Raises the core's message, with the recipe's line in front; LC_ECANCEL clears the flag and raises "interrupted";
 * LC_EEXTERNAL raises the Lua error that lcl_call kept, as it was. */
_Noreturn void lcl_raise(lua_State *L, lc_status status);
/* As luaL_error, for messages made in bindings; the format is printf's. */
_Noreturn void lcl_error(lua_State *L, const char *format, ...) LC_PRINTF(2, 3);
/* Raises "matmul: argument 1: expected <expected>, got nil". */
_Noreturn void lcl_expected(lua_State *L, int arg, const char *expected);
/* What messages call the running C function: the name in its row, else that by which Lua called it. */
const char *lcl_function_name(lua_State *L);
/* Replaces the list of names on top of the stack by " (did you mean 'x'?)", or "" when none is near `word`. */
const char *lcl_suggestion(lua_State *L, const char *word);
/* For an __index whose key is argument 2 and whose methods are upvalue 1: raises "a model has no 'blcoks' (did you mean
 * 'blocks'?)". `name` is the first of further fields, in an array of rows of `size` bytes whose last has NULL there. */
_Noreturn void lcl_no_field(lua_State *L, const char *what, const char *const *name, size_t size);
/* What the value at `index` is, for messages: "nil", "a tensor", "the string 'abc'". */
const char *lcl_describe(lua_State *L, int index);

/* -- the way back into Lua (lcl.c) -- */

/* A binding that calls core code which may call Lua (backward, a forward pass, training) does so between these two, so
 * that Lua is called in the coroutine that runs now:
 *     lua_State *outer = lcl_enter(L);
 *     lc_status status = lc_backward(...);
 *     lcl_leave(outer);
 *     return lcl_done(L, status, 0); */
lua_State *lcl_enter(lua_State *L);
void lcl_leave(lua_State *outer);
/* For core's callbacks: the state to call Lua in; NULL outside lcl_enter. */
lua_State *lcl_running(void);
/* For core's callbacks: calls, protected, the function below `arguments` values. LC_OK: `results` values are on the
 * stack. LC_EEXTERNAL: the Lua error is kept for lcl_raise. A yield inside is an error. Nothing may raise through core,
 * so a callback pushes a C function and a light userdata, which cannot fail, and does all else inside it. */
lc_status lcl_call(lua_State *L, int arguments, int results);

/* -- arguments: strict, no conversion from strings (lcl_args.c) -- */

int64_t lcl_integer(lua_State *L, int arg); /* a float with an integral value is an integer */
double lcl_number(lua_State *L, int arg);   /* NaN without a sign */
bool lcl_boolean(lua_State *L, int arg);
const char *lcl_string(lua_State *L, int arg);
/* NaN without a sign: processors set one, and printf and Lua would show it as -nan. For what people see. */
static inline double lcl_plain(double value) {
    return isnan(value) ? fabs(value) : value;
}
/* Counting: what is written in Lua counts from 1, negatives from the end. These are the only ones that shift. */
int lcl_dim(lua_State *L, int arg, int ndim);           /* 1..ndim or -ndim..-1 -> 0..ndim-1 */
int64_t lcl_index(lua_State *L, int arg, int64_t size); /* 1..size or -size..-1 -> 0..size-1 */
/* A shape: a table of sizes, or one size; returns the number of dimensions. With `infer` one size may be -1. */
int lcl_shape(lua_State *L, int arg, bool infer, int64_t shape[LC_MAX_DIMS]);
/* The dtype named at `arg` ("f32"), or `fallback` when it is nil. */
lc_dtype lcl_dtype(lua_State *L, int arg, lc_dtype fallback);
/* Pushes field `name` of the table at `arg` (nil when there is no table), and returns its type: for LCL_ANY options. */
int lcl_field(lua_State *L, int arg, const char *name);

/* -- tensors -- */

lc_tensor *lcl_tensor(lua_State *L, int arg);
/* Pushes a new handle for `t`, which is retained. */
void lcl_push_tensor(lua_State *L, lc_tensor *t);
/* A tensor, or a table of integers (nested to any depth) made into an i64 tensor. Pushes one value, which keeps it. */
lc_tensor *lcl_ids(lua_State *L, int arg);
/* Pushes the tensor that the table at `arg` (numbers or booleans, nested) writes down. bindings/tensor_convert.c */
lc_tensor *lcl_table_to_tensor(lua_State *L, int arg, lc_dtype dtype);
/* The process's stream of that name, made at first use from the seed of lc.seed; the pointer stays valid.
 * bindings/random.c */
lc_stream *lcl_stream(lua_State *L, const char *name);

/* -- options tables (lcl_options.c) -- */

typedef enum lcl_kind { LCL_INT, LCL_NUMBER, LCL_BOOL, LCL_STRING, LCL_CHOICE, LCL_ANY } lcl_kind;

/* One row is the one home of an option: parsing, range, default, error text, help() and completion all read it. */
typedef struct lcl_option {
    const char *name;
    lcl_kind kind;
    size_t offset; /* into the struct: int64_t, double, bool, const char * (kept by the options table), int (choice),
                      unused (ANY) */
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

/* Reads the table at `arg` (nil = {}) into `out`, defaults first. Unknown names raise with a suggestion. ANY rows are
 * only checked for their name. */
void lcl_options(lua_State *L, int arg, const lcl_option_set *set, void *out);

/* The same for a table whose list part is data: only the names in it are checked, and nothing is read. */
void lcl_names(lua_State *L, int arg, const lcl_option_set *set);

/* One function of the language; help() and completion read the words. */
typedef struct lcl_function {
    const char *name;
    lua_CFunction call;            /* upvalues: `op`, whether this is the in-place form, its name in messages */
    const char *signature;         /* "lc.zeros(shape, {dtype, device}) -> tensor", "x:matmul(y) -> tensor" */
    const char *doc;               /* one or two sentences */
    const lcl_option_set *options; /* NULL = none */
    int op;                        /* for functions that share their C code */
    bool in_place;                 /* name_ exists too, and writes into its first argument */
} lcl_function;

/* Adds `rows` (ending with {0}) to the table on top of the stack, and tells lacuna.core.docs about them; keeps the
 * pointer. */
void lcl_functions(lua_State *L, const lcl_function *rows);

#endif
