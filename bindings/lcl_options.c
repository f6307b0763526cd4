/* lcl_options.c: reading options tables by their rows, and what help() knows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lcl.h"

/* -- messages -- */

/* Pushes the names of `rows` as a list. */
static void push_names(lua_State *L, const lcl_option *rows) {
    lua_newtable(L);
    for (int i = 0; rows[i].name; i++) {
        lua_pushstring(L, rows[i].name);
        lua_rawseti(L, -2, i + 1);
    }
}

static const char *push_suggestion(lua_State *L, const char *word, const lcl_option *rows) {
    push_names(L, rows);
    return lcl_suggestion(L, word);
}

/* Pushes "'row', 'layer' or 'model'". */
static const char *push_choices(lua_State *L, const char *const *choices) {
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 0; choices[i]; i++) {
        if (i) luaL_addstring(&b, choices[i + 1] ? ", " : " or ");
        luaL_addchar(&b, '\'');
        luaL_addstring(&b, choices[i]);
        luaL_addchar(&b, '\'');
    }
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

_Noreturn static void wrong_kind(lua_State *L, const lcl_option_set *set, const lcl_option *row, int value) {
    static const char *const kinds[] = {"an integer", "a number", "true or false", "a string", "", ""};
    const char *expected = row->kind == LCL_CHOICE ? push_choices(L, row->choices) : kinds[row->kind];
    lcl_error(L, "%s: option '%s' must be %s, got %s", set->function, row->name, expected, lcl_describe(L, value));
}

static void check_range(lua_State *L, const lcl_option_set *set, const lcl_option *row, double value) {
    if (row->min == 0 && row->max == 0) return;
    if (value >= row->min && value <= row->max) return;
    if (isinf(row->max))
        lcl_error(L, "%s: option '%s' must be at least %.14g, got %.14g", set->function, row->name, row->min, value);
    lcl_error(L, "%s: option '%s' must be from %.14g to %.14g, got %.14g", set->function, row->name, row->min, row->max,
              value);
}

/* -- reading -- */

static int find_choice(const lcl_option *row, const char *text, size_t length) {
    for (int i = 0; row->choices[i]; i++)
        if (strlen(row->choices[i]) == length && memcmp(row->choices[i], text, length) == 0) return i;
    return -1;
}

/* Stores the Lua value at `value` where `row` says. */
static void read_option(lua_State *L, const lcl_option_set *set, const lcl_option *row, int value, void *out) {
    void *slot = (char *)out + row->offset;
    int type = lua_type(L, value);
    switch (row->kind) {
    case LCL_INT: {
        int exact = 0;
        int64_t number = type == LUA_TNUMBER ? lua_tointegerx(L, value, &exact) : 0;
        if (!exact) wrong_kind(L, set, row, value);
        check_range(L, set, row, (double)number);
        *(int64_t *)slot = number;
        break;
    }
    case LCL_NUMBER: {
        if (type != LUA_TNUMBER) wrong_kind(L, set, row, value);
        double number = lcl_plain(lua_tonumber(L, value));
        check_range(L, set, row, number);
        *(double *)slot = number;
        break;
    }
    case LCL_BOOL:
        if (type != LUA_TBOOLEAN) wrong_kind(L, set, row, value);
        *(bool *)slot = lua_toboolean(L, value);
        break;
    case LCL_STRING:
        if (type != LUA_TSTRING) wrong_kind(L, set, row, value);
        *(const char **)slot = lua_tostring(L, value);
        break;
    case LCL_CHOICE: {
        size_t length = 0;
        const char *text = type == LUA_TSTRING ? lua_tolstring(L, value, &length) : NULL;
        int choice = text ? find_choice(row, text, length) : -1;
        if (choice < 0) wrong_kind(L, set, row, value);
        *(int *)slot = choice;
        break;
    }
    case LCL_ANY:
        break;
    }
}

/* Stores the default, written as Lua source. */
static void read_fallback(const lcl_option *row, void *out) {
    void *slot = (char *)out + row->offset;
    const char *text = row->fallback;
    switch (row->kind) {
    case LCL_INT:
        *(int64_t *)slot = strtoll(text, NULL, 10);
        break;
    case LCL_NUMBER:
        *(double *)slot = strtod(text, NULL);
        break;
    case LCL_BOOL:
        *(bool *)slot = strcmp(text, "true") == 0;
        break;
    case LCL_CHOICE:
        *(int *)slot = find_choice(row, text + 1, strlen(text) - 2);
        break;       /* without its quotes */
    case LCL_STRING: /* a string's default is in the struct: there is nobody here to keep a copy without quotes */
    case LCL_ANY:
        break;
    }
}

static const lcl_option *find_row(const lcl_option_set *set, const char *name) {
    for (const lcl_option *row = set->rows; row->name; row++)
        if (strcmp(row->name, name) == 0) return row;
    return NULL;
}

/* The row that the string at `key` names. */
static const lcl_option *named_row(lua_State *L, int key, const lcl_option_set *set) {
    const char *name = lua_tostring(L, key);
    const lcl_option *row = find_row(set, name);
    if (!row) lcl_error(L, "%s: unknown option '%s'%s", set->function, name, push_suggestion(L, name, set->rows));
    return row;
}

void lcl_names(lua_State *L, int arg, const lcl_option_set *set) {
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) named_row(L, -2, set);
}

void lcl_options(lua_State *L, int arg, const lcl_option_set *set, void *out) {
    for (const lcl_option *row = set->rows; row->name; row++)
        if (row->fallback) read_fallback(row, out);
    bool given = !lua_isnoneornil(L, arg);
    if (given && !lua_istable(L, arg))
        lcl_error(L, "%s: options must be a table such as {%s = ...}, got %s", set->function, set->rows[0].name,
                  lcl_describe(L, arg));
    if (given) {
        for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING)
                lcl_error(L, "%s: options have names, as in {%s = ...}; got one numbered %s", set->function,
                          set->rows[0].name, lcl_describe(L, -2));
            read_option(L, set, named_row(L, -2, set), lua_gettop(L), out);
        }
    }
    for (const lcl_option *row = set->rows; row->name; row++) {
        if (!row->required) continue;
        if (lcl_field(L, arg, row->name) == LUA_TNIL)
            lcl_error(L, "%s: option '%s' is needed: %s", set->function, row->name, row->doc);
        lua_pop(L, 1);
    }
}

/* -- functions, and what help() knows of them -- */

/* Registry key of the list of row arrays, as light userdata. */
static char documents;

static void remember_rows(lua_State *L, const lcl_function *rows) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &documents) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &documents);
    }
    lua_pushlightuserdata(L, (void *)rows);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

/* Pushes what messages call the function: "add_", "prune.magnitude". */
static void push_message_name(lua_State *L, const lcl_function *row, bool in_place) {
    if (strncmp(row->signature, "lc.", 3) == 0)
        lua_pushlstring(L, row->signature + 3, strcspn(row->signature + 3, "( {\"'"));
    else
        lua_pushfstring(L, "%s%s", row->name, in_place ? "_" : "");
}

static void add_function(lua_State *L, const lcl_function *row, bool in_place) {
    lua_pushfstring(L, "%s%s", row->name, in_place ? "_" : "");
    lua_pushinteger(L, row->op);
    lua_pushboolean(L, in_place);
    push_message_name(L, row, in_place);
    lua_pushcclosure(L, row->call, 3);
    lua_rawset(L, -3);
}

void lcl_functions(lua_State *L, const lcl_function *rows) {
    for (const lcl_function *row = rows; row->name; row++) {
        add_function(L, row, false);
        if (row->in_place) add_function(L, row, true);
    }
    remember_rows(L, rows);
}

static void set_string(lua_State *L, const char *field, const char *value) {
    lua_pushstring(L, value); /* nil for NULL */
    lua_setfield(L, -2, field);
}

/* Pushes a list of {name, kind, default, doc, required, choices}. */
static void push_options(lua_State *L, const lcl_option_set *set) {
    static const char *const kinds[] = {"integer", "number", "boolean", "string", "choice", "any"};
    lua_newtable(L);
    for (int i = 0; set->rows[i].name; i++) {
        const lcl_option *row = &set->rows[i];
        lua_createtable(L, 0, 6);
        set_string(L, "name", row->name);
        set_string(L, "kind", kinds[row->kind]);
        set_string(L, "default", row->fallback);
        set_string(L, "doc", row->doc);
        lua_pushboolean(L, row->required);
        lua_setfield(L, -2, "required");
        if (row->choices) {
            push_choices(L, row->choices);
            lua_setfield(L, -2, "choices");
        }
        lua_rawseti(L, -2, i + 1);
    }
}

static void open_every_module(lua_State *L) {
    static const char *const modules[] = {
#define LCL_MODULE(name) "lacuna.core." #name,
#include "modules.def"
#undef LCL_MODULE
    };
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        if (strcmp(modules[i], "lacuna.core.docs") == 0) continue; /* this one */
        lua_getglobal(L, "require");
        lua_pushstring(L, modules[i]);
        lua_call(L, 1, 0);
    }
}

static void set_entry(lua_State *L, int docs, const char *prefix, const char *name, const lcl_function *row) {
    lua_pushfstring(L, "%s%s", prefix, name);
    lua_createtable(L, 0, 3);
    set_string(L, "signature", row->signature);
    set_string(L, "text", row->doc);
    if (row->options) {
        push_options(L, row->options);
        lua_setfield(L, -2, "options");
    }
    lua_rawset(L, docs);
}

/* Adds a row to the table at `docs` under the name that its signature begins with: "zeros" for lc.zeros, "mask:hold"
 * for a method. In signatures x is a tensor, whose methods are functions of lc too. */
static void add_entry(lua_State *L, int docs, const lcl_function *row) {
    const char *signature = row->signature;
    size_t length = strcspn(signature, "( {\"'");
    if (strncmp(signature, "x:", 2) == 0) {
        set_entry(L, docs, "tensor:", row->name, row);
        set_entry(L, docs, "", row->name, row);
        return;
    }
    size_t skip = strncmp(signature, "lc.", 3) == 0 ? 3 : 0;
    set_entry(L, docs, "", lua_pushlstring(L, signature + skip, length - skip), row);
    lua_pop(L, 1);
}

/* The module lacuna.core.docs: name -> {signature, text, options = {{name, kind, default, doc, required, choices},
 * ...}}. */
int luaopen_lacuna_docs(lua_State *L) {
    open_every_module(L);
    lua_newtable(L);
    int docs = lua_gettop(L);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &documents) == LUA_TTABLE) {
        lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
        for (lua_Integer i = 1; i <= count; i++) {
            lua_rawgeti(L, -1, i);
            for (const lcl_function *row = lua_touserdata(L, -1); row->name; row++) add_entry(L, docs, row);
            lua_pop(L, 1);
        }
    }
    lua_settop(L, docs);
    return 1;
}
