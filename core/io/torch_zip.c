/* torch_zip.c: the zip archives that torch.save writes (since 1.6), a format of weights.h: NAME/data.pkl is the pickle,
 * NAME/data/KEY the storages. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "io/torch.h"
#include "io/zip.h"

static bool is_zip(const uint8_t *head, size_t length) {
    return length >= 4 && (!memcmp(head, "PK\3\4", 4) || !memcmp(head, "PK\5\6", 4)); /* the second: no entries */
}

/* The archive's directory, "NAME/", ended by the entry data.pkl; `room` bytes. */
static lc_status find_directory(const lc_torch *t, const lc_zip *z, int64_t *pickle, char *directory, size_t room) {
    *pickle = -1;
    for (int64_t i = 0; i < lc_zip_count(z); i++) {
        const char *name = lc_zip_name(z, i), *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
        size_t length = (size_t)(base - name);
        if (strcmp(base, "data.pkl") || length >= room) continue;
        if (*pickle >= 0)
            return lc_fail(LC_EFORMAT, "%s: has two pickles, %sdata.pkl and %s: not what torch.save writes", t->path,
                           directory, name);
        memcpy(directory, name, length);
        directory[length] = '\0';
        *pickle = i;
    }
    if (*pickle >= 0) return LC_OK;
    return lc_fail(LC_EFORMAT, "%s: a zip archive without data.pkl: not what torch.save writes", t->path);
}

/* The container: where storages are looked for. */
typedef struct archive {
    lc_zip *zip;
    char directory[256];
} archive;

static lc_status place(lc_torch *t, lc_torch_storage *s) {
    const archive *a = t->container;
    char name[512];
    int length = snprintf(name, sizeof name, "%sdata/%s", a->directory, s->key);
    s->part = length < (int)sizeof name ? lc_zip_find(a->zip, name) : -1;
    if (s->part < 0) return lc_fail(LC_EFORMAT, "%s: storage %.40s is not in the archive", t->path, s->key);
    uint64_t size = lc_zip_size(a->zip, s->part);
    if (s->count > size / s->type->size)
        return lc_fail(LC_EFORMAT, "%s: %s has %llu bytes, too few for %llu elements of %s", t->path, name,
                       (unsigned long long)size, (unsigned long long)s->count, s->type->name);
    return LC_OK;
}

/* Tensors are little-endian unless an entry says otherwise, and TorchScript archives hold code. */
static lc_status check_kind(const lc_torch *t, const archive *a) {
    char name[300], order[8] = "";
    snprintf(name, sizeof name, "%sconstants.pkl", a->directory);
    if (lc_zip_find(a->zip, name) >= 0)
        return lc_fail(LC_EFORMAT, "%s: a TorchScript module; save its state_dict() with torch.save", t->path);
    snprintf(name, sizeof name, "%sbyteorder", a->directory);
    int64_t entry = lc_zip_find(a->zip, name);
    if (entry < 0) return LC_OK;
    uint64_t size = lc_zip_size(a->zip, entry), room = sizeof order - 1;
    LC_TRY(lc_zip_read(a->zip, entry, 0, order, (size_t)(size < room ? size : room)));
    return strcmp(order, "little")
               ? lc_fail(LC_EFORMAT, "%s: not little-endian: its byteorder is \"%s\"", t->path, order)
               : LC_OK;
}

static lc_status read_pickle(const lc_torch *t, lc_zip *z, int64_t entry, char **out, size_t *length) {
    uint64_t size = lc_zip_size(z, entry);
    if (size > LC_PICKLE_MAX_BYTES)
        return lc_fail(LC_EFORMAT, "%s: its pickle has %llu bytes; lacuna reads at most %zu", t->path,
                       (unsigned long long)size, LC_PICKLE_MAX_BYTES);
    char *bytes = lc_arena_alloc(t->arena, (size_t)size + 1);
    if (!bytes) return LC_ENOMEM;
    *out = bytes;
    *length = (size_t)size;
    return lc_zip_read(z, entry, 0, bytes, (size_t)size);
}

/* Values go with `scratch`; names stay in the set's arena. */
static lc_status read_archive(lc_weights *w, lc_torch *t, archive *a) {
    int64_t entry = 0;
    size_t length = 0;
    char *bytes = NULL;
    lc_pickled *value = NULL;
    LC_TRY(find_directory(t, a->zip, &entry, a->directory, sizeof a->directory));
    LC_TRY(check_kind(t, a));
    LC_TRY(read_pickle(t, a->zip, entry, &bytes, &length));
    LC_TRY(lc_torch_unpickle(t, bytes, length, NULL, &value));
    return lc_torch_add(t, w, value);
}

static lc_status open_zip(lc_weights *w, lc_weights_file *file, const char *path) {
    archive a = {0};
    lc_arena scratch = {0};
    LC_TRY(lc_reader_open(path, &file->reader));
    LC_TRY(lc_zip_open(file->reader, &a.zip));
    file->state = a.zip;
    uint64_t packed = lc_reader_size(file->reader), unpacked = lc_zip_total(a.zip);
    lc_torch t = {.path = path,
                  .bytes = packed > unpacked ? packed : unpacked,
                  .arena = &scratch,
                  .place = place,
                  .container = &a};
    lc_status status = read_archive(w, &t, &a);
    lc_arena_free(&scratch);
    return status;
}

static lc_status read_zip(lc_weights_file *file, const lc_stored *e, int64_t first, int64_t count, void *out) {
    size_t size = lc_dtype_size(e->dtype);
    return lc_zip_read(file->state, e->part, e->begin + (uint64_t)first * size, out, (size_t)count * size);
}

static void close_zip(lc_weights_file *file) {
    lc_zip_close(file->state);
}

const lc_weights_format lc_format_torch_zip = {
    .readable = LC_TORCH_READABLE,
    .is_ours = is_zip,
    .open = open_zip,
    .read = read_zip,
    .close = close_zip,
};
