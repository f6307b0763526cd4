/* arena.c: see arena.h. Objects are cut from blocks one after the other; one that is larger than a block gets its own. */
#include "base/arena.h"

#include <stdalign.h>
#include <string.h>

#include "base/memory.h"

#define BLOCK_BYTES ((size_t)16 << 10)
#define ALIGNMENT alignof(max_align_t)

struct lc_arena_block {
    struct lc_arena_block *next;
    size_t used, size; /* of `bytes` */
    alignas(ALIGNMENT) char bytes[];
};

void *lc_arena_alloc(lc_arena *a, size_t bytes) {
    struct lc_arena_block *block = a->blocks;
    if (bytes > SIZE_MAX / 2) {
        lc_fail(LC_ENOMEM, "out of memory: %zu bytes", bytes);
        return NULL;
    }
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!block || bytes > block->size - block->used) {
        size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        struct lc_arena_block *fresh = lc_alloc(sizeof *fresh + size);
        if (!fresh) return NULL;
        *fresh = (struct lc_arena_block){.size = size};
        /* A large object's block is full at once: the one before it stays in front. */
        if (block && bytes > BLOCK_BYTES) {
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            a->blocks = fresh;
        }
        block = fresh;
    }
    void *object = block->bytes + block->used;
    block->used += bytes;
    return object;
}

char *lc_arena_strndup(lc_arena *a, const char *text, size_t length) {
    char *copy = lc_arena_alloc(a, length + 1);
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

void lc_arena_free(lc_arena *a) {
    for (struct lc_arena_block *block = a->blocks, *next; block; block = next) {
        next = block->next;
        lc_free(block);
    }
    a->blocks = NULL;
}
