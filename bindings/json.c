/* json.c: the module lacuna.core.json: JSON text as Lua data. The way back is written in Lua (lacuna.json). */
#include "io/json.h"

#include "lcl.h"

/* Registered, so that a document is given back when building its Lua value fails. */
static const lcl_type DOCUMENT;

static void push_value(lua_State *L, const json_t *value) {
    luaL_checkstack(L, 4, "JSON nested too deep");
    switch (json_typeof(value)) {
    case JSON_OBJECT: {
        const char *key;
        json_t *inner;
        lua_createtable(L, 0, (int)json_object_size(value));
        json_object_foreach((json_t *)value, key, inner) {
            push_value(L, inner);
            lua_setfield(L, -2, key);
        }
        break;
    }
    case JSON_ARRAY:
        lua_createtable(L, (int)json_array_size(value), 0);
        for (size_t i = 0; i < json_array_size(value); i++) {
            push_value(L, json_array_get(value, i));
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(value));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(value));
        break;
    case JSON_TRUE:
        lua_pushboolean(L, true);
        break;
    case JSON_FALSE:
        lua_pushboolean(L, false);
        break;
    case JSON_NULL:
        lua_pushnil(L);
        break;
    }
}

/* decode(text, where) -> value */
static int decode(lua_State *L) {
    size_t length;
    lcl_string(L, 1);
    const char *text = lua_tolstring(L, 1, &length), *where = lcl_string(L, 2);
    json_t **slot = lcl_push(L, &DOCUMENT);
    lcl_done(L, lc_json_parse(text, length, where, slot), 0);
    push_value(L, *slot);
    return 1;
}

static void release(void *object) {
    json_decref(object);
}

static const lcl_type DOCUMENT = {"lacuna.document", release, NULL, NULL};

int luaopen_lacuna_json(lua_State *L) {
    static const luaL_Reg functions[] = {{"decode", decode}, {NULL, NULL}};
    lcl_register(L, &DOCUMENT);
    luaL_newlib(L, functions);
    return 1;
}
