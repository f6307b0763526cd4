/* tokenizer.c: the module lacuna.core.tokenizer: lc.tokenizer, which can be called and has `train` and `bytes`. */
#include <string.h>

#include "base/memory.h"
#include "io/hub.h"
#include "ops/op.h"
#include "text.h"

int luaopen_lacuna_tokenizer(lua_State *L);

static void release(void *object) {
    lc_tokenizer_release(object);
}

static int tokenizer_length(lua_State *L);
static int tokenizer_text(lua_State *L);
static const luaL_Reg meta[] = {{"__len", tokenizer_length}, {"__tostring", tokenizer_text}, {NULL, NULL}};
const lcl_type LCL_TOKENIZER = {"lacuna.tokenizer", release, NULL, meta};

void lcl_push_tokenizer(lua_State *L, lc_tokenizer *t) {
    if (!t) {
        lua_pushnil(L);
        return;
    }
    luaL_requiref(L, "lacuna.core.tokenizer", luaopen_lacuna_tokenizer, 0); /* the metatable must exist */
    lua_pop(L, 1);
    lc_tokenizer **slot = lcl_push(L, &LCL_TOKENIZER);
    *slot = lc_tokenizer_retain(t);
}

static lc_tokenizer *check(lua_State *L) {
    return lcl_check(L, 1, &LCL_TOKENIZER);
}

/* -- methods -- */

static const lcl_option encode_rows[] = {
    {"bos", LCL_BOOL, 0, .fallback = "true",
     .doc = "begin as the tokenizer's model wants it: OPT with </s>, Llama with <s>, GPT-2 as it is"},
    {0},
};
static const lcl_option_set encode_set = {"encode", encode_rows};

/* Ids that core allocated, until the tensor has them. */
typedef struct ids_holder {
    lc_ids ids;
} ids_holder;

static int free_ids(lua_State *L) {
    ids_holder *h = lua_touserdata(L, 1);
    lc_ids_free(&h->ids);
    return 0;
}

static lc_ids *push_ids(lua_State *L) {
    ids_holder *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = (ids_holder){0};
    if (luaL_newmetatable(L, "lacuna.ids")) {
        lua_pushcfunction(L, free_ids);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return &h->ids;
}

static int encode(lua_State *L) {
    lc_tokenizer *t = check(L);
    size_t length;
    lcl_string(L, 2);
    const char *text = lua_tolstring(L, 2, &length);
    bool bos;
    lcl_options(L, 3, &encode_set, &bos);
    lc_ids *ids = push_ids(L);
    lcl_done(L, lc_tokenizer_encode(t, text, length, bos, ids), 0);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(LC_I64, 1, &ids->count, LC_CPU, slot), 0);
    for (int64_t i = 0; i < ids->count; i++) LC_DATA(int64_t, *slot)[i] = ids->data[i];
    lc_ids_free(ids);
    return 1;
}

static const lcl_option decode_rows[] = {
    {"skip_special", LCL_BOOL, 0, .fallback = "false", .doc = "leave special tokens out"},
    {0},
};
static const lcl_option_set decode_set = {"decode", decode_rows};

static int decode(lua_State *L) {
    lc_tokenizer *t = check(L);
    bool skip;
    lcl_options(L, 3, &decode_set, &skip);
    lc_tensor *ids = lcl_ids(L, 2), **wide = lcl_push(L, &LCL_TENSOR), **flat = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_cast(ids, LC_I64, wide), 0);
    lcl_done(L, lc_contiguous(*wide, flat), 0);
    char **text = lcl_text(L);
    size_t length;
    lcl_done(L, lc_tokenizer_decode(t, LC_DATA(int64_t, *flat), lc_numel(*flat), skip, text, &length), 0);
    lua_pushlstring(L, *text, length);
    lcl_close(L, -2);
    return 1;
}

static int save(lua_State *L) {
    return lcl_done(L, lc_tokenizer_save(check(L), lcl_path(L, 2)), 0);
}

/* Pushes the id; nil for none. */
static int push_id(lua_State *L, int64_t id) {
    if (id < 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, id);
    return 1;
}

static int token_id(lua_State *L) {
    lc_tokenizer *t = check(L);
    size_t length;
    lcl_string(L, 2);
    const char *token = lua_tolstring(L, 2, &length);
    return push_id(L, lc_tokenizer_id(t, token, length));
}

static int token_text(lua_State *L) {
    size_t length;
    const char *text = lc_tokenizer_token(check(L), lcl_integer(L, 2), &length);
    if (text)
        lua_pushlstring(L, text, length);
    else
        lua_pushnil(L);
    return 1;
}

static int hash(lua_State *L) {
    lua_pushstring(L, lc_tokenizer_hash(check(L)));
    return 1;
}

static int tokenizer_length(lua_State *L) {
    lua_pushinteger(L, lc_tokenizer_size(check(L)));
    return 1;
}

static int tokenizer_text(lua_State *L) {
    lua_pushfstring(L, "tokenizer of %d tokens", (int)lc_tokenizer_size(check(L)));
    return 1;
}

static const lcl_function methods[] = {
    {"encode", encode, "tokenizer:encode(text, {bos}) -> ids",
     "Token ids of a text, an i64 tensor of one dimension; special tokens written out in the text become their ids.",
     &encode_set},
    {"decode", decode, "tokenizer:decode(ids, {skip_special}) -> text", "The text of a tensor or list of ids.",
     &decode_set},
    {"save", save, "tokenizer:save(directory)",
     "Writes the files that transformers loads: those of a loaded tokenizer.json word for word, else vocab.json, "
     "merges.txt, "
     "tokenizer.json and tokenizer_config.json."},
    {"id", token_id, "tokenizer:id(token) -> id", "The id of one token's text, such as \" the\"; nil when it is none."},
    {"token", token_text, "tokenizer:token(id) -> text", "The text of one id, which may be part of a character."},
    {"hash", hash, "tokenizer:hash() -> string", "32 hex digits of everything that decides the ids of a text."},
    {0},
};

/* tokenizer.name: a method (upvalue 1 is their table), or an id. */
static int tokenizer_index(lua_State *L) {
    lc_tokenizer *t = check(L);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(name, "bos") == 0) return push_id(L, lc_tokenizer_bos(t)); /* put before every text */
    if (strcmp(name, "eos") == 0) return push_id(L, lc_tokenizer_eos(t)); /* ends a text */
    static const char *const ids[] = {"bos", "eos", NULL};
    lcl_no_field(L, "a tokenizer", ids, sizeof *ids);
}

/* -- making -- */

static int bytes(lua_State *L) {
    lc_tokenizer **slot = lcl_push(L, &LCL_TOKENIZER);
    return lcl_done(L, lc_tokenizer_bytes(slot), 1);
}

/* A directory, a tokenizer.json, a .gguf, llama2.c's .bin, or a name of the hub's cache. */
static int load(lua_State *L) {
    const char *name = lcl_path(L, 1), *dot = strrchr(name, '.');
    char **directory = lcl_text(L);
    bool file = dot && (!strcmp(dot, ".json") || !strcmp(dot, ".gguf") || !strcmp(dot, ".bin"));
    if (!file) lcl_done(L, lc_hub_resolve(name, directory), 0);
    lc_tokenizer **slot = lcl_push(L, &LCL_TOKENIZER);
    return lcl_done(L, lc_tokenizer_load(file ? name : *directory, slot), 1);
}

typedef struct train_options {
    const char *source, *file, *text;
    int64_t vocab_size, min_frequency;
} train_options;
#define AT(field) offsetof(train_options, field)
static const lcl_option train_rows[] = {
    {"source", LCL_STRING, AT(source), .doc = "name of a text in LACUNA_DATA"},
    {"file", LCL_STRING, AT(file), .doc = "path of a .txt or .jsonl, or a .gz of one"},
    {"text", LCL_STRING, AT(text), .doc = "the text itself"},
    {"vocab_size", LCL_INT, AT(vocab_size), .required = true, .min = 256, .max = 16777216,
     .doc = "tokens, the 256 bytes and the special ones included"},
    {"min_frequency", LCL_INT, AT(min_frequency), .min = 0, .max = 1e15, .fallback = "2",
     .doc = "a pair seen less often is not merged"},
    {"specials", LCL_ANY, .doc = "list of special tokens, which get the first ids; default {\"<|endoftext|>\"}"},
    {0},
};
#undef AT
static const lcl_option_set train_set = {"tokenizer.train", train_rows};

/* Pushes an array of the strings in the list on top of the stack, which must stay there; nil means the default. */
static const char **push_specials(lua_State *L, int64_t *count) {
    int list = lua_gettop(L);
    bool given = !lua_isnil(L, list);
    if (given && !lua_istable(L, list)) lcl_error(L, "tokenizer.train: option 'specials' must be a list of strings");
    *count = given ? (int64_t)lua_rawlen(L, list) : 1;
    const char **specials = lua_newuserdatauv(L, sizeof *specials * (size_t)(*count + 1), 0);
    specials[0] = "<|endoftext|>";
    for (int64_t i = 0; given && i < *count; i++) {
        if (lua_rawgeti(L, list, i + 1) != LUA_TSTRING)
            lcl_error(L, "tokenizer.train: option 'specials' must be a list of strings");
        specials[i] = lua_tostring(L, -1); /* the list keeps it */
        lua_pop(L, 1);
    }
    return specials;
}

/* The corpus until training is done. */
static void free_corpus(void *object) {
    lc_corpus_free(object);
    lc_free(object);
}
static const lcl_type CORPUS = {"lacuna.corpus", free_corpus, NULL, NULL};

static lc_status read_corpus(const train_options *o, char **path, lc_corpus **out) {
    lc_corpus *c = lc_calloc(1, sizeof *c);
    if (!c) return LC_ENOMEM;
    *out = c;
    if (o->source) LC_TRY(lc_corpus_find(o->source, path));
    return lc_corpus_read(o->file ? o->file : *path, LC_JOIN_PLAIN, false, c);
}

static int train(lua_State *L) {
    train_options o = {0};
    lua_settop(L, 1);
    lcl_options(L, 1, &train_set, &o);
    if (!!o.source + !!o.file + !!o.text != 1)
        lcl_error(L, "tokenizer.train: give one of source, file and text, not %d of them",
                  !!o.source + !!o.file + !!o.text);
    lcl_field(L, 1, "specials");
    lc_bpe_options options = {.vocab_size = o.vocab_size, .min_frequency = o.min_frequency};
    options.specials = push_specials(L, &options.special_count);
    const char *text = NULL;
    size_t length = 0;
    if (o.text) {
        lcl_field(L, 1, "text");
        text = lua_tolstring(L, -1, &length);
    } else {
        char **path = lcl_text(L);
        lc_corpus **corpus = lcl_push(L, &CORPUS);
        lcl_done(L, read_corpus(&o, path, corpus), 0);
        text = (*corpus)->text;
        length = (*corpus)->length;
    }
    lc_tokenizer **slot = lcl_push(L, &LCL_TOKENIZER);
    return lcl_done(L, lc_tokenizer_train(text, length, &options, slot), 1);
}

static const lcl_function functions[] = {
    {"bytes", bytes, "lc.tokenizer.bytes() -> tokenizer", "Ids 0 to 255 are the bytes, 256 is <|endoftext|>."},
    {"load", load, "lc.tokenizer(path) -> tokenizer",
     "Byte-level BPE (GPT-2, OPT, GPT-NeoX, Llama 3, Qwen 2) or SentencePiece's BPE (Llama 2) from a directory with "
     "tokenizer.json or with vocab.json and merges.txt, from a tokenizer.json, a .gguf or a .bin of llama2.c, or from "
     "a name in the Hugging Face "
     "cache."},
    {"train", train, "lc.tokenizer.train {vocab_size, ...} -> tokenizer",
     "Learns a byte-level BPE vocabulary from one of source, file and text.", &train_set},
    {0},
};

/* lc.tokenizer(path): the first argument is the table that is called. */
static int call(lua_State *L) {
    lua_remove(L, 1);
    return load(L);
}

int luaopen_lacuna_tokenizer(lua_State *L) {
    lcl_register(L, &LCL_TOKENIZER);
    lcl_register(L, &CORPUS);
    lcl_metatable(L, &LCL_TOKENIZER);
    lua_newtable(L);
    lcl_functions(L, methods);
    lua_pushcclosure(L, tokenizer_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L); /* the module */
    lua_newtable(L); /* lc.tokenizer */
    lcl_functions(L, functions);
    lua_newtable(L);
    lua_pushcfunction(L, call);
    lua_setfield(L, -2, "__call");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "tokenizer");
    return 1;
}
