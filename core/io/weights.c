/* weights.c: sets of named tensors: opening, shards and names; see weights.h. Reading is in weights_read.c. */
#include "io/weights_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "io/json.h"

#define HEAD_BYTES 16 /* what formats are told by */
#define MAX_NAME 512  /* of what is renamed */

/* Safetensors have no mark of their own, and come last. */
static const lc_weights_format *const formats[] = {&lc_format_torch_zip, &lc_format_torch_legacy, &lc_format_gguf,
                                                   &lc_format_safetensors};

/* Makes room for one more in an array of items of `size` bytes. */
static lc_status reserve(void *array, int64_t count, int64_t *capacity, size_t size) {
    void **items = array;
    if (count < *capacity) return LC_OK;
    int64_t wanted = *capacity ? 2 * *capacity : 64;
    void *grown = lc_realloc(*items, size * (size_t)wanted);
    if (!grown) return LC_ENOMEM;
    *items = grown;
    *capacity = wanted;
    return LC_OK;
}

lc_status lc_weights_add(lc_weights *w, const lc_stored *e) {
    LC_TRY(reserve(&w->entries, w->count, &w->capacity, sizeof *w->entries));
    w->entries[w->count] = *e;
    w->entries[w->count++].file = w->file_count - 1;
    return LC_OK;
}

lc_status lc_weights_add_metadata(lc_weights *w, const lc_metadata *entry) {
    LC_TRY(reserve(&w->metadata, w->metadata_count, &w->metadata_capacity, sizeof *w->metadata));
    w->metadata[w->metadata_count++] = *entry;
    return LC_OK;
}

lc_arena *lc_weights_arena(lc_weights *w) {
    return &w->arena;
}

static lc_status find_format(const char *path, const lc_weights_format **out) {
    lc_reader *reader;
    uint8_t head[HEAD_BYTES];
    LC_TRY(lc_reader_open(path, &reader));
    size_t length = lc_reader_size(reader) < HEAD_BYTES ? (size_t)lc_reader_size(reader) : HEAD_BYTES;
    lc_status status = lc_reader_read(reader, 0, head, length);
    lc_reader_close(reader);
    LC_TRY(status);
    if (length == HEAD_BYTES && !memcmp(head, "version https://", HEAD_BYTES))
        return lc_fail(LC_EFORMAT,
                       "%s: what git-lfs puts in a large file's place, not the file: get it with git lfs pull", path);
    bool torch = lc_ends_with(path, ".pt") || lc_ends_with(path, ".pth") || lc_ends_with(path, ".bin");
    for (size_t i = 0;; i++) {
        *out = formats[i];
        if (formats[i] == &lc_format_safetensors && torch && !(length > 8 && head[8] == '{'))
            return lc_fail(LC_EFORMAT, "%s: neither a zip archive nor a pickle, as torch.save writes them", path);
        if (formats[i] == &lc_format_safetensors || formats[i]->is_ours(head, length)) return LC_OK;
    }
}

/* The next file of the set, empty; closed with the set. */
static lc_status append_file(lc_weights *w, const lc_weights_format *format, lc_weights_file **out) {
    lc_weights_file *files = lc_realloc(w->files, sizeof *files * ((size_t)w->file_count + 1));
    if (!files) return LC_ENOMEM;
    w->files = files;
    *out = &files[w->file_count++];
    **out = (lc_weights_file){.format = format};
    return LC_OK;
}

static lc_status add_file(lc_weights *w, const char *path) {
    const lc_weights_format *format = NULL;
    lc_weights_file *file;
    LC_TRY(find_format(path, &format));
    LC_TRY(append_file(w, format, &file));
    char *copy = lc_arena_strndup(&w->arena, path, strlen(path));
    if (!copy) return LC_ENOMEM;
    char **paths = lc_realloc(w->paths, sizeof *paths * (size_t)w->file_count);
    if (!paths) return LC_ENOMEM;
    w->paths = paths;
    paths[w->file_count - 1] = copy;
    return format->open(w, file, path);
}

/* -- names -------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp((*(const lc_stored *const *)a)->name, (*(const lc_stored *const *)b)->name);
}

static lc_status index_names(lc_weights *w) {
    lc_free(w->sorted);
    w->sorted = lc_alloc(sizeof *w->sorted * ((size_t)w->count + 1));
    if (!w->sorted) return LC_ENOMEM;
    for (int64_t i = 0; i < w->count; i++) w->sorted[i] = &w->entries[i];
    qsort(w->sorted, (size_t)w->count, sizeof *w->sorted, by_name);
    for (int64_t i = 1; i < w->count; i++) {
        const lc_stored *a = w->sorted[i - 1], *b = w->sorted[i];
        if (strcmp(a->name, b->name)) continue;
        if (a->file == b->file) return lc_fail(LC_EFORMAT, "%s: tensor %s is there twice", w->path, a->name);
        return lc_fail(LC_EFORMAT, "%s: tensor %s is in two files, %s and %s", w->path, a->name, w->paths[a->file],
                       w->paths[b->file]);
    }
    return LC_OK;
}

lc_status lc_weights_rename(lc_weights *w, lc_status (*rename)(void *context, char *name, size_t room), void *context) {
    for (int64_t i = 0; i < w->count; i++) {
        lc_stored *e = &w->entries[i];
        char name[MAX_NAME];
        if (strlen(e->name) >= sizeof name)
            return lc_fail(LC_EFORMAT, "%s: the name %.60s... is too long", w->path, e->name);
        strcpy(name, e->name);
        LC_TRY(rename(context, name, sizeof name));
        if (!strcmp(name, e->name)) continue;
        e->name = lc_arena_strndup(&w->arena, name, strlen(name));
        if (!e->name) return LC_ENOMEM;
    }
    return index_names(w);
}

/* -- shards ------------------------------------------------------------------------------------- */

static lc_status add_shard(lc_weights *w, const char *index_path, const char *path) {
    if (lc_file_exists(path)) return add_file(w, path);
    return lc_fail(LC_ENOTFOUND, "%s: is not there, and %s names it: the download looks incomplete: fetch it again",
                   path, index_path);
}

/* The shards of weight_map, each once, in the order in which they first appear. */
static lc_status add_listed_shards(lc_weights *w, const char *index_path, const json_t *weight_map) {
    const char *slash = strrchr(index_path, '/'), *tensor;
    char *directory = slash ? lc_strndup(index_path, (size_t)(slash - index_path + 1)) : lc_strdup("./");
    json_t *value, *seen = json_object();
    lc_status status = directory && seen ? LC_OK : lc_fail(LC_ENOMEM, "%s: out of memory", index_path);
    json_object_foreach((json_t *)weight_map, tensor, value) {
        const char *file = json_string_value(value);
        if (status) break;
        if (!file || !*file || strchr(file, '/')) {
            status = lc_fail(LC_EFORMAT, "%s: tensor %s: not the name of a file beside the index", index_path, tensor);
        } else if (!json_object_get(seen, file)) {
            char *path = lc_path_join(directory, file);
            status = path ? add_shard(w, index_path, path) : LC_ENOMEM;
            lc_free(path);
            if (!status && json_object_set_new(seen, file, json_true())) status = lc_fail(LC_ENOMEM, "out of memory");
        }
    }
    json_decref(seen);
    lc_free(directory);
    return status;
}

static lc_status check_listed_tensors(const lc_weights *w, const json_t *weight_map) {
    const char *tensor;
    json_t *file;
    json_object_foreach((json_t *)weight_map, tensor, file) {
        const lc_stored *e = lc_weights_find(w, tensor);
        const char *path = e ? w->paths[e->file] : "", *slash = strrchr(path, '/');
        if (!e || strcmp(slash ? slash + 1 : path, json_string_value(file)) != 0)
            return lc_fail(LC_EFORMAT, "%s: tensor %s is not in %s, where the index has it", w->path, tensor,
                           json_string_value(file));
    }
    return LC_OK;
}

static lc_status open_index(lc_weights *w, const char *path) {
    json_t *index, *weight_map = NULL;
    LC_TRY(lc_json_read(path, &index));
    lc_status status = lc_json_require(index, "weight_map", path);
    if (!status) status = lc_json_get_object(index, "weight_map", path, &weight_map);
    if (!status) status = add_listed_shards(w, path, weight_map);
    if (!status) status = index_names(w);
    if (!status) status = check_listed_tensors(w, weight_map);
    json_decref(index);
    return status;
}

/* -- sets --------------------------------------------------------------------------------------- */

/* What a directory's weights are called: the first that is there counts. */
static const char *const candidates[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                         "pytorch_model.bin.index.json"};

/* NULL in *out when there is none. */
static lc_status find_candidate(const char *directory, char **out) {
    *out = NULL;
    for (int i = 0; i < 4 && !*out; i++) {
        char *file = lc_path_join(directory, candidates[i]);
        if (!file) return LC_ENOMEM;
        if (lc_file_exists(file))
            *out = file;
        else
            lc_free(file);
    }
    return LC_OK;
}

lc_status lc_weights_present(const char *directory, bool *out) {
    char *file;
    LC_TRY(find_candidate(directory, &file));
    *out = file != NULL;
    lc_free(file);
    return LC_OK;
}

/* A directory becomes the file inside it that should be opened. */
static lc_status file_to_open(const char *path, char **out) {
    if (!lc_is_dir(path)) return (*out = lc_strdup(path)) ? LC_OK : LC_ENOMEM;
    LC_TRY(find_candidate(path, out));
    if (*out) return LC_OK;
    return lc_fail(LC_ENOTFOUND, "%s: none of %s, %s, %s and %s is in this directory", path, candidates[0],
                   candidates[1], candidates[2], candidates[3]);
}

lc_status lc_weights_open(const char *path, lc_weights **out) {
    lc_weights *w = lc_calloc(1, sizeof *w);
    if (!w) return LC_ENOMEM;
    w->refs = 1;
    lc_status status = file_to_open(path, &w->path);
    if (!status && lc_ends_with(w->path, ".json"))
        status = open_index(w, w->path);
    else if (!status && !(status = add_file(w, w->path)))
        status = index_names(w);
    if (status) {
        lc_weights_release(w);
        return status;
    }
    *out = w;
    return LC_OK;
}

static lc_status add_plain(lc_weights *w, const char *path, const lc_stored *entries, int64_t count) {
    static const lc_weights_format plain = {0};
    lc_weights_file *file;
    LC_TRY(append_file(w, &plain, &file));
    LC_TRY(lc_reader_open(path, &file->reader));
    for (int64_t i = 0; i < count; i++) {
        lc_stored e = entries[i];
        if (e.end > lc_reader_size(file->reader))
            return lc_fail(LC_EFORMAT, "%s: tensor %s ends past the end of the file; it was cut off: fetch it again",
                           path, e.name);
        e.name = lc_arena_strndup(&w->arena, e.name, strlen(e.name));
        if (!e.name) return LC_ENOMEM;
        LC_TRY(lc_weights_add(w, &e));
    }
    return index_names(w);
}

lc_status lc_weights_open_plain(const char *path, const lc_stored *entries, int64_t count, lc_weights **out) {
    lc_weights *w = lc_calloc(1, sizeof *w);
    if (!w) return LC_ENOMEM;
    w->refs = 1;
    w->path = lc_strdup(path);
    lc_status status = w->path ? add_plain(w, path, entries, count) : LC_ENOMEM;
    if (status) {
        lc_weights_release(w);
        return status;
    }
    *out = w;
    return LC_OK;
}

lc_weights *lc_weights_retain(lc_weights *w) {
    w->refs++;
    return w;
}

void lc_weights_release(lc_weights *w) {
    if (!w || --w->refs > 0) return;
    for (int32_t i = 0; i < w->file_count; i++) {
        if (w->files[i].format->close) w->files[i].format->close(&w->files[i]);
        lc_reader_close(w->files[i].reader);
    }
    lc_arena_free(&w->arena);
    lc_free(w->files);
    lc_free(w->paths);
    lc_free(w->sorted);
    lc_free(w->entries);
    lc_free(w->metadata);
    lc_free(w->path);
    lc_free(w);
}

int64_t lc_weights_count(const lc_weights *w) {
    return w->count;
}

const lc_stored *lc_weights_at(const lc_weights *w, int64_t index) {
    return &w->entries[index];
}

const lc_stored *lc_weights_find(const lc_weights *w, const char *name) {
    lc_stored key = {.name = name};
    const lc_stored *wanted = &key;
    const lc_stored **found = bsearch(&wanted, w->sorted, (size_t)w->count, sizeof *w->sorted, by_name);
    return found ? *found : NULL;
}

/* -- metadata ----------------------------------------------------------------------------------- */

const char *lc_weights_metadata(const lc_weights *w, const char *key) {
    for (int64_t i = 0; i < w->metadata_count; i++)
        if (w->metadata[i].kind == LC_METADATA_TEXT && !strcmp(w->metadata[i].key, key)) return w->metadata[i].text;
    return NULL;
}

int64_t lc_weights_metadata_count(const lc_weights *w) {
    return w->metadata_count;
}

const lc_metadata *lc_weights_metadata_at(const lc_weights *w, int64_t index) {
    return &w->metadata[index];
}
