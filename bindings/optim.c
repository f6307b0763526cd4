/* optim.c: optimizers for loops written by hand: backward adds into p.grad, step uses and clears it. */
#include "optim/optim.h"

#include "base/memory.h"

#include "model.h"
#include "train.h"

static void release(void *object) {
    lc_optim_close(object);
    lc_free(object);
}

extern const lcl_type LCL_OPTIM;

static lc_optim *check(lua_State *L) {
    return lcl_check(L, 1, &LCL_OPTIM);
}

/* -- options: lr has no default here, since a loop by hand has no schedule either -- */

static const lcl_option adamw_rows[] = {
    {"params", LCL_ANY, .required = true, .doc = "a selection, parameters, or leaves made by lc.param"},
    {"lr", LCL_NUMBER, offsetof(lc_recipe, lr), true, 0, 1e9, .doc = "learning rate"},
    {"betas", LCL_ANY, .doc = "{beta1, beta2}; default {0.9, 0.999}"},
    {"eps", LCL_NUMBER, offsetof(lc_recipe, eps), .min = 0, .max = 1, .fallback = "1e-8",
     .doc = "added to the root of v"},
    {"weight_decay", LCL_NUMBER, offsetof(lc_recipe, weight_decay), .min = 0, .max = 1e9, .fallback = "0.01",
     .doc = "for matrices and embeddings only"},
    {0},
};
static const lcl_option_set adamw_set = {"optim.adamw", adamw_rows};

static const lcl_option sgd_rows[] = {
    {"params", LCL_ANY, .required = true, .doc = "a selection, parameters, or leaves made by lc.param"},
    {"lr", LCL_NUMBER, offsetof(lc_recipe, lr), true, 0, 1e9, .doc = "learning rate"},
    {"momentum", LCL_NUMBER, offsetof(lc_recipe, momentum), .min = 0, .max = 1, .fallback = "0", .doc = "0 = none"},
    {"weight_decay", LCL_NUMBER, offsetof(lc_recipe, weight_decay), .min = 0, .max = 1e9, .fallback = "0",
     .doc = "for matrices and embeddings only"},
    {0},
};
static const lcl_option_set sgd_set = {"optim.sgd", sgd_rows};

/* -- making -- */

/* The parameter of one of the models in the list at `models` that has this leaf: for its held mask. */
static lc_param *find_param(lua_State *L, int models, const lc_tensor *leaf) {
    lc_param *found = NULL;
    for (lua_Integer i = 1; !found && lua_rawgeti(L, models, i) != LUA_TNIL; i++) {
        const lc_model *model = lcl_check(L, lua_gettop(L), &LCL_MODEL);
        for (int64_t k = 0; k < model->n_params && !found; k++)
            if (model->params[k]->leaf == leaf) found = model->params[k];
        lua_pop(L, 1);
    }
    if (!found) lua_pop(L, 1);
    return found;
}

/* new(options, leaves, models): models keeps alive what the slots point into. */
static int new (lua_State *L, const lc_recipe *recipe) {
    void **slot = lcl_push(L, &LCL_OPTIM);
    int handle = lua_gettop(L);
    lc_optim *o = lc_calloc(1, sizeof *o);
    if (!o) lcl_raise(L, LC_ENOMEM);
    *slot = o;
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, handle, 1);
    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; i++) {
        lc_tensor *leaf = lcl_leaf(L, -1);
        const char *name = leaf->name ? leaf->name : lua_pushfstring(L, "params.%d", (int)i);
        lcl_done(L, lc_optim_add(o, name, leaf, find_param(L, 3, leaf), recipe, NULL), 0);
        lua_settop(L, handle);
    }
    lua_settop(L, handle);
    return 1;
}

static int adamw(lua_State *L) {
    lc_recipe recipe = {.optimizer = LC_ADAMW, .beta1 = 0.9, .beta2 = 0.999};
    lcl_options(L, 1, &adamw_set, &recipe);
    lcl_betas(L, 1, adamw_set.function, &recipe);
    return new (L, &recipe);
}

static int sgd(lua_State *L) {
    lc_recipe recipe = {.optimizer = LC_SGD};
    lcl_options(L, 1, &sgd_set, &recipe);
    return new (L, &recipe);
}

/* -- methods -- */

static int step(lua_State *L) {
    return lcl_done(L, lc_optim_update(check(L), 1, 1), 0);
}

static int clip(lua_State *L) {
    lc_optim *o = check(L);
    double limit = lcl_number(L, 2), norm = 0;
    if (!(limit > 0)) lcl_error(L, "clip: the norm must be above 0, got %g", limit);
    lcl_done(L, lc_optim_norm(o, &norm), 0);
    lcl_done(L, lc_optim_scale(o, lc_clip_factor(norm, limit)), 0);
    lua_pushnumber(L, lcl_plain(norm));
    return 1;
}

static int set_lr(lua_State *L) {
    lc_optim *o = check(L);
    double lr = lcl_number(L, 2);
    if (!(lr >= 0)) lcl_error(L, "set_lr: a learning rate is not negative, got %g", lr);
    for (int64_t i = 0; i < o->n; i++) o->slots[i].recipe.lr = lr;
    return 0;
}

static const lcl_function methods[] = {
    {"step", step, "optimizer:step()", "Changes every tensor that has a gradient, and clears the gradients."},
    {"clip", clip, "optimizer:clip(norm) -> norm before",
     "Scales all gradients so that their global norm is at most `norm`."},
    {"set_lr", set_lr, "optimizer:set_lr(lr)", "Sets the learning rate of the steps that follow."},
    {0},
};

static int optim_tostring(lua_State *L) {
    const lc_optim *o = check(L);
    const lc_recipe *recipe = &o->slots[0].recipe;
    lua_pushfstring(L, "%s of %d tensors, lr %f", recipe->optimizer == LC_ADAMW ? "adamw" : "sgd", (int)o->n,
                    recipe->lr);
    return 1;
}

static const luaL_Reg meta[] = {{"__tostring", optim_tostring}, {NULL, NULL}};
const lcl_type LCL_OPTIM = {"lacuna.optimizer", release, NULL, meta};

static const lcl_function functions[] = {
    {"adamw", adamw, "lc.optim.adamw {params, lr, betas, eps, weight_decay} -> optimizer",
     "AdamW for a loop by hand: loss:backward(), then optimizer:step().", &adamw_set},
    {"sgd", sgd, "lc.optim.sgd {params, lr, momentum, weight_decay} -> optimizer",
     "Stochastic gradient descent for a loop by hand.", &sgd_set},
    {0},
};

int luaopen_lacuna_optim(lua_State *L) {
    lcl_register(L, &LCL_OPTIM);
    lcl_metatable(L, &LCL_OPTIM);
    lua_getfield(L, -1, "__index");
    lcl_functions(L, methods);
    lua_settop(L, 0);
    lua_createtable(L, 0, 2);
    lcl_functions(L, functions);
    return 1;
}
