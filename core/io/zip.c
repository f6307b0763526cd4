/* zip.c: see zip.h. libzip reads through a source of ours, so that files are opened, counted and read in one place:
 * base/file. */
#include "io/zip.h"

#include <string.h>
#include <zip.h>

#include "base/memory.h"
#include "base/pool.h"

/* Deflate makes one byte of at most so many. */
#define DEFLATE_RATIO 1032
#define SKIP_BYTES ((size_t)256 << 10)

typedef struct entry {
    uint64_t size;
    bool deflated;
} entry;

struct lc_zip {
    lc_reader *reader;
    uint64_t at; /* where libzip reads next */
    zip_error_t error;
    zip_t *archive;
    entry *entries;
    uint64_t total;   /* of sizes */
    zip_file_t *open; /* the deflated entry that was read last: the next piece goes on from there */
    int64_t open_index;
    uint64_t open_at;
};

/* -- the source --------------------------------------------------------------------------------- */

static zip_int64_t source_read(lc_zip *z, void *data, uint64_t length) {
    uint64_t left = lc_reader_size(z->reader) - z->at, n = length < left ? length : left;
    if (lc_reader_read(z->reader, z->at, data, (size_t)n)) {
        zip_error_set(&z->error, ZIP_ER_READ, 0);
        return -1;
    }
    z->at += n;
    return (zip_int64_t)n;
}

static zip_int64_t source_seek(lc_zip *z, void *data, uint64_t length) {
    zip_int64_t to = zip_source_seek_compute_offset(z->at, lc_reader_size(z->reader), data, length, &z->error);
    if (to < 0) return -1;
    z->at = (uint64_t)to;
    return 0;
}

static zip_int64_t source_stat(const lc_zip *z, void *data) {
    zip_stat_t *s = data;
    zip_stat_init(s);
    s->size = lc_reader_size(z->reader);
    s->valid = ZIP_STAT_SIZE;
    return sizeof *s;
}

/* zip_source_callback */
static zip_int64_t source(void *context, void *data, zip_uint64_t length, zip_source_cmd_t command) {
    lc_zip *z = context;
    switch (command) {
    case ZIP_SOURCE_OPEN:
        z->at = 0;
        return 0;
    case ZIP_SOURCE_READ:
        return source_read(z, data, length);
    case ZIP_SOURCE_SEEK:
        return source_seek(z, data, length);
    case ZIP_SOURCE_TELL:
        return (zip_int64_t)z->at;
    case ZIP_SOURCE_STAT:
        return source_stat(z, data);
    case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&z->error, data, length);
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
        return 0;
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT,
                                              ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL,
                                              ZIP_SOURCE_SUPPORTS, -1);
    default:
        zip_error_set(&z->error, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
}

/* -- the archive -------------------------------------------------------------------------------- */

static lc_status fail_damaged(const lc_zip *z, zip_error_t *error) {
    return lc_fail(LC_EFORMAT, "%s: the zip archive is damaged or was cut off (%s): fetch it again",
                   lc_reader_path(z->reader), zip_error_strerror(error));
}

/* One entry: of a kind that can be read, with a size that what is there can have. */
static lc_status check_entry(lc_zip *z, int64_t index, uint64_t *packed) {
    const char *path = lc_reader_path(z->reader), *name = lc_zip_name(z, index);
    zip_stat_t s;
    zip_uint64_t wanted = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if (!name || zip_stat_index(z->archive, (zip_uint64_t)index, 0, &s) || (s.valid & wanted) != wanted)
        return fail_damaged(z, zip_get_error(z->archive));
    if (*name && lc_zip_find(z, name) != index)
        return lc_fail(LC_EFORMAT, "%s: %.100s is in the archive twice", path, name);
    if (s.encryption_method != ZIP_EM_NONE)
        return lc_fail(LC_EFORMAT, "%s: %.100s is encrypted, which lacuna does not read", path, name);
    if (s.comp_method != ZIP_CM_STORE && s.comp_method != ZIP_CM_DEFLATE)
        return lc_fail(LC_EFORMAT,
                       "%s: %.100s is compressed by method %d; lacuna reads entries that are stored or deflated", path,
                       name, s.comp_method);
    bool deflated = s.comp_method == ZIP_CM_DEFLATE;
    if (deflated ? s.size / DEFLATE_RATIO > s.comp_size : s.size != s.comp_size)
        return lc_fail(LC_EFORMAT, "%s: %.100s would have %llu bytes, which its %llu in the archive cannot hold", path,
                       name, (unsigned long long)s.size, (unsigned long long)s.comp_size);
    *packed += s.comp_size;
    if (s.comp_size > lc_reader_size(z->reader) || *packed > lc_reader_size(z->reader))
        return lc_fail(LC_EFORMAT,
                       "%s: the entries up to %.100s have more bytes than the file: it is damaged, or they overlap",
                       path, name);
    z->entries[index] = (entry){s.size, deflated};
    z->total += s.size;
    return LC_OK;
}

static lc_status check_entries(lc_zip *z) {
    uint64_t packed = 0;
    z->entries = lc_calloc((size_t)lc_zip_count(z) + 1, sizeof *z->entries);
    if (!z->entries) return LC_ENOMEM;
    for (int64_t i = 0; i < lc_zip_count(z); i++) LC_TRY(check_entry(z, i, &packed));
    return LC_OK;
}

static lc_status open_archive(lc_zip *z) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *s = zip_source_function_create(source, z, &error);
    z->archive = s ? zip_open_from_source(s, ZIP_RDONLY, &error) : NULL;
    lc_status status = z->archive ? LC_OK : fail_damaged(z, &error);
    if (!z->archive && s) zip_source_free(s);
    zip_error_fini(&error);
    return status;
}

lc_status lc_zip_open(lc_reader *reader, lc_zip **out) {
    lc_zip *z = lc_calloc(1, sizeof *z);
    if (!z) return LC_ENOMEM;
    z->reader = reader;
    zip_error_init(&z->error);
    lc_status status = open_archive(z);
    if (!status) status = check_entries(z);
    if (status) {
        lc_zip_close(z);
        return status;
    }
    *out = z;
    return LC_OK;
}

static void close_entry(lc_zip *z) {
    if (z->open) zip_fclose(z->open);
    z->open = NULL;
}

void lc_zip_close(lc_zip *z) {
    if (!z) return;
    close_entry(z);
    if (z->archive) zip_discard(z->archive);
    zip_error_fini(&z->error);
    lc_free(z->entries);
    lc_free(z);
}

int64_t lc_zip_count(const lc_zip *z) {
    return zip_get_num_entries(z->archive, 0);
}

const char *lc_zip_name(const lc_zip *z, int64_t index) {
    return zip_get_name(z->archive, (zip_uint64_t)index, ZIP_FL_ENC_RAW);
}

int64_t lc_zip_find(const lc_zip *z, const char *name) {
    return zip_name_locate(z->archive, name, ZIP_FL_ENC_RAW);
}

uint64_t lc_zip_size(const lc_zip *z, int64_t index) {
    return z->entries[index].size;
}

uint64_t lc_zip_total(const lc_zip *z) {
    return z->total;
}

/* -- reading ------------------------------------------------------------------------------------ */

static lc_status take(lc_zip *z, zip_file_t *f, void *out, size_t length) {
    for (size_t done = 0; done < length;) {
        zip_int64_t n = zip_fread(f, (char *)out + done, length - done);
        if (n <= 0) return fail_damaged(z, zip_file_get_error(f));
        done += (size_t)n;
    }
    return LC_OK;
}

/* As stored, without its checksum, which torch.save may leave out. */
static lc_status read_stored(lc_zip *z, int64_t index, uint64_t offset, void *out, size_t length) {
    zip_file_t *f = zip_fopen_index(z->archive, (zip_uint64_t)index, ZIP_FL_COMPRESSED);
    if (!f) return fail_damaged(z, zip_get_error(z->archive));
    lc_status status =
        zip_fseek(f, (zip_int64_t)offset, SEEK_SET) ? fail_damaged(z, zip_file_get_error(f)) : take(z, f, out, length);
    zip_fclose(f);
    return status;
}

/* The open entry up to `offset`. */
static lc_status skip_to(lc_zip *z, uint64_t offset) {
    char *bytes = lc_alloc(SKIP_BYTES);
    lc_status status = bytes ? LC_OK : LC_ENOMEM;
    while (z->open_at < offset && !status) {
        size_t n = offset - z->open_at < SKIP_BYTES ? (size_t)(offset - z->open_at) : SKIP_BYTES;
        status = lc_poll();
        if (!status) status = take(z, z->open, bytes, n);
        z->open_at += n;
    }
    lc_free(bytes);
    return status;
}

/* A deflated entry can only be read forward. Behind its last byte libzip compares size and checksum. */
static lc_status read_forward(lc_zip *z, int64_t index, uint64_t offset, void *out, size_t length) {
    char behind;
    if (z->open && (z->open_index != index || z->open_at > offset)) close_entry(z);
    if (!z->open) {
        z->open = zip_fopen_index(z->archive, (zip_uint64_t)index, 0);
        if (!z->open) return fail_damaged(z, zip_get_error(z->archive));
        z->open_index = index;
        z->open_at = 0;
    }
    if (offset > z->open_at) LC_TRY(skip_to(z, offset));
    LC_TRY(take(z, z->open, out, length));
    z->open_at += length;
    if (z->open_at < z->entries[index].size || zip_fread(z->open, &behind, 1) == 0) return LC_OK;
    return fail_damaged(z, zip_file_get_error(z->open));
}

lc_status lc_zip_read(lc_zip *z, int64_t index, uint64_t offset, void *out, size_t length) {
    uint64_t size = z->entries[index].size;
    if (offset > size || length > size - offset)
        return lc_fail(LC_EFORMAT, "%s: %s ends too early", lc_reader_path(z->reader), lc_zip_name(z, index));
    if (!length) return LC_OK; /* libzip 1.7 cannot seek in an empty entry */
    if (!z->entries[index].deflated) return read_stored(z, index, offset, out, length);
    lc_status status = read_forward(z, index, offset, out, length);
    if (status) close_entry(z);
    return status;
}
