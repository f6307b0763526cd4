/* dataset.c: the module lacuna.core.dataset: lc.dataset, its examples and its batches. */
#include "model.h"
#include "text.h"

#include <math.h>
#include <string.h>

static void release(void *object) {
    lc_dataset_release(object);
}

static int dataset_length(lua_State *L);
static int dataset_text(lua_State *L);
static const luaL_Reg meta[] = {{"__len", dataset_length}, {"__tostring", dataset_text}, {NULL, NULL}};
const lcl_type LCL_DATASET = {"lacuna.dataset", release, NULL, meta};

static void release_loader(void *object) {
    lc_loader_free(object);
}
static const lcl_type LOADER = {"lacuna.loader", release_loader, NULL, NULL};

static lc_dataset *check(lua_State *L) {
    return lcl_check(L, 1, &LCL_DATASET);
}

/* The seed that lc.dataset was given is the handle's user value, and passes on to its parts. */
static int64_t seed_of(lua_State *L, int dataset) {
    lua_getiuservalue(L, dataset, 1);
    int64_t seed = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return seed;
}

static lc_dataset **push_dataset(lua_State *L, int64_t seed) {
    lc_dataset **slot = lcl_push(L, &LCL_DATASET);
    lua_pushinteger(L, seed);
    lua_setiuservalue(L, -2, 1);
    return slot;
}

/* -- batches -- */

/* Moves *t into field `name` of the table on top; nothing for NULL. */
static void set_tensor(lua_State *L, const char *name, lc_tensor **t) {
    if (!*t) return;
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    *slot = *t;
    *t = NULL;
    lua_setfield(L, -2, name);
}

void lcl_push_batch(lua_State *L, lc_batch *batch) {
    lua_createtable(L, 0, 4);
    set_tensor(L, "ids", &batch->ids);
    set_tensor(L, "labels", &batch->labels);
    set_tensor(L, "attention_mask", &batch->attention_mask);
    set_tensor(L, "token_type_ids", &batch->token_type_ids);
}

/* A batch on its way from core to Lua, freed with its handle when Lua runs out of memory between. */
static int free_batch(lua_State *L) {
    lc_batch_release(lua_touserdata(L, 1));
    return 0;
}

static lc_batch *push_batch_holder(lua_State *L) {
    lc_batch *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (lc_batch){0};
    if (luaL_newmetatable(L, "lacuna.batch")) {
        lua_pushcfunction(L, free_batch);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return b;
}

static const lcl_option batches_rows[] = {
    {"batch", LCL_INT, offsetof(lc_loader_options, batch), .min = 1, .max = 1e9, .fallback = "8",
     .doc = "examples in a batch"},
    {"epoch", LCL_ANY, .doc = "which one, from 1; each has its own order (default 1)"},
    {"shuffle", LCL_ANY, .doc = "false = in order (default true)"},
    {"seed", LCL_ANY, .doc = "of the order; default: the dataset's"},
    {0},
};
static const lcl_option_set batches_set = {"batches", batches_rows};

/* An integer option that has its default here, since it depends on the dataset. */
static int64_t integer_option(lua_State *L, int arg, const char *name, int64_t fallback) {
    int64_t value = lcl_field(L, arg, name) == LUA_TNIL ? fallback : lcl_integer(L, -1);
    lua_pop(L, 1);
    return value;
}

/* Upvalue 1: the loader. Ends after its epoch. */
static int next_batch(lua_State *L) {
    lc_loader *l = lcl_check(L, lua_upvalueindex(1), &LOADER);
    int64_t epoch, index, wanted = lua_tointeger(L, lua_upvalueindex(2));
    lc_loader_position(l, &epoch, &index);
    if (epoch != wanted || index == lua_tointeger(L, lua_upvalueindex(3))) return 0;
    lc_batch *b = push_batch_holder(L);
    lcl_done(L, lc_loader_next(l, b), 0);
    lcl_push_batch(L, b);
    return 1;
}

static int batches(lua_State *L) {
    lc_dataset *d = check(L);
    lua_settop(L, 2);
    lc_loader_options o = {0};
    lcl_options(L, 2, &batches_set, &o);
    o.seed = (uint64_t)integer_option(L, 2, "seed", seed_of(L, 1));
    int64_t epoch = integer_option(L, 2, "epoch", 1);
    if (epoch < 1) lcl_error(L, "batches: option 'epoch' counts from 1, got %lld", (long long)epoch);
    epoch--;
    if (lcl_field(L, 2, "shuffle") != LUA_TNIL) o.in_order = !lcl_boolean(L, -1);
    lc_loader **slot = lcl_push(L, &LOADER);
    lcl_done(L, lc_loader_new(d, &o, slot), 0);
    lcl_done(L, lc_loader_seek(*slot, epoch, 0), 0);
    lua_pushinteger(L, epoch);
    lua_pushinteger(L, lc_dataset_count(d));
    lua_pushcclosure(L, next_batch, 3);
    return 1;
}

/* -- texts that serve two purposes -- */

typedef struct text_use {
    lc_origin origin;
    lcl_text_use use;
} text_use;

/* Registry key of the list of uses so far, as strings of a text_use each; under a file's hash stands true once it
 * was warned of. */
static char uses_key;

/* Pushes the list. */
static void push_uses(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &uses_key) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &uses_key);
}

/* Whether they have text in common. Read in two ways (join, per, tokenizer), a part's place is known nearly, as a share
 * of the whole: a tenth of the shorter part may be common by that rounding. */
static bool overlap(const lc_origin *a, const lc_origin *b) {
    if (a->text == b->text) return a->first < b->last && b->first < a->last;
    if (a->source != b->source) return false;
    double A = (double)a->total, B = (double)b->total;
    double first = fmax((double)a->first / A, (double)b->first / B),
           last = fmin((double)a->last / A, (double)b->last / B);
    return last - first > 0.1 * fmin((double)(a->last - a->first) / A, (double)(b->last - b->first) / B);
}

/* Whether there has been a warning of this file; now there is one. */
static bool was_warned(lua_State *L, int list, uint64_t source) {
    const void *key = (const void *)(uintptr_t)source;
    bool was = lua_rawgetp(L, list, key) != LUA_TNIL;
    lua_pop(L, 1);
    lua_pushboolean(L, true);
    lua_rawsetp(L, list, key);
    return was;
}

void lcl_use_text(lua_State *L, const lc_dataset *d, lcl_text_use use) {
    text_use now, other;
    memset(&now, 0, sizeof now); /* its padding too: it becomes a string */
    now.origin = lc_dataset_origin(d);
    now.use = use;
    bool known = false, both = false;
    uint64_t with = 0; /* the file that serves the other purpose */
    luaL_checkstack(L, 8, NULL);
    push_uses(L);
    int list = lua_gettop(L);
    for (lua_Integer i = 1; lua_rawgeti(L, list, i) == LUA_TSTRING; i++, lua_pop(L, 1)) {
        memcpy(&other, lua_tostring(L, -1), sizeof other);
        known = known || memcmp(&other, &now, sizeof now) == 0;
        if (both || other.use == use || !overlap(&other.origin, &now.origin)) continue;
        both = true;
        with = other.origin.source;
    }
    lua_settop(L, list);
    if (!known) {
        lua_pushlstring(L, (const char *)&now, sizeof now);
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
    }
    if (both && with != now.origin.source && was_warned(L, list, with)) both = false;
    if (both && !was_warned(L, list, now.origin.source))
        lua_warning(L, "the text that is scored is calibration text too; its perplexity says little of other texts", 0);
    lua_settop(L, list - 1);
}

/* -- methods -- */

static int split(lua_State *L) {
    lc_dataset *d = check(L);
    double share = lcl_number(L, 2);
    lc_dataset **first = push_dataset(L, seed_of(L, 1)), **rest = push_dataset(L, seed_of(L, 1));
    return lcl_done(L, lc_dataset_split(d, share, first, rest), 2);
}

static const lcl_option sample_rows[] = {{"seed", LCL_ANY, .doc = "of the choice; default: the dataset's"}, {0}};
static const lcl_option_set sample_set = {"sample", sample_rows};

/* Windows of a short text cover it several times over, which a large count would hide. */
static void warn_of_overlap(lua_State *L, const lc_dataset *d, int64_t n) {
    int64_t tokens, length = lc_dataset_length(d);
    lc_dataset_tokens(d, &tokens);
    if (lc_dataset_per(d) != LC_PER_WINDOW || n <= tokens / length) return;
    lua_pushfstring(L, "sample: %I windows of %I tokens are more than the %I tokens of text: they overlap",
                    (LUAI_UACINT)n, (LUAI_UACINT)length, (LUAI_UACINT)tokens);
    lua_warning(L, lua_tostring(L, -1), 0);
    lua_pop(L, 1);
}

static int sample(lua_State *L) {
    lc_dataset *d = check(L);
    int64_t n = lcl_integer(L, 2), none;
    lcl_options(L, 3, &sample_set, &none);
    int64_t seed = integer_option(L, 3, "seed", seed_of(L, 1));
    lc_dataset **slot = push_dataset(L, seed_of(L, 1));
    lcl_done(L, lc_dataset_sample(d, n, (uint64_t)seed, slot), 0);
    warn_of_overlap(L, d, n);
    return 1;
}

static int tokens(lua_State *L) {
    int64_t count;
    const int32_t *ids = lc_dataset_tokens(check(L), &count);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(LC_I64, 1, &count, LC_CPU, slot), 0);
    for (int64_t i = 0; i < count; i++) LC_DATA(int64_t, *slot)[i] = ids[i];
    return 1;
}

static int hash(lua_State *L) {
    char digits[33];
    lc_dataset_hash(check(L), digits);
    lua_pushstring(L, digits);
    return 1;
}

static int dataset_length(lua_State *L) {
    lua_pushinteger(L, lc_dataset_count(check(L)));
    return 1;
}

static int dataset_text(lua_State *L) {
    lc_dataset *d = check(L);
    int64_t count;
    lc_dataset_tokens(d, &count);
    lua_pushfstring(L, "dataset of %d examples, at most %d tokens each, from %d tokens", (int)lc_dataset_count(d),
                    (int)lc_dataset_length(d), (int)count);
    return 1;
}

static const lcl_function methods[] = {
    {"split", split, "dataset:split(share) -> first, rest",
     "The first share of the tokens (of the documents) and the rest; windows are cut anew, so that no token is in "
     "both."},
    {"sample", sample, "dataset:sample(n, {seed}) -> dataset",
     "n random examples. Windows begin anywhere, and a warning says so where they must overlap; documents are drawn "
     "without repeats.",
     &sample_set},
    {"batches", batches, "dataset:batches {batch, epoch, shuffle, seed} -> iterator",
     "Gives one epoch's batches {ids, labels, attention_mask}, (B, T) each; the last may be smaller.", &batches_set},
    {"tokens", tokens, "dataset:tokens() -> ids", "All tokens in order, an i64 tensor of one dimension."},
    {"hash", hash, "dataset:hash() -> string", "32 hex digits of the tokens and how they are cut."},
    {0},
};

/* Pushes the example as a batch of one. */
static int push_example(lua_State *L, lc_dataset *d, int64_t index) {
    lc_batch *b = push_batch_holder(L);
    lcl_done(L, lc_dataset_batch(d, &index, 1, b), 0);
    lcl_push_batch(L, b);
    return 1;
}

/* ds[i]; ds.name: a method (upvalue 1 is their table), or what it was made of. */
static int dataset_index(lua_State *L) {
    lc_dataset *d = check(L);
    if (lua_type(L, 2) == LUA_TNUMBER) return push_example(L, d, lcl_index(L, 2, lc_dataset_count(d)));
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(name, "length") == 0)
        lua_pushinteger(L, lc_dataset_length(d));
    else if (strcmp(name, "stride") == 0)
        lua_pushinteger(L, lc_dataset_stride(d));
    else if (strcmp(name, "tokenizer") == 0)
        lcl_push_tokenizer(L, lc_dataset_tokenizer(d));
    else {
        static const char *const fields[] = {"length", "stride", "tokenizer", NULL};
        lcl_no_field(L, "a dataset", fields, sizeof *fields);
    }
    return 1;
}

/* -- making -- */

typedef struct dataset_options {
    const char *source, *file, *text;
    int64_t length, stride, seed;
    int per, join;
    bool cache;
} dataset_options;
#define AT(field) offsetof(dataset_options, field)
static const char *const per_choices[] = {"window", "document", NULL}; /* as lc_per */
static const char *const join_choices[] = {"plain", "rows", NULL};     /* as lc_join */
static const lcl_option dataset_rows[] = {
    {"model", LCL_ANY, .doc = "its tokenizer and its positions are used"},
    {"tokenizer", LCL_ANY, .doc = "in place of a model's"},
    {"source", LCL_STRING, AT(source),
     .doc = "\"name/split\": LACUNA_DATA/name/split.txt, .jsonl, .txt.gz or .jsonl.gz"},
    {"file", LCL_STRING, AT(file), .doc = "path of a .txt or .jsonl, or a .gz of one"},
    {"text", LCL_STRING, AT(text), .doc = "the text itself"},
    {"length", LCL_INT, AT(length), .min = 1, .max = 1e9,
     .doc = "tokens in a window; default: the model's positions, at most 2048"},
    {"stride", LCL_INT, AT(stride), .min = 1, .max = 1e9,
     .doc = "tokens between the beginnings of windows; default: length"},
    {"per", LCL_CHOICE, AT(per), .choices = per_choices, .fallback = "'window'",
     .doc = "documents are the lines of a .jsonl, or those of a .txt that are not blank; they are cut at length, and "
            "padded to the longest of a batch"},
    {"join", LCL_CHOICE, AT(join), .choices = join_choices, .fallback = "'plain'",
     .doc = "\"rows\": as published WikiText perplexities join lines: each keeps its line feed, one space is empty, "
            "\"\\n\\n\" between"},
    {"seed", LCL_INT, AT(seed), .fallback = "0", .doc = "of sample and batches, where they are given none"},
    {"cache", LCL_BOOL, AT(cache), .fallback = "true", .doc = "keep tokens of long texts in $XDG_CACHE_HOME/lacuna"},
    {0},
};
#undef AT
static const lcl_option_set dataset_set = {"dataset", dataset_rows};

/* Pushes a field of option 'model': a model, or a table with what is needed of one. */
static void push_model_field(lua_State *L, const char *missing, const char *name) {
    int type = lcl_field(L, 1, "model");
    if (type == LUA_TNIL) lcl_error(L, "dataset: %s", missing);
    if (type != LUA_TTABLE && !lcl_test(L, -1, &LCL_MODEL))
        lcl_error(L, "dataset: option 'model' must be a model, got %s", lcl_describe(L, -1));
    lua_getfield(L, -1, name);
}

/* Pushes the tokenizer that was given, or the model's. */
static lc_tokenizer *push_chosen_tokenizer(lua_State *L) {
    if (lcl_field(L, 1, "tokenizer") == LUA_TNIL) {
        push_model_field(L, "give a model or a tokenizer", "tokenizer");
        if (lua_isnil(L, -1))
            lcl_error(L, "dataset: the model has no tokenizer; give one: tokenizer = lc.tokenizer(...)");
    }
    lc_tokenizer *t = lcl_test(L, -1, &LCL_TOKENIZER);
    if (!t) lcl_error(L, "dataset: option 'tokenizer' must be a tokenizer, got %s", lcl_describe(L, -1));
    return t;
}

/* The length that was given, or the model's, which must have as many positions as a window has tokens. */
static int64_t chosen_length(lua_State *L, int64_t given, bool windows) {
    int top = lua_gettop(L);
    if (!given || (windows && lcl_field(L, 1, "model") != LUA_TNIL)) {
        push_model_field(L, "option 'length' is needed where no model gives it", "positions");
        int64_t positions = given && !lua_isinteger(L, -1) ? given : lcl_integer(L, -1);
        if (given > positions)
            lcl_error(L, "dataset: length = %lld is more than the model's %lld positions", (long long)given,
                      (long long)positions);
        if (!given) given = lc_min(positions, 2048);
    }
    lua_settop(L, top);
    return given;
}

static int dataset(lua_State *L) {
    dataset_options o = {0};
    lua_settop(L, 1);
    lcl_options(L, 1, &dataset_set, &o);
    lc_dataset_options options = {.tokenizer = push_chosen_tokenizer(L),
                                  .source = o.source,
                                  .file = o.file,
                                  .text = o.text,
                                  .length = chosen_length(L, o.length, (lc_per)o.per == LC_PER_WINDOW),
                                  .stride = o.stride,
                                  .per = (lc_per)o.per,
                                  .join = (lc_join)o.join,
                                  .no_cache = !o.cache};
    if (o.text) {
        lcl_field(L, 1, "text");
        lua_tolstring(L, -1, &options.text_length);
    }
    lc_dataset **slot = push_dataset(L, o.seed);
    return lcl_done(L, lc_dataset_new(&options, slot), 1);
}

static const lcl_function functions[] = {
    {"dataset", dataset, "lc.dataset {model | tokenizer, source | file | text, ...} -> dataset",
     "Text as training examples: windows of tokens, or documents. ds[i] is one, #ds their number.", &dataset_set},
    {0},
};

int luaopen_lacuna_dataset(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lacuna.core.tokenizer");
    lua_call(L, 1, 0);
    lcl_register(L, &LCL_DATASET);
    lcl_register(L, &LOADER);
    lcl_metatable(L, &LCL_DATASET);
    lua_newtable(L);
    lcl_functions(L, methods);
    lua_pushcclosure(L, dataset_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    lcl_functions(L, functions);
    return 1;
}
