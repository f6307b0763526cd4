/* hub.c: see hub.h. */
#include "io/hub.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* Names go into paths, so only the hub's own alphabet passes, with at most one '/', and no part that is "." or "..". */
static bool is_hub_name(const char *name) {
    const char *slash = strchr(name, '/');
    if (slash && (slash == name || !slash[1] || strchr(slash + 1, '/'))) return false;
    if (strstr(name, "..") || name[0] == '.' || (slash && slash[1] == '.')) return false;
    const char *allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./";
    return *name && name[strspn(name, allowed)] == '\0';
}

/* The cache directory, and in `from` the variable that decided it. */
static lc_status hub_directory(char **out, const char **from) {
    static const struct {
        const char *variable, *inside;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HUGGINGFACE_HUB_CACHE", ""}, /* its older name */
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    size_t i = 0;
    while (i + 1 < sizeof places / sizeof *places && !environment(places[i].variable)) i++;
    const char *value = environment(places[i].variable);
    char *base = NULL;
    lc_strbuf b = {0};
    LC_TRY(lc_path_expand(value ? value : "", &base));
    lc_strbuf_printf(&b, "%s%s", base, places[i].inside);
    lc_free(base);
    *from = places[i].variable;
    return lc_strbuf_take(&b, out, NULL);
}

/* hub/models--org--name */
static lc_status repository_directory(const char *hub, const char *name, char **out) {
    lc_strbuf b = {0};
    lc_strbuf_printf(&b, "%s/models--", hub);
    for (const char *c = name; *c; c++) lc_strbuf_add(&b, *c == '/' ? "--" : c, *c == '/' ? 2 : 1);
    return lc_strbuf_take(&b, out, NULL);
}

/* repository/snapshots/<content of refs/main>; LC_ENOTFOUND without a word when refs/main is missing. */
static lc_status snapshot_directory(const char *repository, char **out) {
    lc_strbuf b = {0};
    char *reference, *commit = NULL, *path = NULL;
    lc_strbuf_printf(&b, "%s/refs/main", repository);
    LC_TRY(lc_strbuf_take(&b, &reference, NULL));
    lc_status status = lc_file_read(reference, 4096, &commit, NULL);
    if (!status) {
        commit[strcspn(commit, "\r\n")] = '\0';
        if (!is_hub_name(commit) || strchr(commit, '/'))
            status = lc_fail(LC_EFORMAT, "%s: \"%.60s\" is not the name of a snapshot", reference, commit);
    }
    if (!status) {
        lc_strbuf_printf(&b, "%s/snapshots/%s", repository, commit);
        status = lc_strbuf_take(&b, &path, NULL);
    }
    if (!status && !lc_is_dir(path)) {
        status =
            lc_fail(LC_EFORMAT, "%s names snapshot %s, which is not there; fetch the model again", reference, commit);
        lc_free(path);
    }
    if (!status) *out = path;
    lc_free(commit);
    lc_free(reference);
    return status;
}

static lc_status find_in_cache(const char *name, char **directory) {
    char *hub, *repository = NULL;
    const char *from;
    LC_TRY(hub_directory(&hub, &from));
    lc_status status = repository_directory(hub, name, &repository);
    if (!status) status = snapshot_directory(repository, directory);
    if (status == LC_ENOTFOUND && lc_is_dir(repository))
        status =
            lc_fail(LC_ENOTFOUND,
                    "%s: %s/refs/main is missing, which says what snapshot to load; fetch it with: hf download %s, or "
                    "load one of %s/snapshots by its path",
                    name, repository, name, repository);
    else if (status == LC_ENOTFOUND)
        status =
            lc_fail(LC_ENOTFOUND,
                    "%s: no such file or directory, and no snapshot in %s (from %s); fetch it with: hf download %s",
                    name, repository, from, name);
    lc_free(repository);
    lc_free(hub);
    return status;
}

/* Whether a directory is one of the cache, models--org--name. */
static lc_status is_repository(const char *path, bool *out) {
    bool snapshots = false, reference = false;
    LC_TRY(lc_dir_has(path, "snapshots", &snapshots));
    LC_TRY(lc_dir_has(path, "refs/main", &reference));
    *out = snapshots && reference;
    return LC_OK;
}

lc_status lc_hub_resolve(const char *name, char **directory) {
    char *path = NULL;
    bool repository = false;
    LC_TRY(lc_path_expand(name, &path));
    lc_status status = is_repository(path, &repository);
    if (!status && !repository && lc_file_exists(path)) {
        *directory = path;
        return LC_OK;
    }
    if (!status && repository)
        status = snapshot_directory(path, directory);
    else if (!status)
        status = is_hub_name(path) ? find_in_cache(path, directory)
                                   : lc_fail(LC_ENOTFOUND, "%s: no such file or directory", path);
    lc_free(path);
    return status;
}
