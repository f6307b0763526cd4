/* blas.c: finds, configures and opens OpenBLAS. */
#define _GNU_SOURCE
#include "ops/blas.h"
#include "ops/gemm_avx512.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>

static lc_blas blas;
static lc_blas_info info;
static char preset_text[64];
static bool opened, keep_environment;

/* The fastest kernels of OpenBLAS 0.3 that this CPU runs. AVX-512 kernels of one kind serve Intel and AMD alike; those
 * named after newer CPUs were no faster in f32. NULL: an old CPU, which the library knows. */
static const char *fastest_kernels(void) {
    __builtin_cpu_init();
    if (lc_has_avx512()) return "SKYLAKEX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "HASWELL";
    return NULL;
}

static lc_status find_functions(void *library) {
    const struct {
        const char *name;
        void *slot;
    } functions[] = {
        {"cblas_sgemm", &blas.sgemm}, {"cblas_dgemm", &blas.dgemm}, {"cblas_sgemv", &blas.sgemv},
        {"cblas_dgemv", &blas.dgemv}, {"cblas_ssyrk", &blas.ssyrk}, {"cblas_dsyrk", &blas.dsyrk},
        {"cblas_strsm", &blas.strsm}, {"cblas_dtrsm", &blas.dtrsm}, {"spotrf_", &blas.spotrf},
        {"dpotrf_", &blas.dpotrf},    {"sgetrf_", &blas.sgetrf},    {"dgetrf_", &blas.dgetrf},
        {"sgetri_", &blas.sgetri},    {"dgetri_", &blas.dgetri},    {"dsyevd_", &blas.dsyevd},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *function = dlsym(library, functions[i].name);
        if (!function)
            return lc_fail(LC_ENOTFOUND, "blas: libopenblas.so.0 has no %s; install Debian's libopenblas0-pthread",
                           functions[i].name);
        *(void **)functions[i].slot = function;
    }
    return LC_OK;
}

static void describe(void *library) {
    const char *(*core)(void) = (const char *(*)(void))dlsym(library, "openblas_get_corename");
    const char *(*config)(void) = (const char *(*)(void))dlsym(library, "openblas_get_config");
    struct link_map *map = NULL;
    info.core = core ? core() : "unknown";
    info.config = config ? config() : "unknown";
    info.library = dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map ? map->l_name : "libopenblas.so.0";
}

lc_status lc_blas_open(const lc_blas **out) {
    if (!opened) {
        setenv("OPENBLAS_NUM_THREADS", "1", 1);
        setenv("OMP_NUM_THREADS", "1", 1);
        const char *preset = getenv("OPENBLAS_CORETYPE");
        if (preset && !info.preset) {
            snprintf(preset_text, sizeof preset_text, "%s", preset);
            info.preset = preset_text;
        }
        info.chosen = keep_environment ? NULL : fastest_kernels();
        if (info.chosen) setenv("OPENBLAS_CORETYPE", info.chosen, 1);
        void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
        if (!library) return lc_fail(LC_ENOTFOUND, "blas: %s; install Debian's libopenblas0-pthread", dlerror());
        LC_TRY(find_functions(library));
        describe(library);
        opened = true;
    }
    *out = &blas;
    return LC_OK;
}

lc_status lc_blas_keep_environment(bool keep) {
    if (opened)
        return lc_fail(LC_ESTATE, "blas: the library is open already; choose its kernels before the first product");
    keep_environment = keep;
    return LC_OK;
}

lc_status lc_blas_describe(lc_blas_info *out) {
    const lc_blas *functions;
    LC_TRY(lc_blas_open(&functions));
    *out = info;
    return LC_OK;
}
