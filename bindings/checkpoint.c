/* checkpoint.c: the module lacuna.core.checkpoint: one file of tensors and a text, which runs fill and read
 * (lacuna.run). */
#include "run/checkpoint.h"

#include "model.h"
#include "train.h"

static void release(void *object) {
    lc_checkpoint_free(object);
}

extern const lcl_type LCL_CHECKPOINT;

static lc_checkpoint *check(lua_State *L) {
    return lcl_check(L, 1, &LCL_CHECKPOINT);
}

static int new (lua_State *L) {
    lc_checkpoint **slot = lcl_push(L, &LCL_CHECKPOINT);
    return lcl_done(L, lc_checkpoint_new(slot), 1);
}

static int open(lua_State *L) {
    const char *path = lcl_string(L, 1);
    lc_checkpoint **slot = lcl_push(L, &LCL_CHECKPOINT);
    return lcl_done(L, lc_checkpoint_open(path, slot), 1);
}

static int write(lua_State *L) {
    return lcl_done(L, lc_checkpoint_write(check(L), lcl_string(L, 2)), 0);
}

/* c:add_model(prefix, model) */
static int add_model(lua_State *L) {
    return lcl_done(L, lc_checkpoint_add_model(check(L), lcl_string(L, 2), lcl_check(L, 3, &LCL_MODEL)), 0);
}

static int get_model(lua_State *L) {
    return lcl_done(L, lc_checkpoint_get_model(check(L), lcl_string(L, 2), lcl_check(L, 3, &LCL_MODEL)), 0);
}

static int add_trainer(lua_State *L) {
    return lcl_done(L, lc_checkpoint_add_trainer(check(L), lcl_check(L, 2, &LCL_TRAINER)), 0);
}

static int get_trainer(lua_State *L) {
    return lcl_done(L, lc_checkpoint_get_trainer(check(L), lcl_check(L, 2, &LCL_TRAINER)), 0);
}

/* c:add_tensor(name, tensor) */
static int add_tensor(lua_State *L) {
    return lcl_done(L, lc_checkpoint_add(check(L), lcl_tensor(L, 3), "%s", lcl_string(L, 2)), 0);
}

/* c:get_tensor(name) -> tensor, or nil when there is none */
static int get_tensor(lua_State *L) {
    lc_checkpoint *c = check(L);
    const char *name = lcl_string(L, 2);
    if (!lc_checkpoint_has(c, name)) return 0;
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_checkpoint_get(c, name, slot), 1);
}

/* c:set_text(text), c:text(): a text of the caller's, in the document */
static int set_text(lua_State *L) {
    json_t *document = lc_checkpoint_document(check(L));
    if (json_object_set_new(document, "text", json_string(lcl_string(L, 2))))
        lcl_error(L, "checkpoint: the text cannot be stored: it is not UTF-8, or out of memory");
    return 0;
}

static int get_text(lua_State *L) {
    lua_pushstring(L, json_string_value(json_object_get(lc_checkpoint_document(check(L)), "text")));
    return 1;
}

static const luaL_Reg methods[] = {
    {"write", write},
    {"add_model", add_model},
    {"get_model", get_model},
    {"add_trainer", add_trainer},
    {"get_trainer", get_trainer},
    {"add_tensor", add_tensor},
    {"get_tensor", get_tensor},
    {"set_text", set_text},
    {"text", get_text},
    {NULL, NULL},
};

const lcl_type LCL_CHECKPOINT = {"lacuna.checkpoint", release, methods, NULL};

int luaopen_lacuna_checkpoint(lua_State *L) {
    static const luaL_Reg functions[] = {{"new", new}, {"open", open}, {NULL, NULL}};
    lcl_register(L, &LCL_CHECKPOINT);
    luaL_newlib(L, functions);
    return 1;
}
