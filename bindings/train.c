/* train.c: the training step as Lua's loops drive it: a trainer's moments, and the options of lc.steps and lc.train. */
#include "train.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "model.h"
#include "schedule.h"
#include "text.h"

lc_tensor *lcl_leaf(lua_State *L, int arg) {
    lc_tensor *t = lcl_tensor(L, arg);
    if (t->leaf) return t->leaf;
    if (t->node) lcl_error(L, "a computed tensor is not trained: give parameters, or leaves made by lc.param");
    if (!t->requires_grad && !t->name) /* a frozen parameter has a name */
        lcl_error(L, "a tensor that asks for no gradient is not trained: give parameters, or leaves made by lc.param");
    return t;
}

/* -- options -- */

static const char *const optimizers[] = {"adamw", "sgd", NULL};

typedef struct recipe_options {
    int optimizer;
    double lr, weight_decay, eps, momentum;
} recipe_options;

typedef struct steps_options {
    int64_t steps, batch, accumulate, eval_every, log_every, save_every, keep, start, seed;
    double epochs, warmup;
    bool progress;
    recipe_options recipe;
} steps_options;

#define FIELD(name) offsetof(steps_options, name)

static const lcl_option steps_rows[] = {
    {"steps", LCL_INT, FIELD(steps), .min = 1, .max = 1e15,
     .doc = "optimizer steps; with epochs too, whichever ends first"},
    {"epochs", LCL_NUMBER, FIELD(epochs), .min = 1e-9, .max = 1e9, .doc = "passes through the data; parts are allowed"},
    {"batch", LCL_INT, FIELD(batch), .min = 1, .max = 1e9, .fallback = "8", .doc = "examples in a micro-batch"},
    {"accumulate", LCL_INT, FIELD(accumulate), .min = 1, .max = 1e9, .fallback = "1", .doc = "micro-batches in a step"},
    {"optimizer", LCL_CHOICE, FIELD(recipe.optimizer), .choices = optimizers, .fallback = "'adamw'",
     .doc = "the rule of the update"},
    {"lr", LCL_NUMBER, FIELD(recipe.lr), .min = 0, .max = 1e9, .fallback = "5e-5", .doc = "learning rate"},
    {"lr_schedule", LCL_ANY, .doc = "'constant', 'linear', 'cosine', or a schedule: a factor on lr; default constant"},
    {"warmup", LCL_NUMBER, FIELD(warmup), .min = 0, .max = 1e15, .fallback = "0",
     .doc = "steps in which lr rises from 0; below 1 a share of all steps"},
    {"betas", LCL_ANY, .doc = "AdamW's {beta1, beta2}; default {0.9, 0.999}"},
    {"eps", LCL_NUMBER, FIELD(recipe.eps), .min = 0, .max = 1, .fallback = "1e-8", .doc = "AdamW's epsilon"},
    {"momentum", LCL_NUMBER, FIELD(recipe.momentum), .min = 0, .max = 1, .fallback = "0", .doc = "of sgd"},
    {"weight_decay", LCL_NUMBER, FIELD(recipe.weight_decay), .min = 0, .max = 1e9, .fallback = "0.01",
     .doc = "for matrices and embeddings only"},
    {"clip", LCL_ANY, .doc = "largest norm of the whole gradient; false = off; default 1"},
    {"seed", LCL_INT, FIELD(seed), .min = 0, .max = 9e18, .doc = "of the order of the data; default --seed"},
    {"objective", LCL_ANY, .doc = "'causal', or function(model, batch, t) -> loss [, count]; default causal"},
    {"groups", LCL_ANY,
     .doc = "{{params = selection | leaves | handle, lr, weight_decay, optimizer, ...}, ...}: first match wins"},
    {"params", LCL_ANY, .doc = "leaves trained beside the model's parameters"},
    {"eval", LCL_ANY,
     .doc =
         "a dataset, list of batches, or function(model, t) -> number, measured every eval_every steps and at the end"},
    {"eval_every", LCL_INT, FIELD(eval_every), .min = 1, .max = 1e15, .doc = "steps between evaluations"},
    {"log_every", LCL_INT, FIELD(log_every), .min = 1, .max = 1e15, .doc = "steps between lines in the run's metrics"},
    {"save_every", LCL_INT, FIELD(save_every), .min = 1, .max = 1e15,
     .doc = "steps between checkpoints of the run; default: when ten minutes have passed"},
    {"keep", LCL_INT, FIELD(keep), .min = 1, .max = 1e6, .fallback = "1",
     .doc = "how many of the last checkpoints stay"},
    {"best", LCL_ANY, .doc = "a tag: the model with the lowest evaluation is saved under it in the run"},
    {"run", LCL_ANY, .doc = "the run that logs and checkpoints this loop"},
    {"start", LCL_INT, FIELD(start), .min = 0, .max = 1e15, .fallback = "0", .doc = "steps that count as done"},
    {"progress", LCL_BOOL, FIELD(progress), .fallback = "true",
     .doc = "a progress bar where standard error is a terminal"},
    {0},
};
static const lcl_option_set steps_set = {"steps", steps_rows};

static const lcl_option group_rows[] = {
    {"params", LCL_ANY, .doc = "a selection, leaves, or the handle of what is installed"},
    {"optimizer", LCL_CHOICE, offsetof(recipe_options, optimizer), .choices = optimizers,
     .doc = "the rule of the update"},
    {"lr", LCL_NUMBER, offsetof(recipe_options, lr), .min = 0, .max = 1e9, .doc = "learning rate"},
    {"betas", LCL_ANY, .doc = "AdamW's {beta1, beta2}"},
    {"eps", LCL_NUMBER, offsetof(recipe_options, eps), .min = 0, .max = 1, .doc = "AdamW's epsilon"},
    {"momentum", LCL_NUMBER, offsetof(recipe_options, momentum), .min = 0, .max = 1, .doc = "of sgd"},
    {"weight_decay", LCL_NUMBER, offsetof(recipe_options, weight_decay), .min = 0, .max = 1e9,
     .doc = "for every tensor here"},
    {0},
};
static const lcl_option_set group_set = {"groups", group_rows};

void lcl_betas(lua_State *L, int arg, const char *function, lc_recipe *recipe) {
    if (lcl_field(L, arg, "betas") != LUA_TNIL) {
        bool pair = lua_istable(L, -1) && lua_rawlen(L, -1) == 2;
        double b[2] = {0, 0};
        for (int i = 0; i < 2 && pair; i++) {
            pair = lua_rawgeti(L, -1 - i, i + 1) == LUA_TNUMBER;
            b[i] = lua_tonumber(L, -1);
        }
        if (!pair || !(b[0] >= 0 && b[0] < 1 && b[1] >= 0 && b[1] < 1))
            lcl_error(L, "%s: option 'betas' must be two numbers from 0 and below 1, such as {0.9, 0.999}", function);
        lua_pop(L, 2);
        recipe->beta1 = b[0];
        recipe->beta2 = b[1];
    }
    lua_pop(L, 1);
}

/* Whether one of the groups in the table at `arg` names another optimizer than this one, which then takes from the table
 * what it does not say itself. */
static bool a_group_differs(lua_State *L, int arg, const char *optimizer) {
    bool found = false;
    int top = lua_gettop(L);
    bool any = lcl_field(L, arg, "groups") == LUA_TTABLE;
    for (lua_Integer i = 1; any && !found && lua_rawgeti(L, top + 1, i) == LUA_TTABLE; i++) {
        found = lcl_field(L, -1, "optimizer") == LUA_TSTRING && strcmp(lua_tostring(L, -1), optimizer) != 0;
        lua_settop(L, top + 1);
    }
    lua_settop(L, top);
    return found;
}

/* An option that no optimizer of this table would read is a mistake that training would hide. */
static void refuse_unread(lua_State *L, int arg, const char *function, int optimizer) {
    static const struct {
        const char *option, *optimizer;
    } only[] = {{"betas", "adamw"}, {"eps", "adamw"}, {"momentum", "sgd"}};
    for (size_t i = 0; i < sizeof only / sizeof only[0]; i++) {
        if (lcl_field(L, arg, only[i].option) != LUA_TNIL && strcmp(only[i].optimizer, optimizers[optimizer]) != 0 &&
            !a_group_differs(L, arg, optimizers[optimizer]))
            lcl_error(L, "%s: option '%s' belongs to %s, but the optimizer is %s: drop it, or give optimizer = '%s'",
                      function, only[i].option, only[i].optimizer, optimizers[optimizer], only[i].optimizer);
        lua_pop(L, 1);
    }
}

/* Options and the field betas as a recipe; betas not given are those of `base`. */
static lc_recipe read_recipe(lua_State *L, int arg, const char *function, const recipe_options *o,
                             const lc_recipe *base) {
    refuse_unread(L, arg, function, o->optimizer);
    lc_recipe recipe = {.optimizer = o->optimizer == 0 ? LC_ADAMW : LC_SGD,
                        .lr = o->lr,
                        .beta1 = base->beta1,
                        .beta2 = base->beta2,
                        .eps = o->eps,
                        .momentum = o->momentum,
                        .weight_decay = o->weight_decay};
    lcl_betas(L, arg, function, &recipe);
    return recipe;
}

/* Option lr_schedule; a schedule is left on the stack, which keeps it. */
static void read_decay(lua_State *L, int arg, lc_trainer_options *o) {
    static const char *const names[] = {"constant", "linear", "cosine"};
    int type = lcl_field(L, arg, "lr_schedule");
    if (type == LUA_TNIL) return;
    if (type == LUA_TSTRING) {
        for (int i = 0; i < 3; i++) {
            if (strcmp(lua_tostring(L, -1), names[i]) != 0) continue;
            o->decay = (lc_decay)i;
            return;
        }
    }
    if (type != LUA_TNUMBER && type != LUA_TTABLE && !lcl_test(L, -1, &LCL_SCHEDULE))
        lcl_error(L, "steps: option 'lr_schedule' must be 'constant', 'linear', 'cosine' or a schedule, got %s",
                  lcl_describe(L, -1));
    o->decay = LC_DECAY_SCHEDULE;
    o->schedule = lcl_schedule(L, -1);
}

static double read_clip(lua_State *L, int arg) {
    int type = lcl_field(L, arg, "clip");
    double clip = type == LUA_TNIL ? 1 : 0;
    if (type == LUA_TNUMBER) clip = lua_tonumber(L, -1);
    if (type != LUA_TNIL && !(type == LUA_TNUMBER && clip > 0) && !(type == LUA_TBOOLEAN && !lua_toboolean(L, -1)))
        lcl_error(L, "steps: option 'clip' must be a number above 0, or false, got %s", lcl_describe(L, -1));
    lua_pop(L, 1);
    return clip;
}

/* Sets a field, unless the option was not given. */
static void set_integer(lua_State *L, const char *name, int64_t value) {
    if (value == 0) return;
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

/* steps(opts), train(opts) -> the numbers among the options, checked, with defaults; what was not given is nil. What the functions of
 * those names do around it is written in Lua (lacuna.steps). */
static int check_options(lua_State *L) {
    steps_options o = {0};
    lcl_options(L, 1, &steps_set, &o);
    lua_createtable(L, 0, 16);
    set_integer(L, "steps", o.steps);
    set_integer(L, "batch", o.batch);
    set_integer(L, "accumulate", o.accumulate);
    set_integer(L, "eval_every", o.eval_every);
    set_integer(L, "log_every", o.log_every);
    set_integer(L, "save_every", o.save_every);
    set_integer(L, "keep", o.keep);
    lua_pushinteger(L, o.start);
    lua_setfield(L, -2, "start");
    if (o.epochs > 0) {
        lua_pushnumber(L, o.epochs);
        lua_setfield(L, -2, "epochs");
    }
    lua_pushboolean(L, o.progress);
    lua_setfield(L, -2, "progress");
    return 1;
}

/* -- trainers -- */

static lc_trainer *check_trainer(lua_State *L) {
    return lcl_check(L, 1, &LCL_TRAINER);
}

/* new(model, opts, steps): opts as the user wrote them, steps as worked out. */
static int new_trainer(lua_State *L) {
    lc_model *model = lcl_check(L, 1, &LCL_MODEL);
    steps_options o = {0};
    lcl_options(L, 2, &steps_set, &o);
    static const lc_recipe defaults = {.beta1 = 0.9, .beta2 = 0.999};
    lc_trainer_options t = {.steps = lcl_integer(L, 3),
                            .start = o.start,
                            .accumulate = o.accumulate,
                            .clip = read_clip(L, 2),
                            .recipe = read_recipe(L, 2, steps_set.function, &o.recipe, &defaults)};
    t.warmup = o.warmup < 1 ? (int64_t)ceil(o.warmup * (double)t.steps) : (int64_t)o.warmup;
    read_decay(L, 2, &t);
    lc_trainer **slot = lcl_push(L, &LCL_TRAINER);
    return lcl_done(L, lc_trainer_new(model, &t, slot), 1);
}

/* trainer:read(dataset, opts) */
static int trainer_read(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    lc_dataset *data = lcl_check(L, 2, &LCL_DATASET);
    steps_options o = {.seed = lcl_integer(L, 4)};
    lcl_options(L, 3, &steps_set, &o);
    lc_loader_options loader = {.batch = o.batch, .seed = (uint64_t)o.seed};
    return lcl_done(L, lc_trainer_read(t, data, &loader), 0);
}

/* trainer:group(leaves, name, group): leaves is a list of tensors, name begins the names of those that have none. */
static int trainer_group(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    const char *name = lcl_string(L, 3);
    const lc_recipe *base = &t->options.recipe;
    recipe_options o = {.optimizer = base->optimizer == LC_SGD,
                        .lr = base->lr,
                        .weight_decay = base->weight_decay,
                        .eps = base->eps,
                        .momentum = base->momentum};
    lcl_options(L, 4, &group_set, &o);
    lc_recipe recipe = read_recipe(L, 4, group_set.function, &o, base);
    recipe.decay_all = lcl_field(L, 4, "weight_decay") != LUA_TNIL;
    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; i++) {
        lc_tensor *leaf = lcl_leaf(L, -1);
        const char *own = leaf->name ? leaf->name : lua_pushfstring(L, "%s.%d", name, (int)i);
        lcl_done(L, lc_optim_add(&t->optim, own, leaf, NULL, &recipe, NULL), 0);
        lua_settop(L, 5);
    }
    return 0;
}

/* trainer:begin(). A loop that was abandoned in a step holds the model until it is collected: that is tried first. */
static int trainer_begin(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    if (t->model->stepping && t->model->stepping != t) lua_gc(L, LUA_GCCOLLECT);
    return lcl_done(L, lc_trainer_begin(t), 0);
}

/* trainer:give(batch): a table {ids, labels?, attention_mask?, token_type_ids?} */
static int trainer_give(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    lc_batch batch = {0};
    lcl_batch(L, 2, &batch);
    return lcl_done(L, lc_trainer_give(t, &batch), 0);
}

static void set_tensor(lua_State *L, const char *name, lc_tensor *t) {
    if (!t) return;
    lcl_push_tensor(L, t);
    lua_setfield(L, -2, name);
}

/* trainer:batch(i) -> {ids, labels, attention_mask} of the i-th micro-batch, or nil */
static int trainer_batch(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    int64_t i = lcl_integer(L, 2);
    if (i < 1 || i > t->n_batches) return 0;
    const lc_batch *b = &t->batches[i - 1];
    lua_createtable(L, 0, 3);
    set_tensor(L, "ids", b->ids);
    set_tensor(L, "labels", b->labels);
    set_tensor(L, "attention_mask", b->attention_mask);
    return 1;
}

static int trainer_labels(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    int64_t count = 0;
    lcl_done(L, lc_trainer_labels(t, lcl_index(L, 2, t->n_batches), &count), 0);
    lua_pushinteger(L, count);
    return 1;
}

/* Calls that may run the user's functions. */
static int call_core(lua_State *L, lc_status (*f)(lc_trainer *)) {
    lc_trainer *t = check_trainer(L);
    lua_State *outer = lcl_enter(L);
    lc_status status = f(t);
    lcl_leave(outer);
    return lcl_done(L, status, 0);
}

static int trainer_forward(lua_State *L) {
    return call_core(L, lc_trainer_forward);
}
static int trainer_backward(lua_State *L) {
    return call_core(L, lc_trainer_backward);
}
static int trainer_update(lua_State *L) {
    return call_core(L, lc_trainer_update);
}
static int trainer_drop(lua_State *L) {
    return lcl_done(L, lc_trainer_drop(check_trainer(L)), 0);
}

/* trainer:add(loss, weight, last) */
static int trainer_add(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    lc_tensor *loss = lcl_tensor(L, 2);
    double weight = lcl_number(L, 3);
    bool last = lcl_boolean(L, 4);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_trainer_add(t, loss, weight, last);
    lcl_leave(outer);
    return lcl_done(L, status, 0);
}

static int trainer_rescale(lua_State *L) {
    lc_trainer_rescale(check_trainer(L), lcl_number(L, 2));
    return 0;
}

/* trainer:skip(leaves, mode) */
static int trainer_skip(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    lc_skip skip = strcmp(lcl_string(L, 3), "grad") == 0 ? LC_SKIP_GRAD : LC_SKIP_FREEZE;
    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; i++) {
        lcl_done(L, lc_trainer_skip(t, lcl_leaf(L, -1), skip), 0);
        lua_pop(L, 1);
    }
    return 0;
}

static int trainer_norm(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    double norm = 0;
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_trainer_norm(t, &norm);
    lcl_leave(outer);
    lcl_done(L, status, 0);
    lua_pushnumber(L, lcl_plain(norm));
    return 1;
}

static const char *const moments[] = {"none", "begun", "forward", "backward", "updated"};

/* trainer:state() -> step, loss, lr, progress, tokens, macs, dense macs, total tokens, moment */
static int trainer_state(lua_State *L) {
    lc_trainer *t = check_trainer(L);
    lua_pushinteger(L, t->step);
    lua_pushnumber(L, lcl_plain(t->loss));
    lua_pushnumber(L, t->lr);
    lua_pushnumber(L, lc_progress(t->step, t->options.steps));
    lua_pushinteger(L, t->tokens);
    lua_pushinteger(L, (lua_Integer)t->macs);
    lua_pushinteger(L, (lua_Integer)t->dense_macs);
    lua_pushinteger(L, t->total_tokens);
    lua_pushstring(L, moments[t->moment]);
    return 9;
}

static const luaL_Reg trainer_methods[] = {
    {"read", trainer_read},       {"group", trainer_group},       {"begin", trainer_begin},     {"give", trainer_give},
    {"batch", trainer_batch},     {"labels", trainer_labels},     {"forward", trainer_forward}, {"add", trainer_add},
    {"rescale", trainer_rescale}, {"backward", trainer_backward}, {"skip", trainer_skip},       {"norm", trainer_norm},
    {"update", trainer_update},   {"drop", trainer_drop},         {"state", trainer_state},     {NULL, NULL},
};

static void release_trainer(void *object) {
    lc_trainer_free(object);
}

const lcl_type LCL_TRAINER = {"lacuna.trainer", release_trainer, trainer_methods, NULL};

/* -- evaluation, and what a run measures of the process -- */

/* evaluate(model, dataset, batch size), evaluate(model, batch) -> sum of the losses of its labelled tokens, their number */
static int evaluate(lua_State *L) {
    lc_model *model = lcl_check(L, 1, &LCL_MODEL);
    lc_dataset *data = lcl_test(L, 2, &LCL_DATASET);
    double sum = 0;
    int64_t count = 0, batch_size = data ? lcl_integer(L, 3) : 0;
    lc_batch batch = {0};
    if (data)
        lcl_use_text(L, data, LCL_IS_SCORED);
    else
        lcl_batch(L, 2, &batch);
    lua_State *outer = lcl_enter(L);
    lc_status status =
        data ? lc_evaluate(model, data, batch_size, &sum, &count) : lc_evaluate_batch(model, &batch, &sum, &count);
    lcl_leave(outer);
    lcl_done(L, status, 0);
    lua_pushnumber(L, lcl_plain(sum));
    lua_pushinteger(L, count);
    return 2;
}

/* steps_per_epoch(dataset, batch, accumulate) */
static int steps_per_epoch(lua_State *L) {
    lc_dataset *data = lcl_check(L, 1, &LCL_DATASET);
    int64_t batch = lcl_integer(L, 2), batches = (lc_dataset_count(data) + batch - 1) / batch;
    lua_pushinteger(L, lc_steps_per_epoch(batches, lcl_integer(L, 3)));
    return 1;
}

/* seconds() -> since some moment, never going back */
static int seconds(lua_State *L) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    return 1;
}

/* terminal_width() -> columns of standard error where it is a terminal, 80 when unknown; else nil */
static int terminal_width(lua_State *L) {
    struct winsize size;
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    if (!isatty(STDERR_FILENO)) return 0;
    lua_pushinteger(L, known ? size.ws_col : 80);
    return 1;
}

/* method_leaves(handle) -> the tensors that an installed method trains */
static int method_leaves(lua_State *L) {
    lc_installed *me = lcl_check(L, 1, &LCL_INSTALLED);
    lua_createtable(L, me->n_params, 0);
    for (int i = 0; i < me->n_params; i++) {
        lcl_push_tensor(L, me->params[i]->leaf);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* fingerprint(model) -> a number that changes with every write into its weights or masks */
static int fingerprint(lua_State *L) {
    lc_model *model = lcl_check(L, 1, &LCL_MODEL);
    uint64_t sum = 0;
    for (int64_t i = 0; i < model->n_params; i++) {
        const lc_param *p = model->params[i];
        sum = sum * 31 + p->leaf->storage->version;
        if (p->held) sum = sum * 31 + (uintptr_t)p->held;
    }
    lua_pushinteger(L, (lua_Integer)sum);
    return 1;
}

/* memory() -> peak engine bytes, peak resident bytes */
static int memory(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)lc_memory_get().peak);
    lua_pushinteger(L, (lua_Integer)lc_resident_peak());
    return 2;
}

static const lcl_function loops[] = {
    {"steps", check_options, "lc.steps(model, data, {steps | epochs, ...}) -> iterator",
     "for t in lc.steps(...): a training loop; t is one optimizer step, when its loss is known: t.step, t.loss, t.lr, "
     "t.progress, t.tokens, "
     "t.macs (multiply-adds really done), t.dense_macs (with those left out: weight gradients of frozen and skipped "
     "parameters, the head at tokens without a label, what ctx:macs says), t.grad_norm, t:backward(), t:skip(things, "
     "{mode}), t:update(). What the body does not do happens when it ends; "
     "break "
     "drops the step.",
     &steps_set},
    {"train", check_options,
     "lc.train(model, data, {steps | epochs, ...}) -> {loss, steps, tokens, seconds, eval, best}",
     "The same without a body.", &steps_set},
    {0},
};

static const luaL_Reg functions[] = {
    {"new", new_trainer},
    {"evaluate", evaluate},
    {"steps_per_epoch", steps_per_epoch},
    {"memory", memory},
    {"seconds", seconds},
    {"terminal_width", terminal_width},
    {"fingerprint", fingerprint},
    {"method_leaves", method_leaves},
    {NULL, NULL},
};

int luaopen_lacuna_train(lua_State *L) {
    lcl_register(L, &LCL_TRAINER);
    luaL_newlib(L, functions);
    lcl_functions(L, loops);
    return 1;
}
