/* layer.c: linear layers and blocks as handles. They keep their model alive; each part has one handle at a time. */
#include <string.h>

#include "base/memory.h"
#include "grad/graph.h"
#include "model.h"

/* -- one handle per part ------------------------------------------------------------------------ */

/* Registry key of the table from a part's address to its handle; handles are held weakly. */
static char handles_key;

static void push_handles(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &handles_key) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &handles_key);
}

/* Pushes the living handle of `part`, or a new empty one: then returns its slot, else NULL. */
static void **find_handle(lua_State *L, const void *part, const lcl_type *type) {
    push_handles(L);
    if (lua_rawgetp(L, -1, part) == LUA_TUSERDATA && ((lcl_handle *)lua_touserdata(L, -1))->object == part) {
        lua_remove(L, -2);
        return NULL;
    }
    lua_pop(L, 1);
    void **slot = lcl_push(L, type);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, -3, part);
    lua_remove(L, -2);
    return slot;
}

void lcl_push_layer(lua_State *L, lc_layer *layer) {
    void **slot = find_handle(L, layer, &LCL_LAYER);
    if (!slot) return;
    lc_model_retain(layer->model);
    *slot = layer;
}

void lcl_push_block(lua_State *L, lc_block *block) {
    void **slot = find_handle(L, block, &LCL_BLOCK);
    if (!slot) return;
    lc_model_retain(block->model);
    *slot = block;
}

void lcl_push_param(lua_State *L, lc_param *param) {
    void **slot = find_handle(L, param->file, &LCL_TENSOR);
    if (slot) *slot = lc_tensor_retain(param->file);
}

/* -- layers ------------------------------------------------------------------------------------- */

static lc_layer *check(lua_State *L) {
    return lcl_check(L, 1, &LCL_LAYER);
}

static int push_leaf(lua_State *L, const lc_param *p) {
    if (!p) return 0;
    void **slot = find_handle(L, p->leaf, &LCL_TENSOR);
    if (slot) *slot = lc_tensor_retain(p->leaf);
    return 1;
}

static int get_name(lua_State *L, lc_layer *layer) {
    lua_pushstring(L, layer->name);
    return 1;
}

static int get_role(lua_State *L, lc_layer *layer) {
    lua_pushstring(L, layer->role);
    return 1;
}

static int get_block(lua_State *L, lc_layer *layer) {
    if (layer->block < 0) return 0;
    lua_pushinteger(L, layer->block + 1);
    return 1;
}

static int get_weight(lua_State *L, lc_layer *layer) {
    return push_leaf(L, layer->weight);
}

static int get_bias(lua_State *L, lc_layer *layer) {
    return push_leaf(L, layer->bias);
}

static int get_held(lua_State *L, lc_layer *layer) {
    if (!layer->weight->held) return 0;
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_bits_unpack(layer->weight->held, slot), 1);
}

static int get_outputs(lua_State *L, lc_layer *layer) {
    lua_pushinteger(L, layer->outputs);
    return 1;
}

static int get_inputs(lua_State *L, lc_layer *layer) {
    lua_pushinteger(L, layer->inputs);
    return 1;
}

static int push_part(lua_State *L, lc_layer *layer, char part) {
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_layer_part(layer, part, slot), 1);
}

static int get_q(lua_State *L, lc_layer *layer) {
    return push_part(L, layer, 'q');
}
static int get_k(lua_State *L, lc_layer *layer) {
    return push_part(L, layer, 'k');
}
static int get_v(lua_State *L, lc_layer *layer) {
    return push_part(L, layer, 'v');
}

static const struct property {
    const char *name;
    int (*get)(lua_State *L, lc_layer *layer); /* 0 results = nil */
} properties[] = {
    {"name", get_name},
    {"role", get_role},
    {"block", get_block},
    {"weight", get_weight},
    {"bias", get_bias},
    {"held", get_held},
    {"outputs", get_outputs},
    {"inputs", get_inputs},
    {"q", get_q},
    {"k", get_k},
    {"v", get_v},
    {NULL, NULL},
};

/* layer.name; upvalue 1 is the table of methods. */
static int layer_index(lua_State *L) {
    lc_layer *layer = check(L);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    for (const struct property *p = properties; p->name; p++)
        if (!strcmp(p->name, name)) return p->get(L, layer);
    lcl_no_field(L, "a layer", &properties->name, sizeof *properties);
}

static int layer_newindex(lua_State *L) {
    check(L);
    lcl_error(L, "a layer's '%s' cannot be assigned to; write into the tensors: layer.weight:copy_(values)",
              luaL_tolstring(L, 2, NULL));
}

static int layer_sparsity(lua_State *L) {
    lc_layer *layer = check(L);
    int64_t zeros = 0;
    lcl_done(L, lc_param_enforce(layer->weight), 0);
    lcl_done(L, lc_param_zeros(layer->weight, &zeros), 0);
    lua_pushnumber(L, (double)zeros / (double)lc_numel(layer->weight->leaf));
    return 1;
}

static int layer_tostring(lua_State *L) {
    lc_layer *layer = check(L);
    char **text = lcl_text(L);
    lcl_done(L, lc_layer_text(layer, text), 0);
    lua_pushstring(L, *text);
    return 1;
}

static void release_layer(void *object) {
    lc_model_release(((lc_layer *)object)->model);
}

static const luaL_Reg layer_meta[] = {{"__newindex", layer_newindex}, {"__tostring", layer_tostring}, {NULL, NULL}};

const lcl_type LCL_LAYER = {"lacuna.layer", release_layer, NULL, layer_meta};

static const lcl_function layer_functions[] = {
    {"sparsity", layer_sparsity, "layer:sparsity() -> number", "Share of zeros in the weight."},
    {"transform", lcl_layer_transform, "layer:transform(function(w, s) return w2 end, {params, state, name}) -> handle",
     "Installs a function between the weight (O, I) and the product; the last installed comes last. s has the params "
     "and state "
     "by name, and s.step, s.progress, s.training."},
    {"replace", lcl_layer_replace, "layer:replace(function(x, w, b, s) return y end, {params, state, name}) -> handle",
     "Installs a function in place of the product y = x w^T + b; w is after the transforms. A layer has one product."},
    {0},
};

/* -- blocks ------------------------------------------------------------------------------------- */

static int block_index(lua_State *L) {
    lc_block *block = lcl_check(L, 1, &LCL_BLOCK);
    const char *name = lcl_string(L, 2);
    if (!strcmp(name, "name"))
        lua_pushstring(L, block->name);
    else if (!strcmp(name, "index"))
        lua_pushinteger(L, block->index + 1);
    else if (!strcmp(name, "linears"))
        lua_pushvalue(L, lua_upvalueindex(1));
    else
        lcl_error(L, "a block has no '%s'; it has name, index and :linears()", name);
    return 1;
}

/* block:linears([sel]): those of the model that are inside this block. */
static int block_linears(lua_State *L) {
    lc_block *block = lcl_check(L, 1, &LCL_BLOCK);
    lc_selection *all = lcl_selection(L, 2, block->model, LC_PART_LINEAR);
    void **inside = lua_newuserdatauv(L, (size_t)all->n * sizeof *inside, 0);
    int64_t n = 0;
    for (int64_t i = 0; i < all->n; i++)
        if (lc_selected_layer(all, i)->block == block->index) inside[n++] = all->items[i];
    lc_selection **slot = lcl_push(L, &LCL_SELECTION);
    return lcl_done(L, lc_select_items(block->model, LC_PART_LINEAR, inside, n, slot), 1);
}

static int block_tostring(lua_State *L) {
    lc_block *block = lcl_check(L, 1, &LCL_BLOCK);
    lua_pushstring(L, block->name);
    return 1;
}

static void release_block(void *object) {
    lc_model_release(((lc_block *)object)->model);
}

static const luaL_Reg block_meta[] = {{"__tostring", block_tostring}, {NULL, NULL}};

const lcl_type LCL_BLOCK = {"lacuna.block", release_block, NULL, block_meta};

void lcl_open_layer(lua_State *L) {
    lcl_register(L, &LCL_LAYER);
    lcl_metatable(L, &LCL_LAYER);
    lua_newtable(L);
    lcl_functions(L, layer_functions);
    lua_pushcclosure(L, layer_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lcl_register(L, &LCL_BLOCK);
    lcl_metatable(L, &LCL_BLOCK);
    lua_pushcfunction(L, block_linears);
    lua_pushcclosure(L, block_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
