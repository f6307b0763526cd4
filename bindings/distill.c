/* distill.c: the module lacuna.core.distill: the loss of a student under a teacher, for lc.distill and lc.loss.kl. */
#include "run/distill.h"

#include "model.h"

static const lcl_option rows[] = {
    {"temperature", LCL_NUMBER, offsetof(lc_distill_options, temperature), .min = 1e-6, .max = 1e6, .fallback = "1",
     .doc = "softens both distributions"},
    {"alpha", LCL_NUMBER, offsetof(lc_distill_options, alpha), .min = 0, .max = 1, .fallback = "1",
     .doc = "share of the teacher in the loss"},
    {"train", LCL_BOOL, offsetof(lc_distill_options, train), .fallback = "true", .doc = "the student's dropout on"},
    {0},
};
static const lcl_option_set set = {"distill", rows};

/* loss(student, batch, teacher, teacher's batch, options) -> loss, number of labelled tokens */
static int loss(lua_State *L) {
    lc_model *student = lcl_check(L, 1, &LCL_MODEL), *teacher = lcl_check(L, 3, &LCL_MODEL);
    lc_distill_options o;
    lc_batch batch, teacher_batch;
    lcl_options(L, 5, &set, &o);
    lcl_batch(L, 2, &batch);
    lcl_batch(L, 4, &teacher_batch);
    int64_t count = 0;
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_distill(student, &batch, teacher, &teacher_batch, &o, slot, &count);
    lcl_leave(outer);
    lcl_done(L, status, 1);
    lua_pushinteger(L, count);
    return 2;
}

int luaopen_lacuna_distill(lua_State *L) {
    static const luaL_Reg functions[] = {{"loss", loss}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
