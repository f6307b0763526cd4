/* schedule.c: lc.schedule, lc.ramp, and the algebra of schedules. */
#include "schedule.h"

#include <string.h>

#include "base/memory.h"

#define MAX_KNOTS 256

static const lcl_option knot_rows[] = {{"step", LCL_ANY, .doc = "in place of a share of training"}, {0}};
static const lcl_option curve_rows[] = {{"curve", LCL_ANY, .doc = "'linear', 'cubic' or 'cosine'"}, {0}};
static const lcl_option_set knot_set = {"schedule: a knot", knot_rows}, ramp_set = {"ramp", curve_rows};
static const lcl_option_set schedule_set = {"schedule", curve_rows + 1}; /* no names at all */

/* Reads {value, from} or {value, step = N} at the top of the stack. */
static lc_knot read_knot(lua_State *L, int number) {
    if (!lua_istable(L, -1))
        lcl_error(L, "schedule: knot %d must be {value, from} or {value, step = N}, got %s", number,
                  lcl_describe(L, -1));
    lc_knot k = {0};
    int knot = lua_gettop(L);
    lcl_names(L, knot, &knot_set);
    if (lua_rawgeti(L, knot, 1) != LUA_TNUMBER)
        lcl_error(L, "schedule: knot %d: the value must be a number, got %s", number, lcl_describe(L, -1));
    k.value = lua_tonumber(L, -1);
    int from = lua_rawgeti(L, knot, 2), step = lua_getfield(L, knot, "step"), exact = 0;
    if ((from == LUA_TNIL) == (step == LUA_TNIL))
        lcl_error(L, "schedule: knot %d must have either a share, {%g, 0.25}, or a step, {%g, step = 500}", number,
                  k.value, k.value);
    if (step != LUA_TNIL) {
        k.step = step == LUA_TNUMBER ? lua_tointegerx(L, -1, &exact) : 0;
        if (!exact || k.step < 1) lcl_error(L, "schedule: knot %d: step must be an integer from 1", number);
    } else {
        if (from != LUA_TNUMBER)
            lcl_error(L, "schedule: knot %d: from must be a number, got %s", number, lcl_describe(L, -2));
        k.from = lua_tonumber(L, -2);
    }
    lua_settop(L, knot);
    return k;
}

static int push_knots(lua_State *L, int arg, lc_curve curve) {
    lc_knot knots[MAX_KNOTS];
    int n = (int)lua_rawlen(L, arg);
    if (n > MAX_KNOTS) lcl_error(L, "schedule: at most %d knots, got %d", MAX_KNOTS, n);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, arg, i + 1);
        knots[i] = read_knot(L, i + 1);
        lua_pop(L, 1);
    }
    lc_schedule **slot = lcl_push(L, &LCL_SCHEDULE);
    return lcl_done(L, lc_schedule_knots(knots, n, curve, slot), 1);
}

lc_schedule *lcl_schedule(lua_State *L, int arg) {
    arg = lua_absindex(L, arg);
    lc_schedule *s = lcl_test(L, arg, &LCL_SCHEDULE);
    if (s) {
        lua_pushvalue(L, arg);
        return s;
    }
    if (lua_type(L, arg) == LUA_TNUMBER) {
        lc_schedule **slot = lcl_push(L, &LCL_SCHEDULE);
        lcl_done(L, lc_schedule_constant(lua_tonumber(L, arg), slot), 1);
        return *slot;
    }
    if (!lua_istable(L, arg)) lcl_expected(L, arg, "a number, a knot list {{value, from}, ...} or a schedule");
    lcl_names(L, arg, &schedule_set);
    push_knots(L, arg, LC_CURVE_HOLD);
    return lcl_test(L, -1, &LCL_SCHEDULE);
}

static int make_schedule(lua_State *L) {
    lcl_schedule(L, 1);
    return 1;
}

static int make_ramp(lua_State *L) {
    static const struct {
        const char *name;
        lc_curve curve;
    } curves[] = {{"linear", LC_CURVE_LINEAR}, {"cubic", LC_CURVE_CUBIC}, {"cosine", LC_CURVE_COSINE}};
    if (!lua_istable(L, 1)) lcl_expected(L, 1, "a knot list {{value, from}, ..., curve = \"linear\"}");
    lcl_names(L, 1, &ramp_set);
    int type = lua_getfield(L, 1, "curve");
    const char *name = type == LUA_TNIL ? "linear" : type == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (int i = 0; i < 3; i++)
        if (strcmp(name, curves[i].name) == 0) return push_knots(L, 1, curves[i].curve);
    lcl_error(L, "ramp: curve must be 'linear', 'cubic' or 'cosine', got %s", lcl_describe(L, -1));
}

static int schedule_at(lua_State *L) {
    lc_schedule *s = lcl_check(L, 1, &LCL_SCHEDULE);
    double progress = lcl_number(L, 2);
    if (!(progress >= 0 && progress <= 1))
        lcl_error(L, "at: progress is the share of training done, from 0 to 1, got %g", progress);
    if (lc_schedule_by_step(s) && lua_isnoneornil(L, 3))
        lcl_error(L, "at: this schedule has knots at steps: give the step too, s:at(t.progress, t.step)");
    lua_pushnumber(L, lcl_plain(lc_schedule_at(s, progress, lua_isnoneornil(L, 3) ? 1 : lcl_integer(L, 3))));
    return 1;
}

typedef lc_status (*pair_function)(lc_schedule *a, lc_schedule *b, lc_schedule **out);

static int make_pair(lua_State *L, pair_function make) {
    lc_schedule *a = lcl_schedule(L, 1), *b = lcl_schedule(L, 2);
    lc_schedule **slot = lcl_push(L, &LCL_SCHEDULE);
    return lcl_done(L, make(a, b, slot), 1);
}

static int schedule_add(lua_State *L) {
    return make_pair(L, lc_schedule_add);
}
static int schedule_multiply(lua_State *L) {
    return make_pair(L, lc_schedule_multiply);
}
static int schedule_compose(lua_State *L) {
    return make_pair(L, lc_schedule_compose);
}

static int schedule_clamp(lua_State *L) {
    lc_schedule *s = lcl_check(L, 1, &LCL_SCHEDULE);
    double low = lcl_number(L, 2), high = lcl_number(L, 3);
    lc_schedule **slot = lcl_push(L, &LCL_SCHEDULE);
    return lcl_done(L, lc_schedule_clamp(s, low, high, slot), 1);
}

static int schedule_tostring(lua_State *L) {
    lc_schedule *s = lcl_check(L, 1, &LCL_SCHEDULE);
    luaL_Buffer b;
    char *room = luaL_buffinitsize(L, &b, 4096);
    char *text = NULL;
    lc_status status = lc_schedule_text(s, 6, &text);
    if (!status) {
        size_t length = strlen(text);
        memcpy(room, text, length < 4096 ? length : 4096);
        lc_free(text);
        luaL_pushresultsize(&b, length < 4096 ? length : 4096);
    }
    return lcl_done(L, status, 1);
}

static const luaL_Reg meta[] = {
    {"__tostring", schedule_tostring}, {"__add", schedule_add}, {"__mul", schedule_multiply}, {NULL, NULL}};

static void release(void *object) {
    lc_schedule_release(object);
}

const lcl_type LCL_SCHEDULE = {"lacuna.schedule", release, NULL, meta};

static const lcl_function methods[] = {
    {"at", schedule_at, "schedule:at(progress, step) -> number",
     "The value at a share of training, t.progress; schedules with knots at steps need t.step too."},
    {"add", schedule_add, "schedule:add(other) -> schedule",
     "The sum with a number, knot list or schedule; s + other too."},
    {"multiply", schedule_multiply, "schedule:multiply(other) -> schedule",
     "The product with a number, knot list or schedule; s * other too."},
    {"clamp", schedule_clamp, "schedule:clamp(low, high) -> schedule", "Kept within low..high."},
    {"compose", schedule_compose, "schedule:compose(clock) -> schedule",
     "s at the share of training that `clock` gives: lc.ramp {{0, 0.5}, {1, 1}} as clock starts it half way in."},
    {0},
};

static const lcl_function functions[] = {
    {"schedule", make_schedule, "lc.schedule(number | {{value, from}, ...}) -> schedule",
     "A value that holds from knot to knot. `from` is a share of training; {value, step = 500} is an optimizer step. A "
     "knot "
     "takes effect at the first step t of n with (t - 1) / n >= from."},
    {"ramp", make_ramp, "lc.ramp {{value, from}, ..., curve = \"linear\"} -> schedule",
     "A value that goes from knot to knot in a line, or by curve = \"cubic\" (1 - (1 - s)^3) or \"cosine\"."},
    {0},
};

int luaopen_lacuna_schedule(lua_State *L) {
    lcl_register(L, &LCL_SCHEDULE);
    lcl_metatable(L, &LCL_SCHEDULE);
    lua_getfield(L, -1, "__index");
    lcl_functions(L, methods);
    lua_settop(L, 0);
    lua_createtable(L, 0, 2);
    lcl_functions(L, functions);
    return 1;
}
