/* weights_format.h: what a file format gives to weights.c. A format is one file and one row of its table. */
#ifndef LC_WEIGHTS_FORMAT_H
#define LC_WEIGHTS_FORMAT_H

#include "base/arena.h"
#include "base/file.h"
#include "io/weights.h"

typedef struct lc_weights_format lc_weights_format;

/* One open file of a set. */
typedef struct lc_weights_file {
    const lc_weights_format *format;
    lc_reader *reader; /* closed by weights.c; NULL when the format reads in its own way */
    void *state;       /* the format's own */
} lc_weights_file;

struct lc_weights_format {
    const char *readable; /* its types that lacuna reads, for messages */
    /* Whether a file that begins with these bytes is of this format. */
    bool (*is_ours)(const uint8_t *head, size_t length);
    /* Opens `path` into *file and calls lc_weights_add for each tensor, lc_weights_add_metadata for each entry. On failure `close` follows. */
    lc_status (*open)(lc_weights *w, lc_weights_file *file, const char *path);
    /* Elements first..first+count as they lie in the file, as e->dtype; `first` is a multiple of 256. NULL: by the
     * reader, at e->begin. */
    lc_status (*read)(lc_weights_file *file, const lc_stored *e, int64_t first, int64_t count, void *out);
    void (*close)(lc_weights_file *file); /* NULL: nothing to do */
};

/* Adds a copy of *e, its `file` set. The name must live as long as the file: in the header, or in the set's arena. */
lc_status lc_weights_add(lc_weights *w, const lc_stored *e);
/* The same for metadata, whose strings must live as long. */
lc_status lc_weights_add_metadata(lc_weights *w, const lc_metadata *entry);
/* Lives as long as the set. */
lc_arena *lc_weights_arena(lc_weights *w);

extern const lc_weights_format lc_format_safetensors, lc_format_gguf, lc_format_torch_zip, lc_format_torch_legacy;

#endif
