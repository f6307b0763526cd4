/* status.h: errors as values.
 *
 * A function that can fail returns lc_status and leaves its outputs untouched on failure. The text of the last failure
 * lives in a thread-local buffer and says what, where, and what to try; layers above may put words in front of it. */
#ifndef LC_STATUS_H
#define LC_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum lc_status {
    LC_OK = 0,
    LC_EINVAL,    /* an argument or option is wrong */
    LC_ESHAPE,    /* shapes do not fit together */
    LC_EDTYPE,    /* element types do not fit the operation */
    LC_EDEVICE,   /* no kernel or memory on that device */
    LC_ENOMEM,    /* out of memory, or the injected failure of a test */
    LC_EIO,       /* the system refused to read or write */
    LC_EFORMAT,   /* a file's content is not what its format says */
    LC_ENOTFOUND, /* a name or file does not exist */
    LC_ECANCEL,   /* interrupted by lc_cancel() */
    LC_ENUMERIC,  /* non-finite or not positive definite */
    LC_ESTATE,    /* right call, wrong moment */
    LC_EEXTERNAL, /* a function behind lc_external failed; its own error is kept by its owner */
    LC_ESTOP      /* no error: who watches a pass has seen enough, and the pass ends early. Never reaches a user */
} lc_status;

#define LC_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* Stores the message and returns `code`, so that a failing check is one line. */
lc_status lc_fail(lc_status code, const char *format, ...) LC_PRINTF(2, 3);
/* Puts "<words>: " before the stored message; returns `code`. For callers that know where the failure happened. */
lc_status lc_fail_within(lc_status code, const char *format, ...) LC_PRINTF(2, 3);
/* The message of this thread's last failure; "" before any. Valid until the next failure on this thread. */
const char *lc_message(void);

/* Returns from the calling function when `call` fails. */
#define LC_TRY(call)                             \
    do {                                         \
        lc_status lc_try_status = (call);        \
        if (lc_try_status) return lc_try_status; \
    } while (0)

/* For functions with something to clean up: sets the local `status` and jumps to `label` when `call` fails. */
#define LC_GOTO(label, call)               \
    do {                                   \
        if ((status = (call))) goto label; \
    } while (0)

static inline int64_t lc_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t lc_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

#endif
