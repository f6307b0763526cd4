/* terminal.c: the prompt's terminal by libedit: one line at a time, with history, Tab, and Ctrl-C that drops the line.
 */
#define _GNU_SOURCE /* ppoll */
#include "terminal.h"

#include "base/pool.h"
#include "interrupt.h"

#include <dirent.h>
#include <errno.h>
#include <histedit.h>
#include <lauxlib.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES 2000

static EditLine *editor;
static History *history_list;
static char prompt_text[32];
static char history_path[4096]; /* "" = not kept */
static int complete_reference = LUA_NOREF;

static char *get_prompt(EditLine *e) {
    (void)e;
    return prompt_text;
}

/* Waits until standard input has something or the user interrupts. SIGINT is let in only while waiting, so that it
 * cannot slip in between the look at the flag and the wait. */
static bool wait_for_input(void) {
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready = 0;
    while (!lc_cancel_pending() && (ready = ppoll(&input, 1, NULL, &before)) < 0 && errno == EINTR) continue;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return ready > 0;
}

/* One character for libedit: 1, or 0 at the end of input, or -1 when interrupted. */
static int get_character(EditLine *e, wchar_t *out) {
    (void)e;
    mbstate_t state = {0};
    for (;;) {
        char byte;
        if (!wait_for_input()) return -1;
        ssize_t count = read(STDIN_FILENO, &byte, 1);
        if (count <= 0) return (int)count;
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-2) continue; /* the rest of the character follows */
        if (used == (size_t)-1) *out = (unsigned char)byte;
        return 1;
    }
}

/* Tab: asks the Lua function given to open() what to insert and what to list. */
static unsigned char complete(EditLine *e, int key) {
    (void)key;
    lua_State *L;
    el_get(e, EL_CLIENTDATA, (void **)&L);
    const LineInfo *line = el_line(e);
    int top = lua_gettop(L);
    unsigned char action = CC_REFRESH_BEEP;
    lua_rawgeti(L, LUA_REGISTRYINDEX, complete_reference);
    lua_pushlstring(L, line->buffer, (size_t)(line->cursor - line->buffer));
    if (lua_pcall(L, 1, 2, 0) == LUA_OK) {
        if (lua_isstring(L, -2) && el_insertstr(e, lua_tostring(L, -2)) == 0) action = CC_REFRESH;
        if (lua_isstring(L, -1)) {
            printf("\n%s\n", lua_tostring(L, -1));
            fflush(stdout);
            action = CC_REDISPLAY;
        }
    }
    lua_settop(L, top);
    return action;
}

/* terminal.is_terminal() -> whether a person can type here. */
static int is_terminal(lua_State *L) {
    lua_pushboolean(L, isatty(STDIN_FILENO));
    return 1;
}

/* terminal.open(history file or "", complete): complete(text before the cursor) -> text to insert | nil, list | nil. */
static int open_terminal(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (editor) return luaL_error(L, "terminal.open: it is open");
    snprintf(history_path, sizeof history_path, "%s", path);
    lua_settop(L, 2);
    complete_reference = luaL_ref(L, LUA_REGISTRYINDEX);
    setlocale(LC_CTYPE, ""); /* characters of more than one byte */
    editor = el_init("lacuna", stdin, stdout, stderr);
    history_list = history_init();
    if (!editor || !history_list) return luaL_error(L, "cannot set up the terminal");
    el_set(editor, EL_CLIENTDATA, L);
    el_set(editor, EL_EDITOR, "emacs");
    el_set(editor, EL_PROMPT, get_prompt);
    el_set(editor, EL_GETCFN, get_character);
    el_wset(editor, EL_ADDFN, L"complete", L"complete names and options", complete);
    el_set(editor, EL_BIND, "\t", "complete", NULL);
    el_set(editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    HistEvent event;
    history(history_list, &event, H_SETSIZE, HISTORY_LINES);
    history(history_list, &event, H_SETUNIQUE, 1);
    if (*history_path) history(history_list, &event, H_LOAD, history_path);
    el_set(editor, EL_HIST, history, history_list);
    el_source(editor, NULL); /* ~/.editrc */
    interrupt_at_prompt(true);
    return 0;
}

/* terminal.read(prompt) -> the line, or nil at the end of input, or false after Ctrl-C. */
static int read_line(lua_State *L) {
    snprintf(prompt_text, sizeof prompt_text, "%s", luaL_checkstring(L, 1));
    el_resize(editor);
    el_set(editor, EL_PREP_TERM, 1); /* before the prompt shows, so that no key meets the terminal's own editing */
    int length = 0;
    const char *line = el_gets(editor, &length);
    if (lc_cancel_pending()) {
        lc_cancel_clear();
        el_reset(editor);
        puts("^C");
        lua_pushboolean(L, false);
    } else if (!line || length <= 0) {
        lua_pushnil(L);
    } else {
        lua_pushlstring(L, line, (size_t)length - (line[length - 1] == '\n'));
    }
    return 1;
}

/* terminal.remember(line): into the history, and its file. */
static int remember(lua_State *L) {
    HistEvent event;
    history(history_list, &event, H_ENTER, luaL_checkstring(L, 1));
    if (*history_path) history(history_list, &event, H_SAVE, history_path);
    return 0;
}

/* terminal.attempt(fn, handler) -> as xpcall: the only place at the prompt where Ctrl-C raises an error. */
static int attempt(lua_State *L) {
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_insert(L, 1);
    interrupt_at_prompt(false);
    int status = lua_pcall(L, 0, LUA_MULTRET, 1);
    interrupt_at_prompt(true);
    lua_pushboolean(L, status == LUA_OK);
    lua_replace(L, 1);
    return lua_gettop(L);
}

static int close_terminal(lua_State *L) {
    if (editor) el_end(editor);
    if (history_list) history_end(history_list);
    editor = NULL;
    history_list = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, complete_reference);
    interrupt_at_prompt(false);
    return 0;
}

/* terminal.files(directory) -> names in it; directories end with "/". Empty when it cannot be read. */
static int files(lua_State *L) {
    const char *directory = luaL_checkstring(L, 1);
    lua_newtable(L);
    int table = lua_gettop(L);
    DIR *stream = opendir(directory);
    if (!stream) return 1;
    char path[4096];
    lua_Integer count = 0;
    for (struct dirent *entry; (entry = readdir(stream));) {
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        bool is_directory = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
        lua_pushfstring(L, "%s%s", entry->d_name, is_directory ? "/" : "");
        lua_rawseti(L, table, ++count);
    }
    closedir(stream);
    return 1;
}

/* terminal.width() -> columns; 80 when unknown. */
static int width(lua_State *L) {
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    lua_pushinteger(L, known ? size.ws_col : 80);
    return 1;
}

int luaopen_lacuna_terminal(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"is_terminal", is_terminal},
        {"open", open_terminal},
        {"read", read_line},
        {"remember", remember},
        {"attempt", attempt},
        {"close", close_terminal},
        {"files", files},
        {"width", width},
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
