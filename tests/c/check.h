/* check.h: the macros of the C checks. Each test program counts what passed, prints what failed with file and line, and
 * ends its main with `return check_done();`, which prints "NAME: X passed, Y failed" and is non-zero when anything
 * failed. */
#ifndef LC_TESTS_CHECK_H
#define LC_TESTS_CHECK_H

#include "base/status.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static int check_passed, check_failed;

static inline void check_count(bool ok, const char *file, int line, const char *what) {
    if (ok) {
        check_passed++;
        return;
    }
    check_failed++;
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
}

/* The condition holds. */
#define CHECK(condition) check_count((condition), __FILE__, __LINE__, #condition)

/* |got - want| <= tolerance; two NaN, or two equal infinities, are near. */
#define CHECK_NEAR(got, want, tolerance) check_near((got), (want), (tolerance), __FILE__, __LINE__, #got)
static inline void check_near(double got, double want, double tolerance, const char *file, int line, const char *what) {
    bool ok = got == want || (isnan(got) && isnan(want)) || fabs(got - want) <= tolerance;
    check_count(ok, file, line, what);
    if (!ok) fprintf(stderr, "    got %.17g, want %.17g within %g\n", got, want, tolerance);
}

/* The call returns LC_OK; prints the engine's message otherwise. */
#define CHECK_OK(call) check_ok((call), __FILE__, __LINE__, #call)
static inline void check_ok(lc_status status, const char *file, int line, const char *what) {
    check_count(status == LC_OK, file, line, what);
    if (status) fprintf(stderr, "    status %d: %s\n", (int)status, lc_message());
}

/* The call fails with `code`, and its message contains `text`. */
#define CHECK_MESSAGE(call, code, text) check_message((call), (code), (text), __FILE__, __LINE__, #call)
static inline void check_message(lc_status status, lc_status code, const char *text, const char *file, int line,
                                 const char *what) {
    bool ok = status == code && status != LC_OK && strstr(lc_message(), text);
    check_count(ok, file, line, what);
    if (!ok)
        fprintf(stderr, "    status %d: \"%s\"; want %d with \"%s\"\n", (int)status, lc_message(), (int)code, text);
}

/* The last line of main. */
#define check_done() check_finish(__FILE__)
static inline int check_finish(const char *file) {
    const char *slash = strrchr(file, '/');
    const char *name = slash ? slash + 1 : file;
    printf("%.*s: %d passed, %d failed\n", (int)strcspn(name, "."), name, check_passed, check_failed);
    return check_failed ? 1 : 0;
}

#endif
