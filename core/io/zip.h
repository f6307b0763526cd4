/* zip.h: zip archives whose entries are stored as they are, as torch.save writes them, or deflated, as other programs pack
 * them again; by libzip. Depends on base.
 *
 * All entries are checked when an archive is opened: names that differ, no encryption, sizes that what is in the file
 * can have. Names are compared, never made into paths. */
#ifndef LC_ZIP_H
#define LC_ZIP_H

#include "base/file.h"

typedef struct lc_zip lc_zip;

/* `reader` is borrowed for the archive's life. LC_EFORMAT names the entry that is at fault. */
lc_status lc_zip_open(lc_reader *reader, lc_zip **out);
void lc_zip_close(lc_zip *z); /* NULL is fine */

int64_t lc_zip_count(const lc_zip *z);
const char *lc_zip_name(const lc_zip *z, int64_t index);
int64_t lc_zip_find(const lc_zip *z, const char *name); /* -1 when there is none */
uint64_t lc_zip_size(const lc_zip *z, int64_t index);   /* bytes of an entry, unpacked */
uint64_t lc_zip_total(const lc_zip *z);                 /* of all entries */
/* All of `length` bytes from `offset` on, or LC_EFORMAT. In a deflated entry, going on where the last read ended is
 * cheap; everything else unpacks it from its beginning. */
lc_status lc_zip_read(lc_zip *z, int64_t index, uint64_t offset, void *out, size_t length);

#endif
