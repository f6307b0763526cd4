/* pickle.c: see pickle.h. The opcodes are those of protocols 2 to 5 (Python's pickletools), less those that make sets,
 * classes and what else no state dict holds. */
#include "io/pickle.h"

#include <endian.h>
#include <string.h>

#include "base/memory.h"

#define MAX_NAME 200 /* of a module, class or function */

typedef struct machine {
    const lc_pickle_reader *reader;
    const uint8_t *bytes;
    size_t length, at;
    lc_pickled **stack;
    size_t depth, room;
    size_t *marks; /* depths of the stack */
    size_t n_marks, mark_room;
    lc_pickled **memo;
    size_t n_memo, memo_room; /* numbers below n_memo are in use or NULL */
} machine;

static lc_status fail(const machine *m, const char *what) {
    return lc_fail(LC_EFORMAT, "%s: the pickle is damaged at byte %zu: %s", m->reader->name, m->at, what);
}

/* -- values ------------------------------------------------------------------------------------- */

lc_pickled *lc_pickle_new(lc_arena *arena, lc_pickle_kind kind) {
    lc_pickled *v = lc_arena_alloc(arena, sizeof *v);
    if (v) *v = (lc_pickled){.kind = kind};
    return v;
}

bool lc_pickle_is(const lc_pickled *string, const char *text) {
    size_t n = strlen(text);
    return string->kind == LC_PICKLE_STRING && (size_t)string->count == n && !memcmp(string->text, text, n);
}

const lc_pickled *lc_pickle_get(const lc_pickled *dict, const char *key) {
    for (int64_t i = dict->count - 1; dict->kind == LC_PICKLE_DICT && i >= 0; i--)
        if (lc_pickle_is(dict->items[2 * i], key)) return dict->items[2 * i + 1];
    return NULL;
}

const char *lc_pickle_describe(const lc_pickled *value) {
    static const char *const words[] = {"None",    "a boolean", "an integer", "a float",  "a string",
                                        "a tuple", "a list",    "a dict",     "an object"};
    return words[value->kind];
}

/* Room for `more` items; the old array stays in the arena, so growth doubles. */
static lc_status reserve(const machine *m, lc_pickled *v, int64_t more) {
    if (v->capacity - v->count >= more) return LC_OK;
    int64_t each = v->kind == LC_PICKLE_DICT ? 2 : 1, capacity = lc_max(2 * v->capacity, v->count + more);
    lc_pickled **items = lc_arena_alloc(m->reader->arena, (size_t)(capacity * each) * sizeof *items);
    if (!items) return LC_ENOMEM;
    if (v->count) memcpy(items, v->items, (size_t)(v->count * each) * sizeof *items);
    v->items = items;
    v->capacity = capacity;
    return LC_OK;
}

/* -- the pickle's bytes ------------------------------------------------------------------------- */

static lc_status take(machine *m, size_t length, const uint8_t **out) {
    if (length > m->length - m->at) return fail(m, "it ends too early");
    *out = m->bytes + m->at;
    m->at += length;
    return LC_OK;
}

/* A little-endian number of `width` bytes, at most 8. */
static lc_status take_uint(machine *m, int width, uint64_t *out) {
    *out = 0;
    const uint8_t *b = NULL;
    LC_TRY(take(m, (size_t)width, &b));
    for (int i = 0; i < width; i++) *out |= (uint64_t)b[i] << (8 * i);
    return LC_OK;
}

/* Up to the next newline, which is taken too, as a C string in the arena. */
static lc_status take_line(machine *m, const char **out) {
    const uint8_t *begin = m->bytes + m->at, *end = memchr(begin, '\n', m->length - m->at);
    if (!end) return fail(m, "a line has no end");
    *out = lc_arena_strndup(m->reader->arena, (const char *)begin, (size_t)(end - begin));
    if (!*out) return LC_ENOMEM;
    m->at += (size_t)(end - begin) + 1;
    return LC_OK;
}

/* -- the stack ---------------------------------------------------------------------------------- */

static lc_status push(machine *m, lc_pickled *v) {
    if (!v) return LC_ENOMEM;
    if (m->depth == m->room) {
        size_t room = m->room ? 2 * m->room : 256;
        lc_pickled **grown = lc_realloc(m->stack, room * sizeof *grown);
        if (!grown) return LC_ENOMEM;
        m->stack = grown;
        m->room = room;
    }
    m->stack[m->depth++] = v;
    return LC_OK;
}

/* Values above the last mark may be popped. */
static size_t floor_of(const machine *m) {
    return m->n_marks ? m->marks[m->n_marks - 1] : 0;
}

static lc_status pop(machine *m, lc_pickled **out) {
    if (m->depth == floor_of(m)) return fail(m, "the stack is empty");
    *out = m->stack[--m->depth];
    return LC_OK;
}

static lc_status top(const machine *m, lc_pickled **out) {
    if (m->depth == floor_of(m)) return fail(m, "the stack is empty");
    *out = m->stack[m->depth - 1];
    return LC_OK;
}

static lc_status mark(machine *m) {
    if (m->n_marks == m->mark_room) {
        size_t room = m->mark_room ? 2 * m->mark_room : 64;
        size_t *grown = lc_realloc(m->marks, room * sizeof *grown);
        if (!grown) return LC_ENOMEM;
        m->marks = grown;
        m->mark_room = room;
    }
    m->marks[m->n_marks++] = m->depth;
    return LC_OK;
}

/* The values above the last mark, which is gone; they stay where they are until the next push. */
static lc_status pop_mark(machine *m, lc_pickled ***items, int64_t *count) {
    if (!m->n_marks) return fail(m, "there is no mark");
    size_t begin = m->marks[--m->n_marks];
    *count = (int64_t)(m->depth - begin);
    *items = m->stack + begin;
    m->depth = begin;
    return LC_OK;
}

/* -- the memo ----------------------------------------------------------------------------------- */

/* Numbers count up from zero in every pickle; one beyond its length is a try at our memory. */
static lc_status put(machine *m, uint64_t number) {
    lc_pickled *v = NULL;
    LC_TRY(top(m, &v));
    if (number >= m->length) return fail(m, "a memo number is larger than the pickle");
    if (number >= m->memo_room) {
        size_t room = 2 * (size_t)number + 64;
        lc_pickled **grown = lc_realloc(m->memo, room * sizeof *grown);
        if (!grown) return LC_ENOMEM;
        m->memo = grown;
        m->memo_room = room;
    }
    while (m->n_memo <= number) m->memo[m->n_memo++] = NULL;
    m->memo[number] = v;
    return LC_OK;
}

static lc_status get(machine *m, uint64_t number) {
    if (number >= m->n_memo || !m->memo[number]) return fail(m, "a memo number was never set");
    return push(m, m->memo[number]);
}

/* -- opcodes ------------------------------------------------------------------------------------ */

static lc_status push_new(machine *m, int kind) {
    return push(m, lc_pickle_new(m->reader->arena, (lc_pickle_kind)kind));
}

static lc_status push_bool(machine *m, int yes) {
    lc_pickled *v = lc_pickle_new(m->reader->arena, LC_PICKLE_BOOL);
    if (v) v->yes = yes;
    return push(m, v);
}

static lc_status push_int(machine *m, int64_t value) {
    lc_pickled *v = lc_pickle_new(m->reader->arena, LC_PICKLE_INT);
    if (v) v->integer = value;
    return push(m, v);
}

static lc_status push_uint(machine *m, int width) {
    uint64_t value;
    LC_TRY(take_uint(m, width, &value));
    return push_int(m, (int64_t)value);
}

/* Two's complement of `length` bytes. */
static lc_status push_signed(machine *m, int length) {
    uint64_t value;
    LC_TRY(take_uint(m, length, &value));
    if (length > 0 && length < 8 && value >> (8 * length - 1)) value |= UINT64_MAX << (8 * length);
    return push_int(m, (int64_t)value);
}

/* The same; how many bytes there are stands before them in `width` bytes. */
static lc_status push_long(machine *m, int width) {
    uint64_t length;
    LC_TRY(take_uint(m, width, &length));
    return length > 8 ? fail(m, "an integer has more than 64 bits") : push_signed(m, (int)length);
}

static lc_status push_float(machine *m, int width) {
    const uint8_t *b = NULL;
    LC_TRY(take(m, (size_t)width, &b));
    lc_pickled *v = lc_pickle_new(m->reader->arena, LC_PICKLE_FLOAT);
    if (!v) return LC_ENOMEM;
    uint64_t bits;
    memcpy(&bits, b, sizeof bits);
    bits = be64toh(bits);
    memcpy(&v->number, &bits, sizeof bits);
    return push(m, v);
}

/* Text after its length of `width` bytes. */
static lc_status push_text(machine *m, int width) {
    uint64_t length;
    const uint8_t *text = NULL;
    LC_TRY(take_uint(m, width, &length));
    if (length > m->length - m->at) return fail(m, "a text is longer than the pickle");
    LC_TRY(take(m, (size_t)length, &text));
    lc_pickled *v = lc_pickle_new(m->reader->arena, LC_PICKLE_STRING);
    if (!v) return LC_ENOMEM;
    v->text = (const char *)text;
    v->count = (int64_t)length;
    return push(m, v);
}

/* Items of a dict are keys and values in turn. */
static lc_status count_entries(const machine *m, int kind, int64_t items, int64_t *out) {
    if (kind == LC_PICKLE_DICT && items % 2) return fail(m, "a key of a dict has no value");
    *out = kind == LC_PICKLE_DICT ? items / 2 : items;
    return LC_OK;
}

static lc_status push_items(machine *m, int kind, lc_pickled **items, int64_t count) {
    int64_t n = 0;
    LC_TRY(count_entries(m, kind, count, &n));
    lc_pickled *v = lc_pickle_new(m->reader->arena, (lc_pickle_kind)kind);
    if (!v) return LC_ENOMEM;
    LC_TRY(reserve(m, v, n));
    if (count) memcpy(v->items, items, (size_t)count * sizeof *items);
    v->count = n;
    return push(m, v);
}

static lc_status push_marked(machine *m, int kind) {
    lc_pickled **items = NULL;
    int64_t count = 0;
    LC_TRY(pop_mark(m, &items, &count));
    return push_items(m, kind, items, count);
}

static lc_status push_tuple(machine *m, int count) {
    if (m->depth - floor_of(m) < (size_t)count) return fail(m, "the stack is empty");
    m->depth -= (size_t)count;
    return push_items(m, LC_PICKLE_TUPLE, m->stack + m->depth, count);
}

/* Adds items to the list or dict on top of the stack. */
static lc_status extend(machine *m, int kind, lc_pickled **items, int64_t count) {
    lc_pickled *v = NULL;
    int64_t n = 0, each = kind == LC_PICKLE_DICT ? 2 : 1;
    LC_TRY(top(m, &v));
    LC_TRY(count_entries(m, kind, count, &n));
    if ((int)v->kind != kind)
        return fail(m, each == 2 ? "items are set on what is not a dict" : "items are appended to what is not a list");
    LC_TRY(reserve(m, v, n));
    if (count) memcpy(v->items + each * v->count, items, (size_t)count * sizeof *items);
    v->count += n;
    return LC_OK;
}

static lc_status extend_marked(machine *m, int kind) {
    lc_pickled **items = NULL;
    int64_t count = 0;
    LC_TRY(pop_mark(m, &items, &count));
    return extend(m, kind, items, count);
}

/* By one item, or one key and its value. */
static lc_status extend_once(machine *m, int kind) {
    size_t count = kind == LC_PICKLE_DICT ? 2 : 1;
    if (m->depth - floor_of(m) < count + 1) return fail(m, "the stack is empty");
    m->depth -= count;
    return extend(m, kind, m->stack + m->depth, (int64_t)count);
}

static lc_status push_global(machine *m, const char *module, const char *name) {
    lc_pickled *v = NULL;
    LC_TRY(m->reader->global(m->reader->context, module, name, &v));
    return push(m, v);
}

static lc_status run_global(machine *m, int unused) {
    (void)unused;
    const char *module = NULL, *name = NULL;
    LC_TRY(take_line(m, &module));
    LC_TRY(take_line(m, &name));
    return push_global(m, module, name);
}

/* An instance of a class of Python 2: most names fail by themselves. */
static lc_status run_instance(machine *m, int unused) {
    LC_TRY(run_global(m, unused));
    return fail(m, "an instance of a class");
}

/* A long text in the memo would be copied as often as it is named. */
static bool is_name(const lc_pickled *v) {
    return v->kind == LC_PICKLE_STRING && v->count <= MAX_NAME && !memchr(v->text, 0, (size_t)v->count);
}

static lc_status run_stack_global(machine *m, int unused) {
    (void)unused;
    lc_pickled *name = NULL, *module = NULL;
    LC_TRY(pop(m, &name));
    LC_TRY(pop(m, &module));
    if (!is_name(module) || !is_name(name)) return fail(m, "a name is not a short string without zero bytes");
    const char *a = lc_arena_strndup(m->reader->arena, module->text, (size_t)module->count);
    const char *b = a ? lc_arena_strndup(m->reader->arena, name->text, (size_t)name->count) : NULL;
    return b ? push_global(m, a, b) : LC_ENOMEM;
}

static lc_status run_reduce(machine *m, int unused) {
    (void)unused;
    lc_pickled *arguments = NULL, *callable = NULL, *v = NULL;
    LC_TRY(pop(m, &arguments));
    LC_TRY(pop(m, &callable));
    if (arguments->kind != LC_PICKLE_TUPLE || callable->kind != LC_PICKLE_OBJECT)
        return fail(m, "a call of what is not a function");
    LC_TRY(m->reader->call(m->reader->context, callable, arguments, &v));
    return push(m, v);
}

static lc_status run_persistent(machine *m, int unused) {
    (void)unused;
    lc_pickled *id = NULL, *v = NULL;
    LC_TRY(pop(m, &id));
    LC_TRY(m->reader->persistent(m->reader->context, id, &v));
    return push(m, v);
}

/* Attributes: those of a dict (OrderedDict's _metadata) are passed over, nothing else has any. */
static lc_status run_build(machine *m, int unused) {
    (void)unused;
    lc_pickled *state = NULL, *object = NULL;
    LC_TRY(pop(m, &state));
    LC_TRY(top(m, &object));
    return object->kind == LC_PICKLE_DICT ? LC_OK : fail(m, "attributes are set on what has none");
}

static lc_status run_put(machine *m, int width) {
    uint64_t number;
    LC_TRY(take_uint(m, width, &number));
    return put(m, number);
}

static lc_status run_memoize(machine *m, int unused) {
    (void)unused;
    return put(m, m->n_memo);
}

static lc_status run_get(machine *m, int width) {
    uint64_t number;
    LC_TRY(take_uint(m, width, &number));
    return get(m, number);
}

static lc_status run_mark(machine *m, int unused) {
    (void)unused;
    return mark(m);
}

static lc_status run_pop(machine *m, int unused) {
    (void)unused;
    lc_pickled *v;
    if (m->depth > floor_of(m) || !m->n_marks) return pop(m, &v);
    m->n_marks--;
    return LC_OK;
}

static lc_status run_pop_mark(machine *m, int unused) {
    (void)unused;
    lc_pickled **items;
    int64_t count;
    return pop_mark(m, &items, &count);
}

static lc_status run_dup(machine *m, int unused) {
    (void)unused;
    lc_pickled *v = NULL;
    LC_TRY(top(m, &v));
    return push(m, v);
}

static lc_status skip(machine *m, int length) {
    const uint8_t *ignored;
    return take(m, (size_t)length, &ignored);
}

static const struct {
    lc_status (*run)(machine *m, int argument);
    int argument;
} opcodes[256] = {
    [0x80] = {skip, 1}, /* PROTO */
    [0x95] = {skip, 8}, /* FRAME */
    ['N'] = {push_new, LC_PICKLE_NONE},
    [0x88] = {push_bool, true},
    [0x89] = {push_bool, false},
    ['J'] = {push_signed, 4}, /* BININT */
    ['K'] = {push_uint, 1},   /* BININT1 */
    ['M'] = {push_uint, 2},   /* BININT2 */
    [0x8a] = {push_long, 1},  /* LONG1 */
    [0x8b] = {push_long, 4},  /* LONG4 */
    ['G'] = {push_float, 8},  /* BINFLOAT */
    [0x8c] = {push_text, 1},  /* SHORT_BINUNICODE */
    ['X'] = {push_text, 4},   /* BINUNICODE */
    [0x8d] = {push_text, 8},  /* BINUNICODE8 */
    ['U'] = {push_text, 1},   /* SHORT_BINSTRING */
    ['T'] = {push_text, 4},   /* BINSTRING */
    ['C'] = {push_text, 1},   /* SHORT_BINBYTES */
    ['B'] = {push_text, 4},   /* BINBYTES */
    [0x8e] = {push_text, 8},  /* BINBYTES8 */
    [']'] = {push_new, LC_PICKLE_LIST},
    ['}'] = {push_new, LC_PICKLE_DICT},
    [')'] = {push_new, LC_PICKLE_TUPLE},
    ['l'] = {push_marked, LC_PICKLE_LIST},
    ['d'] = {push_marked, LC_PICKLE_DICT},
    ['t'] = {push_marked, LC_PICKLE_TUPLE},
    [0x85] = {push_tuple, 1},
    [0x86] = {push_tuple, 2},
    [0x87] = {push_tuple, 3},
    ['a'] = {extend_once, LC_PICKLE_LIST},   /* APPEND */
    ['e'] = {extend_marked, LC_PICKLE_LIST}, /* APPENDS */
    ['s'] = {extend_once, LC_PICKLE_DICT},   /* SETITEM */
    ['u'] = {extend_marked, LC_PICKLE_DICT}, /* SETITEMS */
    ['('] = {run_mark, 0},
    ['0'] = {run_pop, 0},
    ['1'] = {run_pop_mark, 0},
    ['2'] = {run_dup, 0},
    ['q'] = {run_put, 1},      /* BINPUT */
    ['r'] = {run_put, 4},      /* LONG_BINPUT */
    [0x94] = {run_memoize, 0}, /* MEMOIZE */
    ['h'] = {run_get, 1},      /* BINGET */
    ['j'] = {run_get, 4},      /* LONG_BINGET */
    ['c'] = {run_global, 0},
    [0x93] = {run_stack_global, 0},
    ['i'] = {run_instance, 0},
    ['R'] = {run_reduce, 0},
    ['b'] = {run_build, 0},
    ['Q'] = {run_persistent, 0}, /* BINPERSID */
};

static lc_status run(machine *m, uint8_t opcode) {
    if (opcodes[opcode].run) return opcodes[opcode].run(m, opcodes[opcode].argument);
    return lc_fail(LC_EFORMAT,
                   "%s: opcode 0x%02x at byte %zu of the pickle is none that builds tensors and plain values; save "
                   "model.state_dict() alone, with torch.save",
                   m->reader->name, opcode, m->at - 1);
}

static lc_status run_all(machine *m, lc_pickled **out) {
    for (;;) {
        const uint8_t *opcode = NULL;
        LC_TRY(take(m, 1, &opcode));
        if (*opcode == '.') return m->n_marks ? fail(m, "a mark is left") : pop(m, out);
        LC_TRY(run(m, *opcode));
    }
}

lc_status lc_pickle_read(const lc_pickle_reader *reader, const char *bytes, size_t length, size_t *used,
                         lc_pickled **out) {
    machine m = {.reader = reader, .bytes = (const uint8_t *)bytes, .length = length};
    lc_status status = run_all(&m, out);
    if (used) *used = m.at;
    lc_free(m.stack);
    lc_free(m.marks);
    lc_free(m.memo);
    return status;
}
