/* zip.c: see zip.h. libzip reads through a source of ours, so that files are opened, counted and read in one place:
 * base/file. */
#include "io/zip.h"

#include <string.h>
#include <zip.h>

#include "base/memory.h"

struct lc_zip {
    lc_reader *reader;
    uint64_t at; /* where libzip reads next */
    zip_error_t error;
    zip_t *archive;
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

lc_status lc_zip_open(lc_reader *reader, lc_zip **out) {
    lc_zip *z = lc_calloc(1, sizeof *z);
    if (!z) return LC_ENOMEM;
    z->reader = reader;
    zip_error_init(&z->error);
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *s = zip_source_function_create(source, z, &error);
    z->archive = s ? zip_open_from_source(s, ZIP_RDONLY, &error) : NULL;
    lc_status status = z->archive ? LC_OK : fail_damaged(z, &error);
    if (!z->archive && s) zip_source_free(s);
    zip_error_fini(&error);
    if (status) {
        lc_zip_close(z);
        return status;
    }
    *out = z;
    return LC_OK;
}

void lc_zip_close(lc_zip *z) {
    if (!z) return;
    if (z->archive) zip_discard(z->archive);
    zip_error_fini(&z->error);
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

lc_status lc_zip_size(const lc_zip *z, int64_t index, uint64_t *size) {
    zip_stat_t s;
    zip_uint64_t wanted = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if (zip_stat_index(z->archive, (zip_uint64_t)index, 0, &s) || (s.valid & wanted) != wanted)
        return fail_damaged(z, zip_get_error(z->archive));
    if (s.comp_method != ZIP_CM_STORE || s.encryption_method != ZIP_EM_NONE)
        return lc_fail(LC_EFORMAT, "%s: %s is compressed or encrypted; torch.save stores entries as they are",
                       lc_reader_path(z->reader), lc_zip_name(z, index));
    if (s.size != s.comp_size || s.size > lc_reader_size(z->reader))
        return lc_fail(LC_EFORMAT, "%s: the zip archive is damaged: %s has two sizes, or one beyond the file's",
                       lc_reader_path(z->reader), lc_zip_name(z, index));
    *size = s.size;
    return LC_OK;
}

lc_status lc_zip_read(lc_zip *z, int64_t index, uint64_t offset, void *out, size_t length) {
    uint64_t size = 0;
    LC_TRY(lc_zip_size(z, index, &size));
    if (offset > size || length > size - offset)
        return lc_fail(LC_EFORMAT, "%s: %s ends too early", lc_reader_path(z->reader), lc_zip_name(z, index));
    if (!length) return LC_OK; /* libzip 1.7 cannot seek in an empty entry */
    zip_file_t *f = zip_fopen_index(z->archive, (zip_uint64_t)index, ZIP_FL_COMPRESSED); /* as stored, no checksum */
    if (!f) return fail_damaged(z, zip_get_error(z->archive));
    bool ok = zip_fseek(f, (zip_int64_t)offset, SEEK_SET) == 0;
    for (size_t done = 0; ok && done < length;) {
        zip_int64_t n = zip_fread(f, (char *)out + done, length - done);
        ok = n > 0;
        if (ok) done += (size_t)n;
    }
    lc_status status = ok ? LC_OK : fail_damaged(z, zip_file_get_error(f));
    zip_fclose(f);
    return status;
}
