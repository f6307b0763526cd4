/* file.h: reading files whole or by range, and writing them so that a crash, a full disk or Ctrl-C leaves the old file
 * or the new one, never a part: to a temporary name beside the target, fsync, rename. */
#ifndef LC_FILE_H
#define LC_FILE_H

#include "base/status.h"

/* Whole file into fresh memory (lc_free), with a NUL after the last byte. `limit` guards against absurd sizes (0 =
 * none). */
lc_status lc_file_read(const char *path, size_t limit, char **out, size_t *length);

/* Random access. Reads are by pread: a file that shrinks underneath is an error, not a crash. */
typedef struct lc_reader lc_reader;
lc_status lc_reader_open(const char *path, lc_reader **out);
uint64_t lc_reader_size(const lc_reader *r);
const char *lc_reader_path(const lc_reader *r);
lc_status lc_reader_read(lc_reader *r, uint64_t offset, void *out, size_t length); /* all of it, or LC_EIO */
void lc_reader_close(lc_reader *r);                                                /* NULL is fine */

/* Buffered writer to `path`. */
typedef struct lc_writer lc_writer;
lc_status lc_writer_open(const char *path, lc_writer **out);
lc_status lc_writer_write(lc_writer *w, const void *data, size_t length);
/* Flush, fsync, rename over `path`, fsync the directory; frees w whatever happens. On failure, LC_ECANCEL
 * too, the temporary file is gone. */
lc_status lc_writer_commit(lc_writer *w);
void lc_writer_abandon(lc_writer *w); /* removes the temporary file; NULL is fine */

/* All of `data` as the new content of `path`. */
lc_status lc_file_write(const char *path, const void *data, size_t length);
/* One write at the end of `path` (made when missing), then fsync: for logs of lines. */
lc_status lc_file_append(const char *path, const void *data, size_t length);
lc_status lc_make_dirs(const char *path); /* like mkdir -p */
bool lc_file_exists(const char *path);
bool lc_is_dir(const char *path);
/* Removes a file or a directory tree; missing is fine. */
lc_status lc_remove_tree(const char *path);
/* Files that belong together, such as a model's: they are written into a fresh directory and moved into `path` when all
 * are there, so that a failure leaves `path` as it was. Begin gives the fresh directory's path, in `path` where that
 * exists and else beside it, for End to free. */
lc_status lc_directory_begin(const char *path, char **fresh);
/* Moves the files when `status` is LC_OK, removes them when not; returns `status`, or what went wrong with the moving. */
lc_status lc_directory_end(lc_status status, char *fresh, const char *path);
/* A lock that one process at a time has: on the file `path`, made when missing and left there, empty. LC_ESTATE when
 * another has it. It goes with the process, however that ends. Where the file system knows no locks nothing is locked. */
typedef struct lc_lock lc_lock;
lc_status lc_lock_take(const char *path, lc_lock **out);
void lc_lock_release(lc_lock *l); /* NULL is fine */
/* "dir/name" into fresh memory (lc_free). NULL when out of memory. */
char *lc_path_join(const char *dir, const char *name);
/* Whether "dir/name" exists. */
lc_status lc_dir_has(const char *dir, const char *name, bool *out);
/* A copy (lc_free) in which "~" alone, or before the first slash, is $HOME, as a shell would have it; where HOME is not
 * set, a plain copy. */
lc_status lc_path_expand(const char *path, char **out);

/* From here on the process remembers which files it reads, for the manifests of runs. */
void lc_file_watch(void);
/* The i-th path that was read (from 0), each once; NULL past the last. */
const char *lc_file_watched(size_t i);

/* For tests: the n-th write from now fails with `error` (an errno such as ENOSPC); 0 = off. */
void lc_file_fail_at(uint64_t n, int error);

#endif
