/* io.c: the module lacuna.core.io: files of named tensors, read when a tensor is asked for. */
#include "io/safetensors.h"
#include "io/weights.h"

#include <string.h>

#include "lcl.h"

int luaopen_lacuna_io(lua_State *L);

static void release_file(void *object) {
    lc_weights_release(object);
}

static int file_index(lua_State *L);
static int file_length(lua_State *L);
static int file_pairs(lua_State *L);
static int file_text(lua_State *L);
static const luaL_Reg file_meta[] = {
    {"__index", file_index}, {"__len", file_length}, {"__pairs", file_pairs}, {"__tostring", file_text}, {NULL, NULL},
};
static const lcl_type FILE_TYPE = {"lacuna.tensorfile", release_file, NULL, file_meta};

/* -- reading -- */

static int open_file(lua_State *L) {
    const char *path = lcl_path(L, 1);
    lc_weights **slot = lcl_push(L, &FILE_TYPE);
    return lcl_done(L, lc_weights_open(path, slot), 1);
}

/* Pushes the tensor, as `dtype` or (LC_DTYPES) as it is stored. */
static int push_stored(lua_State *L, lc_weights *file, const char *name, lc_dtype dtype) {
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lc_status status = lc_weights_read(file, name, dtype, slot);
    if (status == LC_ENOMEM) {
        lcl_collect_all(L);
        status = lc_weights_read(file, name, dtype, slot);
    }
    return lcl_done(L, status, 1);
}

static int file_index(lua_State *L) {
    lc_weights *file = lcl_check(L, 1, &FILE_TYPE);
    if (lua_type(L, 2) != LUA_TSTRING || !lc_weights_find(file, lua_tostring(L, 2))) {
        lua_pushnil(L);
        return 1;
    }
    return push_stored(L, file, lua_tostring(L, 2), LC_DTYPES);
}

static int read_tensor(lua_State *L) {
    lc_weights *file = lcl_check(L, 1, &FILE_TYPE);
    return push_stored(L, file, lcl_string(L, 2), lcl_dtype(L, 3, LC_DTYPES));
}

static int file_length(lua_State *L) {
    lua_pushinteger(L, lc_weights_count(lcl_check(L, 1, &FILE_TYPE)));
    return 1;
}

/* The next pair after the name at 2, in the order of the file. */
static int next_tensor(lua_State *L) {
    lc_weights *file = lcl_check(L, 1, &FILE_TYPE);
    int64_t next = 0;
    if (!lua_isnoneornil(L, 2)) {
        const lc_stored *last = lc_weights_find(file, lcl_string(L, 2));
        next = last ? last - lc_weights_at(file, 0) + 1 : lc_weights_count(file);
    }
    if (next == lc_weights_count(file)) return 0;
    const char *name = lc_weights_at(file, next)->name;
    lua_pushstring(L, name);
    push_stored(L, file, name, LC_DTYPES);
    return 2;
}

static int file_pairs(lua_State *L) {
    lcl_check(L, 1, &FILE_TYPE);
    lua_pushcfunction(L, next_tensor);
    lua_pushvalue(L, 1);
    return 2;
}

static int file_text(lua_State *L) {
    lua_pushfstring(L, "%d tensors in a file", (int)lc_weights_count(lcl_check(L, 1, &FILE_TYPE)));
    return 1;
}

static int info(lua_State *L) {
    lc_weights *file = lcl_check(L, 1, &FILE_TYPE);
    int64_t count = lc_weights_count(file);
    lua_createtable(L, (int)count, 0);
    for (int64_t i = 0; i < count; i++) {
        const lc_stored *e = lc_weights_at(file, i);
        lua_createtable(L, 0, 3);
        lua_pushstring(L, e->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, e->dtype == LC_DTYPES ? e->type : lc_dtype_name(e->dtype));
        lua_setfield(L, -2, "dtype");
        lua_createtable(L, e->ndim, 0);
        for (int d = 0; d < e->ndim; d++) {
            lua_pushinteger(L, e->shape[d]);
            lua_rawseti(L, -2, d + 1);
        }
        lua_setfield(L, -2, "shape");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static void push_entry(lua_State *L, const lc_metadata *entry) {
    switch (entry->kind) {
    case LC_METADATA_TEXT:
        lua_pushlstring(L, entry->text, entry->length);
        break;
    case LC_METADATA_INTEGER:
        lua_pushinteger(L, entry->integer);
        break;
    case LC_METADATA_NUMBER:
        lua_pushnumber(L, entry->number);
        break;
    case LC_METADATA_BOOL:
        lua_pushboolean(L, entry->yes);
        break;
    }
}

/* Of a key in several shards the first one's value: it is set last. */
static int metadata(lua_State *L) {
    lc_weights *file = lcl_check(L, 1, &FILE_TYPE);
    lua_newtable(L);
    for (int64_t i = lc_weights_metadata_count(file) - 1; i >= 0; i--) {
        const lc_metadata *entry = lc_weights_metadata_at(file, i);
        push_entry(L, entry);
        lua_setfield(L, -2, entry->key);
    }
    return 1;
}

/* -- writing -- */

static int64_t count_pairs(lua_State *L, int table) {
    int64_t count = 0;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) count++;
    return count;
}

/* Pushes the array of what the table at `table` names; it keeps strings and tensors alive. */
static lc_named *push_named(lua_State *L, int table, lc_dtype dtype, int64_t *count) {
    *count = count_pairs(L, table);
    lc_named *named = lua_newuserdatauv(L, sizeof *named * (size_t)(*count + 1), 0);
    int64_t i = 0;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1), i++) {
        if (lua_type(L, -2) != LUA_TSTRING)
            lcl_error(L, "save: names of tensors are strings, got %s", lcl_describe(L, -2));
        const char *name = lua_tostring(L, -2);
        lc_tensor *t = lcl_test(L, -1, &LCL_TENSOR);
        if (!t) lcl_error(L, "save: '%s' must be a tensor, got %s", name, lcl_describe(L, -1));
        if (strlen(name) != lua_rawlen(L, -2)) lcl_error(L, "save: a name has a zero byte");
        named[i] = (lc_named){name, t, dtype};
    }
    return named;
}

/* The same for the strings of the metadata; none for nil. */
static lc_pair *push_metadata(lua_State *L, int table, int64_t *count) {
    *count = lua_isnil(L, table) ? 0 : count_pairs(L, table);
    lc_pair *pairs = lua_newuserdatauv(L, sizeof *pairs * (size_t)(*count + 1), 0);
    int64_t i = 0;
    if (*count == 0) return pairs;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1), i++) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            lcl_error(L, "save: metadata is a table of strings by name");
        pairs[i] = (lc_pair){lua_tostring(L, -2), lua_tostring(L, -1)};
    }
    return pairs;
}

static const lcl_option save_rows[] = {
    {"dtype", LCL_STRING, 0, .doc = "what floating tensors are written as; nil = as they are"},
    {"metadata", LCL_ANY, .doc = "strings by name, stored in the header"},
    {0},
};
static const lcl_option_set save_set = {"save", save_rows};

static int save(lua_State *L) {
    const char *path = lcl_path(L, 1), *dtype_name = NULL;
    if (!lua_istable(L, 2)) lcl_expected(L, 2, "a table {name = tensor}");
    lua_settop(L, 3);
    lcl_options(L, 3, &save_set, &dtype_name);
    lc_dtype dtype = LC_DTYPES;
    if (dtype_name) lcl_done(L, lc_dtype_parse(dtype_name, &dtype), 0);
    int type = lcl_field(L, 3, "metadata");
    if (type != LUA_TNIL && type != LUA_TTABLE)
        lcl_error(L, "save: option 'metadata' must be a table, got %s", lcl_describe(L, -1));
    int64_t count, pairs;
    lc_pair *strings = push_metadata(L, lua_gettop(L), &pairs);
    lc_named *named = push_named(L, 2, LC_DTYPES, &count);
    for (int64_t i = 0; i < count; i++)
        if (lc_dtype_is_float(named[i].tensor->dtype)) named[i].dtype = dtype;
    return lcl_done(L, lc_safetensors_write(path, named, count, strings, pairs), 0);
}

/* -- the module -- */

static const lcl_function functions[] = {
    {"open", open_file, "lc.io.open(path) -> file",
     "Named tensors of a file: safetensors, a state dict of torch.save (.bin, .pt: no code in it runs), or GGUF, whose "
     "quantised blocks are read as f32; an index of shards; or a directory with model.safetensors or "
     "pytorch_model.bin. "
     "file[name] reads a tensor when it is asked for, nil when there is none; pairs(file) gives all, #file their "
     "number."},
    {"read", read_tensor, "lc.io.read(file, name [, dtype]) -> tensor",
     "One tensor of an open file, cast to dtype on the way; an error when the file does not have it."},
    {"info", info, "lc.io.info(file) -> list",
     "{name, dtype, shape} of each tensor of an open file, in its order, without reading them."},
    {"metadata", metadata, "lc.io.metadata(file) -> table",
     "What an open file's header says beside tensors, by name: strings; of GGUF numbers and booleans too, but no "
     "lists."},
    {"save", save, "lc.io.save(path, {name = tensor}, {dtype, metadata})",
     "Writes tensors as safetensors, whole or not at all; views are written as what they show.", &save_set},
    {0},
};

int luaopen_lacuna_io(lua_State *L) {
    lcl_register(L, &FILE_TYPE);
    lua_newtable(L);
    lcl_functions(L, functions);
    return 1;
}
