/* zip.h: zip archives whose entries are stored as they are, as torch.save writes them; by libzip. Depends on base. */
#ifndef LC_ZIP_H
#define LC_ZIP_H

#include "base/file.h"

typedef struct lc_zip lc_zip;

/* `reader` is borrowed for the archive's life. LC_EFORMAT for a damaged directory. */
lc_status lc_zip_open(lc_reader *reader, lc_zip **out);
void lc_zip_close(lc_zip *z); /* NULL is fine */

int64_t lc_zip_count(const lc_zip *z);
const char *lc_zip_name(const lc_zip *z, int64_t index); /* NULL for one without */
int64_t lc_zip_find(const lc_zip *z, const char *name);  /* -1 when there is none */
/* Bytes of an entry. LC_EFORMAT when it is compressed or encrypted, or larger than the archive. */
lc_status lc_zip_size(const lc_zip *z, int64_t index, uint64_t *size);
/* All of `length` bytes from `offset` on, or LC_EFORMAT. */
lc_status lc_zip_read(lc_zip *z, int64_t index, uint64_t offset, void *out, size_t length);

#endif
