/* import_llama2c.c: the .bin files of llama2.c (Karpathy 2023), version 0: seven sizes, then f32 tensors without names
 * in a fixed order, those of all layers side by side. A negative vocabulary says that the head is not tied. */
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "model/import.h"
#include "text/sentencepiece.h"

#define HEADER_BYTES 28
#define MAGIC 0x616b3432   /* begins the versions above 0 */
#define MAX_SIZE (1 << 24) /* of each: with it, no product of three overflows */
#define PARTS 14

typedef struct sizes {
    int64_t width, inner, layers, heads, kv_heads, vocabulary, positions;
    bool tied;
} sizes;

static lc_status read_sizes(lc_reader *reader, sizes *s) {
    const char *path = lc_reader_path(reader);
    int32_t n[7];
    if (lc_reader_size(reader) < HEADER_BYTES) return lc_fail(LC_EFORMAT, "%s: too short for a file of llama2.c", path);
    LC_TRY(lc_reader_read(reader, 0, n, sizeof n));
    for (int i = 0; i < 7; i++) n[i] = (int32_t)le32toh((uint32_t)n[i]);
    if (n[0] == MAGIC)
        return lc_fail(LC_EFORMAT, "%s: version %d of llama2.c's format; lacuna reads version 0: export it anew", path,
                       n[1]);
    s->tied = n[5] > 0;
    if (n[5] < 0 && n[5] > INT32_MIN) n[5] = -n[5];
    for (int i = 0; i < 7; i++)
        if (n[i] < 1 || n[i] > MAX_SIZE)
            return lc_fail(LC_EFORMAT, "%s: not a file of llama2.c: it would have the sizes %d %d %d %d %d %d %d", path,
                           n[0], n[1], n[2], n[3], n[4], n[5], n[6]);
    *s = (sizes){n[0], n[1], n[2], n[3], n[4], n[5], n[6], s->tied};
    if (s->width % s->heads || s->heads % s->kv_heads)
        return lc_fail(LC_EFORMAT, "%s: not a file of llama2.c: width %lld, %lld heads and %lld key-value heads", path,
                       (long long)s->width, (long long)s->heads, (long long)s->kv_heads);
    return LC_OK;
}

/* One kind of tensor: in every layer, or (layers = 0) once. Columns 0: a vector. */
typedef struct part {
    const char *name; /* transformers'; NULL: not a parameter */
    int64_t layers, rows, columns;
} part;

static void list_parts(const sizes *s, part parts[PARTS]) {
    int64_t size = s->width / s->heads, kv = s->kv_heads * size, n = s->layers;
    memcpy(parts,
           (part[PARTS]){
               {"model.embed_tokens.weight", 0, s->vocabulary, s->width},
               {"input_layernorm.weight", n, s->width, 0},
               {"self_attn.q_proj.weight", n, s->width, s->width},
               {"self_attn.k_proj.weight", n, kv, s->width},
               {"self_attn.v_proj.weight", n, kv, s->width},
               {"self_attn.o_proj.weight", n, s->width, s->width},
               {"post_attention_layernorm.weight", n, s->width, 0},
               {"mlp.gate_proj.weight", n, s->inner, s->width},
               {"mlp.down_proj.weight", n, s->width, s->inner},
               {"mlp.up_proj.weight", n, s->inner, s->width},
               {"model.norm.weight", 0, s->width, 0},
               {NULL, 0, s->positions, size / 2}, /* cosines of the rotations */
               {NULL, 0, s->positions, size / 2}, /* sines */
               {"lm_head.weight", 0, s->vocabulary, s->width},
           },
           sizeof(part[PARTS]));
}

typedef struct entries {
    lc_stored *items;
    char (*names)[80];
    int64_t count, capacity;
} entries;

static void add_entry(entries *all, const part *p, int64_t layer, uint64_t begin, uint64_t bytes) {
    char *name = all->names[all->count];
    if (p->layers)
        snprintf(name, sizeof *all->names, "model.layers.%lld.%s", (long long)layer, p->name);
    else
        snprintf(name, sizeof *all->names, "%s", p->name);
    all->items[all->count++] = (lc_stored){.name = name,
                                           .type = "F32",
                                           .dtype = LC_F32,
                                           .ndim = p->columns ? 2 : 1,
                                           .shape = {p->rows, p->columns},
                                           .begin = begin,
                                           .end = begin + bytes};
}

/* Fills `all`, which has room; LC_EFORMAT unless the parts are exactly the file. */
static lc_status place_parts(const lc_reader *reader, const sizes *s, entries *all) {
    part parts[PARTS];
    list_parts(s, parts);
    uint64_t at = HEADER_BYTES, size = lc_reader_size(reader);
    for (int i = 0; i < PARTS - s->tied; i++) {
        const part *p = &parts[i];
        uint64_t bytes = 4 * (uint64_t)p->rows * (uint64_t)lc_max(p->columns, 1);
        for (int64_t layer = 0; layer < lc_max(p->layers, 1) && at <= size; layer++, at += bytes)
            if (p->name) add_entry(all, p, layer, at, bytes);
    }
    if (at != size)
        return lc_fail(LC_EFORMAT, "%s: has %llu bytes, where a file of llama2.c of these sizes has %s%llu",
                       lc_reader_path(reader), (unsigned long long)size, at > size ? "at least " : "",
                       (unsigned long long)at);
    return LC_OK;
}

static lc_status open_weights(lc_reader *reader, const sizes *s, lc_weights **out) {
    int64_t room = 9 * s->layers + 3;
    entries all = {0};
    if ((uint64_t)room > lc_reader_size(reader) / 4)
        return lc_fail(LC_EFORMAT, "%s: too short for %lld layers", lc_reader_path(reader), (long long)s->layers);
    all.items = lc_calloc((size_t)room, sizeof *all.items);
    all.names = lc_calloc((size_t)room, sizeof *all.names);
    lc_status status = all.items && all.names ? place_parts(reader, s, &all) : LC_ENOMEM;
    if (!status) status = lc_weights_open_plain(lc_reader_path(reader), all.items, all.count, out);
    lc_free(all.items);
    lc_free(all.names);
    return status;
}

static lc_status make_config(const sizes *s, json_t **out) {
    json_t *config = json_pack(
        "{s:s, s:[s], s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:b, s:i, s:i}", "model_type", "llama",
        "architectures", "LlamaForCausalLM", "vocab_size", s->vocabulary, "hidden_size", s->width, "intermediate_size",
        s->inner, "num_hidden_layers", s->layers, "num_attention_heads", s->heads, "num_key_value_heads", s->kv_heads,
        "head_dim", s->width / s->heads, "max_position_embeddings", s->positions, "hidden_act", "silu", "rms_norm_eps",
        1e-5, "rope_theta", 10000.0, "tie_word_embeddings", (int)s->tied, "bos_token_id", 1, "eos_token_id", 2);
    if (!config) return lc_fail(LC_ENOMEM, "out of memory");
    *out = config;
    return LC_OK;
}

/* The first of tok<vocabulary>.bin and tokenizer.bin that stands beside the model. */
static lc_status read_tokenizer(const char *path, int64_t vocabulary, lc_tokenizer **out) {
    const char *slash = strrchr(path, '/');
    int directory = slash ? (int)(slash - path + 1) : 0;
    for (int i = 0; i < 2 && !*out; i++) {
        lc_strbuf name = {0};
        char *file = NULL;
        if (i == 0)
            lc_strbuf_printf(&name, "%.*stok%lld.bin", directory, path, (long long)vocabulary);
        else
            lc_strbuf_printf(&name, "%.*stokenizer.bin", directory, path);
        LC_TRY(lc_strbuf_take(&name, &file, NULL));
        lc_status status = lc_file_exists(file) ? lc_tokenizer_llama2c(file, out) : LC_OK;
        if (!status && *out && lc_tokenizer_size(*out) != vocabulary)
            status =
                lc_fail(LC_EFORMAT, "%s: has %lld tokens, and %s a vocabulary of %lld: it belongs to another model",
                        file, (long long)lc_tokenizer_size(*out), path, (long long)vocabulary);
        lc_free(file);
        LC_TRY(status);
    }
    return LC_OK;
}

lc_status lc_import_llama2c(const char *path, lc_source *out) {
    lc_reader *reader;
    sizes s = {0};
    LC_TRY(lc_reader_open(path, &reader));
    lc_status status = read_sizes(reader, &s);
    if (!status) status = open_weights(reader, &s, &out->weights);
    if (!status) status = make_config(&s, &out->config);
    if (!status) status = read_tokenizer(path, s.vocabulary, &out->tokenizer);
    lc_reader_close(reader);
    out->reordered = lc_rotary_rows;
    return status;
}
