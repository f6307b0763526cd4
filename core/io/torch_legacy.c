/* torch_legacy.c: what torch.save wrote before 1.6, and still writes when asked to, a format of weights.h. Four pickles
 * (a magic number, the protocol, facts about the machine, the value) and a fifth with the keys of the storages, which
 * follow in that order: 8 bytes with the number of elements, then the elements. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/torch.h"

#define PROTOCOL 1001

#define PROTO_BYTES 2 /* before the magic number: the opcode PROTO */
#define FRAME_BYTES 9 /* and FRAME, from protocol 4 on */

/* The pickle of the magic number 0x1950a86a20f9469cfc6c, without what stands before it. */
static const uint8_t magic[] = {0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

/* Any pickle that is not the header of safetensors; those that torch.save did not write are refused by name. */
static bool is_pickle(const uint8_t *head, size_t length) {
    return length >= 9 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && head[8] != '{';
}

/* The container: storages as the pickle named them, several times where tensors share one. */
typedef struct named_storages {
    lc_torch_storage **items;
    int64_t count, capacity;
} named_storages;

static lc_status place(lc_torch *t, lc_torch_storage *s) {
    named_storages *all = t->container;
    if (all->count == all->capacity) {
        int64_t capacity = all->capacity ? 2 * all->capacity : 64;
        lc_torch_storage **grown = lc_realloc(all->items, sizeof *grown * (size_t)capacity);
        if (!grown) return LC_ENOMEM;
        all->items = grown;
        all->capacity = capacity;
    }
    all->items[all->count++] = s;
    return LC_OK;
}

static int by_key(const void *a, const void *b) {
    return strcmp((*(lc_torch_storage *const *)a)->key, (*(lc_torch_storage *const *)b)->key);
}

/* The first storage of that key, among sorted ones; their number when there is none. */
static int64_t find_key(const named_storages *all, const char *key) {
    int64_t low = 0, high = all->count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (strcmp(all->items[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < all->count && !strcmp(all->items[low]->key, key) ? low : all->count;
}

static lc_status fail_short(const lc_torch *t, const char *key) {
    return lc_fail(LC_EFORMAT,
                   "%s: storage %.40s ends past the end of the file; the download looks cut off: fetch it again",
                   t->path, key);
}

/* The storage of `key` begins at *at with its number of elements; moves *at behind it. */
static lc_status place_storage(const lc_torch *t, lc_reader *reader, const named_storages *all, const char *key,
                               uint64_t *at) {
    int64_t first = find_key(all, key);
    uint64_t count;
    if (first == all->count) return lc_fail(LC_EFORMAT, "%s: storage %.40s belongs to no tensor", t->path, key);
    const lc_torch_storage *s = all->items[first];
    if (t->bytes < 8 || *at > t->bytes - 8) return fail_short(t, key);
    LC_TRY(lc_reader_read(reader, *at, &count, 8));
    count = le64toh(count);
    for (int64_t i = first; i < all->count && !strcmp(all->items[i]->key, key); i++) {
        if (all->items[i]->type != s->type || all->items[i]->count != count)
            return lc_fail(LC_EFORMAT, "%s: storage %.40s is described in two ways", t->path, key);
        all->items[i]->begin = *at + 8;
    }
    *at += 8;
    if (count > (t->bytes - *at) / s->type->size) return fail_short(t, key);
    *at += count * s->type->size;
    return LC_OK;
}

static lc_status place_storages(const lc_torch *t, lc_reader *reader, named_storages *all, const lc_pickled *keys,
                                uint64_t at) {
    if (keys->kind != LC_PICKLE_LIST)
        return lc_fail(LC_EFORMAT, "%s: the storages' keys are %s, expected a list", t->path, lc_pickle_describe(keys));
    if (all->count) qsort(all->items, (size_t)all->count, sizeof *all->items, by_key);
    for (int64_t i = 0; i < keys->count; i++) {
        const lc_pickled *key = keys->items[i];
        if (key->kind != LC_PICKLE_STRING) return lc_fail(LC_EFORMAT, "%s: a storage's key is no string", t->path);
        const char *text = lc_arena_strndup(t->arena, key->text, (size_t)key->count);
        if (!text) return LC_ENOMEM;
        LC_TRY(place_storage(t, reader, all, text, &at));
    }
    for (int64_t i = 0; i < all->count; i++)
        if (all->items[i]->begin == 0)
            return lc_fail(LC_EFORMAT, "%s: storage %.40s is not in the file", t->path, all->items[i]->key);
    return LC_OK;
}

static lc_status check_machine(const lc_torch *t, const lc_pickled *protocol, const lc_pickled *facts) {
    if (protocol->kind != LC_PICKLE_INT || protocol->integer != PROTOCOL)
        return lc_fail(LC_EFORMAT, "%s: a protocol of torch.save that lacuna does not know", t->path);
    const lc_pickled *little = lc_pickle_get(facts, "little_endian");
    if (!little || little->kind != LC_PICKLE_BOOL || !little->yes)
        return lc_fail(LC_EFORMAT, "%s: not written on a little-endian machine", t->path);
    return LC_OK;
}

/* Where the magic number's pickle ends; 0 when the file begins otherwise. */
static size_t find_magic_end(const char *bytes, size_t length) {
    size_t at = length > PROTO_BYTES && (uint8_t)bytes[PROTO_BYTES] == 0x95 ? PROTO_BYTES + FRAME_BYTES : PROTO_BYTES;
    return length >= at + sizeof magic && !memcmp(bytes + at, magic, sizeof magic) ? at + sizeof magic : 0;
}

/* The pickles stand in `bytes`, the file's beginning. */
static lc_status read_pickles(lc_weights *w, lc_torch *t, lc_reader *reader, const char *bytes, size_t length) {
    lc_pickled *parts[4]; /* protocol, machine, value, keys */
    size_t at = find_magic_end(bytes, length), used;
    if (!at) return lc_fail(LC_EFORMAT, "%s: a pickle that torch.save did not write", t->path);
    for (int i = 0; i < 4; i++) {
        LC_TRY(lc_torch_unpickle(t, bytes + at, length - at, &used, &parts[i]));
        at += used;
        if (i == 1) LC_TRY(check_machine(t, parts[0], parts[1]));
    }
    LC_TRY(place_storages(t, reader, t->container, parts[3], at));
    return lc_torch_add(t, w, parts[2]);
}

static lc_status open_legacy(lc_weights *w, lc_weights_file *file, const char *path) {
    LC_TRY(lc_reader_open(path, &file->reader));
    uint64_t size = lc_reader_size(file->reader);
    size_t length = size < LC_PICKLE_MAX_BYTES ? (size_t)size : LC_PICKLE_MAX_BYTES;
    lc_arena scratch = {0};
    named_storages all = {0};
    char *bytes = lc_alloc(length + 1);
    if (!bytes) return LC_ENOMEM;
    lc_torch t = {.path = path, .bytes = size, .arena = &scratch, .place = place, .container = &all};
    lc_status status = lc_reader_read(file->reader, 0, bytes, length);
    if (!status) status = read_pickles(w, &t, file->reader, bytes, length);
    lc_free(all.items);
    lc_arena_free(&scratch);
    lc_free(bytes);
    return status;
}

const lc_weights_format lc_format_torch_legacy = {
    .readable = LC_TORCH_READABLE,
    .is_ours = is_pickle,
    .open = open_legacy,
};
