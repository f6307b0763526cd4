/* status.c: the message of the last failure, one buffer per thread. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

#define MESSAGE_SIZE 4096

static _Thread_local char message[MESSAGE_SIZE];

/* Both formatters go through `text`, since an argument may point into `message` itself. */
lc_status lc_fail(lc_status code, const char *format, ...) {
    char text[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(message, text, strlen(text) + 1);
    return code;
}

lc_status lc_fail_within(lc_status code, const char *format, ...) {
    char text[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : lc_min(n, MESSAGE_SIZE - 3), room = MESSAGE_SIZE - used - 3;
    size_t rest = strnlen(message, room);
    memcpy(text + used, ": ", 2);
    memcpy(text + used + 2, message, rest);
    text[used + 2 + rest] = '\0';
    memcpy(message, text, used + rest + 3);
    return code;
}

const char *lc_message(void) {
    return message;
}
