/* generate.c: model:generate: prompts as text or ids, one or several; continuations come as their prompts were. */
#include <string.h>

#include "base/random.h"
#include "model.h"
#include "ops/op.h"
#include "text.h"

static const lcl_option generate_rows[] = {
    {"tokens", LCL_INT, offsetof(lc_generate_options, tokens), .min = 0, .max = 1e9,
     .doc = "at most so many new tokens; default 64, fewer where the model's positions end"},
    {"temperature", LCL_NUMBER, offsetof(lc_generate_options, temperature), .min = 0, .max = 1e6,
     .doc = "0 = greedy, the default; 1 where top_k or top_p is given"},
    {"top_k", LCL_INT, offsetof(lc_generate_options, top_k), .min = 1, .max = 1e9,
     .doc = "draw from the k likeliest only"},
    {"top_p", LCL_NUMBER, offsetof(lc_generate_options, top_p), .min = 0, .max = 1, .fallback = "1",
     .doc = "draw from the fewest whose probabilities reach p"},
    {"seed", LCL_ANY, .doc = "of what is drawn; default the next of the stream 'generate'"},
    {"stop", LCL_ANY, .doc = "the id that ends a continuation and is left out; default end of text; false = none"},
    {0},
};
const lcl_option_set lcl_generate_set = {"generate", generate_rows};

/* The id that ends text: the tokenizer's, else the configuration's; -1 = none. */
static int64_t end_of_text(const lc_model *m) {
    int64_t id = m->tokenizer ? lc_tokenizer_eos(m->tokenizer) : -1;
    const json_t *named = json_object_get(m->config, "eos_token_id");
    if (id < 0 && json_is_integer(named)) id = json_integer_value(named);
    return id < m->sizes.vocabulary ? id : -1;
}

/* The integer on top of the stack, an option's value. */
static int64_t option_integer(lua_State *L, const char *option) {
    if (!lua_isinteger(L, -1))
        lcl_error(L, "generate: option '%s' must be an integer, got %s", option, lcl_describe(L, -1));
    return lua_tointeger(L, -1);
}

static void read_generate(lua_State *L, int arg, const lc_model *m, lc_generate_options *o) {
    *o = (lc_generate_options){.tokens = -1, .temperature = -1, .end = end_of_text(m)};
    lcl_options(L, arg, &lcl_generate_set, o);
    if (o->temperature < 0) o->temperature = o->top_k || o->top_p < 1 ? 1 : 0;
    int type = lcl_field(L, arg, "seed");
    if (type != LUA_TNIL)
        o->seed = (uint64_t)option_integer(L, "seed");
    else if (o->temperature > 0)
        o->seed = lc_stream_u64(lcl_stream(L, "generate"));
    type = lcl_field(L, arg, "stop");
    if (type == LUA_TBOOLEAN && !lua_toboolean(L, -1))
        o->end = -1;
    else if (type != LUA_TNIL)
        o->end = option_integer(L, "stop");
    lua_pop(L, 2);
}

/* Pushes the ids of the text at `index` as an i64 tensor. */
static lc_tensor *push_encoded(lua_State *L, lc_tokenizer *tokenizer, int index) {
    size_t length;
    const char *text = lua_tolstring(L, index, &length);
    lc_ids ids = {0};
    char **data = lcl_text(L); /* frees the ids */
    lc_status status = lc_tokenizer_encode(tokenizer, text, length, true, &ids);
    *data = (char *)ids.data;
    lcl_done(L, status, 0);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(LC_I64, 1, &ids.count, LC_CPU, slot), 1);
    for (int64_t i = 0; i < ids.count; i++) LC_DATA(int64_t, *slot)[i] = ids.data[i];
    return *slot;
}

/* Pushes the prompt at `index`, text or ids, as an i64 tensor (T). */
static lc_tensor *push_prompt(lua_State *L, lc_model *m, int index) {
    if (lua_type(L, index) == LUA_TSTRING) {
        if (!m->tokenizer) lcl_error(L, "generate: this model has no tokenizer; give the prompt as a list of ids");
        return push_encoded(L, m->tokenizer, index);
    }
    lc_tensor *ids = lcl_ids(L, index), **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_cast(ids, LC_I64, slot), 1);
    return *slot;
}

/* Pushes what the ids stand for as text. */
static const char *push_decoded(lua_State *L, lc_model *m, const int64_t *ids, int64_t n, size_t *length) {
    char **decoded = lcl_text(L);
    lcl_done(L, lc_tokenizer_decode(m->tokenizer, ids, n, false, decoded, length), 0);
    lua_pushlstring(L, *decoded, *length);
    lua_remove(L, -2);
    return lua_tostring(L, -1);
}

/* Pushes the text that follows the prompt's. It is cut from that of both: decoded alone, SentencePiece's tokens would
 * lose the blank that they begin with. Behind no text they lose it rightly, and bytes that are no characters are not
 * decoded as they are alone. */
static void push_continued_text(lua_State *L, lc_model *m, bool empty, const lc_tensor *prompt, const lc_tensor *ids) {
    int64_t before = prompt->shape[0], n = ids->shape[0];
    int64_t *both = lua_newuserdatauv(L, (size_t)(before + n) * sizeof *both, 0);
    for (int64_t i = 0; i < before; i++) both[i] = LC_DATA(int64_t, prompt)[i];
    for (int64_t i = 0; i < n; i++) both[before + i] = LC_DATA(int64_t, ids)[i];
    size_t shorter, longer;
    const char *first = push_decoded(L, m, both, before, &shorter),
               *all = push_decoded(L, m, both, before + n, &longer);
    bool broken = shorter >= 3 && memcmp(first + shorter - 3, "\xEF\xBF\xBD", 3) == 0;
    if (!empty && !broken && longer >= shorter && memcmp(all, first, shorter) == 0)
        lua_pushlstring(L, all + shorter, longer - shorter);
    else
        push_decoded(L, m, both + before, n, &longer);
    lua_replace(L, -4);
    lua_pop(L, 2);
}

/* Pushes the continuation as its prompt was: text, or (NULL) a list of ids. */
static void push_continuation(lua_State *L, lc_model *m, const char *text, const lc_tensor *prompt,
                              const lc_tensor *ids) {
    if (text) {
        push_continued_text(L, m, *text == 0, prompt, ids);
        return;
    }
    int64_t n = ids->shape[0];
    lua_createtable(L, (int)n, 0);
    for (int64_t i = 0; i < n; i++) {
        lua_pushinteger(L, LC_DATA(int64_t, ids)[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

/* Whether the argument is several prompts: a list whose first element is no id. */
static bool is_list_of_prompts(lua_State *L, int index) {
    if (!lua_istable(L, index)) return false;
    bool several = lua_geti(L, index, 1) != LUA_TNUMBER;
    lua_pop(L, 1);
    return several;
}

/* One prompt at `index` becomes a list of one. */
static void make_list(lua_State *L, int index) {
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, index);
    lua_rawseti(L, -2, 1);
    lua_replace(L, index);
}

/* Pushes the prompts in the list at `list` as an array of tensors, and a table that keeps them. */
static lc_tensor **push_prompts(lua_State *L, lc_model *m, int list, lua_Integer n) {
    lc_tensor **prompts = lua_newuserdatauv(L, (size_t)n * sizeof *prompts, 0);
    lua_newtable(L);
    int kept = lua_gettop(L);
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, list, i + 1);
        prompts[i] = push_prompt(L, m, lua_gettop(L));
        lua_rawseti(L, kept, i + 1);
        lua_settop(L, kept);
    }
    return prompts;
}

/* Pushes a table of n empty tensor handles; slots[i] is where the i-th takes its tensor. */
static void push_slots(lua_State *L, lua_Integer n, lc_tensor ***slots) {
    lua_createtable(L, (int)n, 0);
    for (lua_Integer i = 0; i < n; i++) {
        slots[i] = lcl_push(L, &LCL_TENSOR);
        lua_rawseti(L, -2, i + 1);
    }
}

/* As many as there is room for behind the longest prompt, 64 at most; 1, which is refused later, where there is none. */
static int64_t default_tokens(const lc_model *m, lc_tensor *const *prompts, lua_Integer n) {
    int64_t longest = 0;
    for (lua_Integer i = 0; i < n; i++) longest = lc_max(longest, lc_numel(prompts[i]));
    return lc_max(1, lc_min(64, m->sizes.positions + 1 - longest)); /* the last one is not read again */
}

int lcl_model_generate(lua_State *L) {
    lc_model *m = lcl_check(L, 1, &LCL_MODEL);
    lc_generate_options o;
    read_generate(L, 3, m, &o);
    bool several = is_list_of_prompts(L, 2);
    lua_settop(L, 2);
    if (!several) make_list(L, 2);
    lua_Integer n = luaL_len(L, 2);
    if (n < 1) lcl_error(L, "generate: the list of prompts is empty");
    lc_tensor **made = lua_newuserdatauv(L, (size_t)n * sizeof *made, 0);
    lc_tensor ***slots = lua_newuserdatauv(L, (size_t)n * sizeof *slots, 0);
    push_slots(L, n, slots);
    lc_tensor **prompts = push_prompts(L, m, 2, n);
    if (o.tokens < 0) o.tokens = default_tokens(m, prompts, n);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_model_generate(m, prompts, n, &o, made);
    lcl_leave(outer);
    lcl_done(L, status, 0);
    for (lua_Integer i = 0; i < n; i++) *slots[i] = made[i];
    lua_createtable(L, (int)n, 0);
    int results = lua_gettop(L);
    for (lua_Integer i = 0; i < n; i++) {
        const char *text = lua_geti(L, 2, i + 1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        lua_pop(L, 1); /* the list keeps it */
        push_continuation(L, m, text, prompts[i], made[i]);
        if (!several) return 1;
        lua_rawseti(L, results, i + 1);
    }
    return 1;
}
