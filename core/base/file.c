/* file.c: see file.h. Every write of the engine goes through write_all, so that tests can make the n-th one fail. */
#define _GNU_SOURCE
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/pool.h"
#include "base/strbuf.h"

static uint64_t fail_at;
static int fail_error;

void lc_file_fail_at(uint64_t n, int error) {
    fail_at = n;
    fail_error = error;
}

/* What a person can do about an errno. */
static const char *advice(int error) {
    switch (error) {
    case ENOENT:
        return "; check the path";
    case EACCES:
    case EPERM:
    case EROFS:
        return "; check the permissions, or write somewhere else (--out DIR)";
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return "; free some space, or write somewhere else (--out DIR)";
    case ENOTDIR:
        return "; a part of the path is a file";
    case EISDIR:
        return "; give the path of a file inside it";
    default:
        return "";
    }
}

static lc_status fail_errno(const char *path, const char *what, int error) {
    return lc_fail(error == ENOENT ? LC_ENOTFOUND : LC_EIO, "%s: cannot %s: %s%s", path, what, strerror(error),
                   advice(error));
}

/* -- reading -- */

struct lc_reader {
    int fd;
    uint64_t size;
    char *path;
};

/* What lc_file_watch asks for. */
static struct {
    bool on;
    char **paths;
    size_t count;
} watched;

void lc_file_watch(void) {
    watched.on = true;
}

const char *lc_file_watched(size_t i) {
    return i < watched.count ? watched.paths[i] : NULL;
}

static lc_status remember(const char *path) {
    if (!watched.on) return LC_OK;
    for (size_t i = 0; i < watched.count; i++)
        if (strcmp(watched.paths[i], path) == 0) return LC_OK;
    char **grown = lc_realloc(watched.paths, (watched.count + 1) * sizeof *grown);
    if (!grown) return LC_ENOMEM;
    watched.paths = grown;
    char *copy = lc_strdup(path);
    if (!copy) return LC_ENOMEM;
    watched.paths[watched.count++] = copy;
    return LC_OK;
}

/* Refuses what has no size and cannot be read twice. */
static lc_status check_regular(const char *path, const struct stat *st) {
    if (S_ISREG(st->st_mode)) return LC_OK;
    if (S_ISDIR(st->st_mode)) return fail_errno(path, "read as a file", EISDIR);
    if (S_ISFIFO(st->st_mode))
        return lc_fail(LC_EIO,
                       "%s: cannot read from a pipe, named or made by the shell's <(...); write what comes "
                       "out of it into a file, and give that",
                       path);
    return lc_fail(LC_EIO, "%s: cannot read from a device or socket; give the path of a plain file", path);
}

lc_status lc_reader_open(const char *path, lc_reader **out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a pipe that nobody writes to must not block */
    if (fd < 0) return fail_errno(path, "open", errno);
    struct stat st;
    lc_status status = fstat(fd, &st) ? fail_errno(path, "read", errno) : check_regular(path, &st);
    if (!status) status = remember(path);
    lc_reader *r = status ? NULL : lc_alloc(sizeof *r);
    char *copy = r ? lc_strdup(path) : NULL;
    if (!copy) {
        lc_free(r);
        close(fd);
        return status ? status : LC_ENOMEM;
    }
    *r = (lc_reader){fd, (uint64_t)st.st_size, copy};
    *out = r;
    return LC_OK;
}

uint64_t lc_reader_size(const lc_reader *r) {
    return r->size;
}
const char *lc_reader_path(const lc_reader *r) {
    return r->path;
}

lc_status lc_reader_read(lc_reader *r, uint64_t offset, void *out, size_t length) {
    char *to = out;
    while (length > 0) {
        ssize_t n = pread(r->fd, to, length, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(r->path, "read", errno);
        if (n == 0)
            return lc_fail(
                LC_EIO, "%s: the file ends at byte %llu, %zu bytes too early; it was cut off or is still being written",
                r->path, (unsigned long long)offset, length);
        to += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return LC_OK;
}

void lc_reader_close(lc_reader *r) {
    if (!r) return;
    close(r->fd);
    lc_free(r->path);
    lc_free(r);
}

lc_status lc_file_read(const char *path, size_t limit, char **out, size_t *length) {
    lc_reader *r = NULL;
    LC_TRY(lc_reader_open(path, &r));
    lc_status status = LC_OK;
    char *text = NULL;
    if (limit && r->size > limit) {
        status = lc_fail(LC_EFORMAT, "%s: %llu bytes are more than the %zu that such a file may have", path,
                         (unsigned long long)r->size, limit);
        goto done;
    }
    text = lc_alloc((size_t)r->size + 1);
    if (!text) {
        status = LC_ENOMEM;
        goto done;
    }
    LC_GOTO(done, lc_reader_read(r, 0, text, (size_t)r->size));
    text[r->size] = '\0';
    *out = text;
    if (length) *length = (size_t)r->size;
    text = NULL;
done:
    lc_free(text);
    lc_reader_close(r);
    return status;
}

/* -- writing -- */

#define WRITE_BUFFER ((size_t)1 << 20)
/* So often the disk is given what was written, and what was given before is waited for: the fsync at the end is then short, and Ctrl-C
 * finds its answer between two pieces. */
#define SYNC_BYTES ((off_t)4 << 20)

struct lc_writer {
    int fd;
    size_t used;
    off_t written, given; /* bytes written, and of these handed to the disk */
    char *path, *temporary, *buffer;
};

/* 0 or an errno. */
static int write_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        if (fail_at && --fail_at == 0) return fail_error;
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

static void writer_free(lc_writer *w) {
    if (w->fd >= 0) close(w->fd);
    lc_free(w->path);
    lc_free(w->temporary);
    lc_free(w->buffer);
    lc_free(w);
}

/* A name that no other writer has: process id and a running number. */
static char *temporary_name(const char *path) {
    static atomic_uint running;
    lc_strbuf b = {0};
    lc_strbuf_printf(&b, "%s.tmp-%ld-%u", path, (long)getpid(), atomic_fetch_add(&running, 1));
    char *name = NULL;
    return lc_strbuf_take(&b, &name, NULL) ? NULL : name;
}

lc_status lc_writer_open(const char *path, lc_writer **out) {
    lc_writer *w = lc_calloc(1, sizeof *w);
    if (!w) return LC_ENOMEM;
    w->fd = -1;
    w->path = lc_strdup(path);
    w->temporary = w->path ? temporary_name(path) : NULL;
    w->buffer = w->temporary ? lc_alloc(WRITE_BUFFER) : NULL;
    if (!w->buffer) {
        writer_free(w);
        return LC_ENOMEM;
    }
    w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        lc_status status = fail_errno(path, "write", errno);
        writer_free(w);
        return status;
    }
    *out = w;
    return LC_OK;
}

/* Not every file system can; the fsync at the end does it then. */
static void keep_disk_busy(lc_writer *w) {
    if (w->written - w->given < SYNC_BYTES) return;
    off_t before = lc_max(0, w->given - SYNC_BYTES);
    sync_file_range(w->fd, w->given, w->written - w->given, SYNC_FILE_RANGE_WRITE);
    sync_file_range(w->fd, before, w->given - before, SYNC_FILE_RANGE_WAIT_BEFORE);
    w->given = w->written;
}

static lc_status write_now(lc_writer *w, const void *data, size_t length) {
    int error = write_all(w->fd, data, length);
    if (error) return fail_errno(w->path, "write", error);
    w->written += (off_t)length;
    keep_disk_busy(w);
    return LC_OK;
}

static lc_status flush(lc_writer *w) {
    size_t used = w->used;
    w->used = 0;
    return write_now(w, w->buffer, used);
}

lc_status lc_writer_write(lc_writer *w, const void *data, size_t length) {
    if (length >= WRITE_BUFFER) {
        LC_TRY(flush(w));
        return write_now(w, data, length);
    }
    if (w->used + length > WRITE_BUFFER) LC_TRY(flush(w));
    memcpy(w->buffer + w->used, data, length);
    w->used += length;
    return LC_OK;
}

/* Makes a rename last through a power cut. Some file systems refuse it; the rename itself stands. */
static void sync_directory_of(const char *path) {
    char *copy = lc_strdup(path);
    if (!copy) return;
    char *slash = strrchr(copy, '/');
    if (slash) *(slash == copy ? slash + 1 : slash) = '\0';
    int fd = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
    lc_free(copy);
}

lc_status lc_writer_commit(lc_writer *w) {
    lc_status status = flush(w);
    if (!status) status = lc_poll();
    if (!status && fsync(w->fd)) status = fail_errno(w->path, "write", errno);
    if (!status) status = lc_poll(); /* a disk may take its time */
    int closed = close(w->fd);
    w->fd = -1;
    if (!status && closed) status = fail_errno(w->path, "write", errno);
    if (!status && rename(w->temporary, w->path)) status = fail_errno(w->path, "put the finished file in place", errno);
    if (status)
        unlink(w->temporary);
    else
        sync_directory_of(w->path);
    writer_free(w);
    return status;
}

void lc_writer_abandon(lc_writer *w) {
    if (!w) return;
    unlink(w->temporary);
    writer_free(w);
}

lc_status lc_file_write(const char *path, const void *data, size_t length) {
    lc_writer *w = NULL;
    LC_TRY(lc_writer_open(path, &w));
    lc_status status = lc_writer_write(w, data, length);
    if (!status) return lc_writer_commit(w);
    lc_writer_abandon(w);
    return status;
}

lc_status lc_file_append(const char *path, const void *data, size_t length) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return fail_errno(path, "write", errno);
    off_t before = lseek(fd, 0, SEEK_END);
    int error = write_all(fd, data, length);
    if (!error && fsync(fd)) error = errno;
    if (error && before >= 0) (void)!ftruncate(fd, before); /* no half line stays */
    close(fd);
    return error ? fail_errno(path, "write", error) : LC_OK;
}

/* -- locks -- */

struct lc_lock {
    int fd; /* the lock is this open file's, and not inherited by programs that are started */
};

lc_status lc_lock_take(const char *path, lc_lock **out) {
    lc_lock *l = lc_alloc(sizeof *l);
    if (!l) return LC_ENOMEM;
    l->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (l->fd < 0) {
        int error = errno;
        lc_free(l);
        return fail_errno(path, "write", error);
    }
    if (flock(l->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        lc_lock_release(l);
        return lc_fail(LC_ESTATE, "%s: another process has this lock", path);
    }
    *out = l;
    return LC_OK;
}

void lc_lock_release(lc_lock *l) {
    if (!l) return;
    close(l->fd);
    lc_free(l);
}

/* -- directories -- */

lc_status lc_make_dirs(const char *path) {
    char *part = lc_strdup(path);
    if (!part) return LC_ENOMEM;
    lc_status status = LC_OK;
    for (char *at = part + 1; !status; at++) {
        if (*at != '/' && *at != '\0') continue;
        char end = *at;
        *at = '\0';
        if (mkdir(part, 0777) && errno != EEXIST)
            status = fail_errno(part, "make the directory", errno);
        else if (!lc_is_dir(part))
            status = fail_errno(part, "make the directory", ENOTDIR);
        if (end == '\0') break;
        *at = end;
    }
    lc_free(part);
    return status;
}

bool lc_file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool lc_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static lc_status remove_entries(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return fail_errno(path, "remove", errno);
    lc_status status = LC_OK;
    for (struct dirent *entry; !status && (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *inner = lc_path_join(path, entry->d_name);
        status = inner ? lc_remove_tree(inner) : LC_ENOMEM;
        lc_free(inner);
    }
    closedir(dir);
    return status;
}

lc_status lc_remove_tree(const char *path) {
    struct stat st;
    if (lstat(path, &st)) return errno == ENOENT ? LC_OK : fail_errno(path, "remove", errno);
    if (S_ISDIR(st.st_mode)) LC_TRY(remove_entries(path));
    if (remove(path) && errno != ENOENT) return fail_errno(path, "remove", errno);
    return LC_OK;
}

char *lc_path_join(const char *dir, const char *name) {
    lc_strbuf b = {0};
    size_t n = strlen(dir);
    lc_strbuf_printf(&b, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    char *path = NULL;
    return lc_strbuf_take(&b, &path, NULL) ? NULL : path;
}

lc_status lc_dir_has(const char *dir, const char *name, bool *out) {
    char *path = lc_path_join(dir, name);
    if (!path) return LC_ENOMEM;
    *out = lc_file_exists(path);
    lc_free(path);
    return LC_OK;
}

lc_status lc_path_expand(const char *path, char **out) {
    const char *home = getenv("HOME");
    bool in_home = path[0] == '~' && (path[1] == '\0' || path[1] == '/') && home && *home;
    lc_strbuf b = {0};
    lc_strbuf_printf(&b, "%s%s", in_home ? home : "", path + in_home);
    return lc_strbuf_take(&b, out, NULL);
}

/* -- directories that appear whole -- */

/* The directory that holds `path`, made when it is missing. */
static lc_status make_parent(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return LC_OK;
    char *parent = lc_strndup(path, (size_t)(slash - path));
    lc_status status = parent ? lc_make_dirs(parent) : LC_ENOMEM;
    lc_free(parent);
    return status;
}

/* "a/b//" as "a/b". */
static char *without_slash(const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    return lc_strndup(path, n);
}

lc_status lc_directory_begin(const char *path, char **fresh) {
    char *plain = without_slash(path), *inner = NULL, *name = NULL;
    lc_status status = plain ? make_parent(plain) : LC_ENOMEM;
    if (!status && lc_is_dir(plain)) {
        inner = lc_path_join(plain, "new");
        if (!inner) status = LC_ENOMEM;
    } else if (!status && lc_file_exists(plain)) {
        status = fail_errno(plain, "make the directory", ENOTDIR);
    }
    if (!status) name = temporary_name(inner ? inner : plain);
    if (!status && !name) status = LC_ENOMEM;
    if (!status && mkdir(name, 0777)) status = fail_errno(path, "write", errno);
    lc_free(plain);
    lc_free(inner);
    if (status)
        lc_free(name);
    else
        *fresh = name;
    return status;
}

/* Keeps the message of what went wrong before. */
static void remove_quietly(const char *fresh) {
    if (rmdir(fresh) == 0 || errno == ENOENT) return;
    DIR *dir = opendir(fresh);
    for (struct dirent *entry; dir && (entry = readdir(dir));) unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir) closedir(dir);
    rmdir(fresh);
}

/* Nothing is allocated here: memory that runs out must not part the files. */
static lc_status move_files(const char *fresh, const char *path) {
    DIR *from = opendir(fresh), *to = from ? opendir(path) : NULL;
    int error = to ? 0 : errno;
    for (struct dirent *entry; !error && (entry = readdir(from));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            if (renameat(dirfd(from), entry->d_name, dirfd(to), entry->d_name)) error = errno;
    if (to) (void)!fsync(dirfd(to));
    if (from) closedir(from);
    if (to) closedir(to);
    return error ? fail_errno(path, "put the finished files in place", error) : LC_OK;
}

/* Puts `path` where the message has `fresh`, which nobody knows. */
static lc_status name_target(lc_status status, const char *fresh, const char *path) {
    const char *message = lc_message(), *at = strstr(message, fresh);
    if (!at) return status;
    return lc_fail(status, "%.*s%s%s", (int)(at - message), message, path, at + strlen(fresh));
}

lc_status lc_directory_end(lc_status status, char *fresh, const char *path) {
    if (status) status = name_target(status, fresh, path);
    if (!status && lc_is_dir(path))
        status = move_files(fresh, path);
    else if (!status && rename(fresh, path))
        status = fail_errno(path, "write", errno);
    else if (!status)
        sync_directory_of(path);
    remove_quietly(fresh);
    lc_free(fresh);
    return status;
}
