/* Tiled products against plain loops, and their bits at one and more threads. */
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "check.h"
#include "ops/blas.h"
#include "ops/gemm.h"
#include "ops/op.h"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

static double element(lc_dtype dtype, const void *data, int64_t i) {
    return dtype == LC_F32 ? ((const float *)data)[i] : ((const double *)data)[i];
}

static void *random_matrix(lc_dtype dtype, int64_t n, const char *name) {
    lc_stream s = lc_stream_make(7, name);
    void *data = lc_buffer_new((size_t)n * lc_dtype_size(dtype));
    if (dtype == LC_F32)
        CHECK_OK(lc_stream_fill_normal_f32(&s, data, n));
    else
        CHECK_OK(lc_stream_fill_normal_f64(&s, data, n));
    return data;
}

/* Worst error of C = 0.5 op(A) op(B) + beta C0 against a sum in f64, as a share of sqrt(K). */
static void check_product(lc_dtype dtype, bool ta, bool tb, int64_t M, int64_t N, int64_t K, double beta) {
    size_t size = lc_dtype_size(dtype);
    int64_t pad = 3, lda = (ta ? M : K) + pad, ldb = (tb ? K : N) + pad, ldc = N + pad;
    int64_t na = (ta ? K : M) * lda, nb = (tb ? N : K) * ldb, nc = M * ldc;
    void *A = random_matrix(dtype, na, "a"), *B = random_matrix(dtype, nb, "b"),
         *before = random_matrix(dtype, nc, "c");
    void *C[2] = {lc_buffer_new(nc * size), lc_buffer_new(nc * size)};
    for (int t = 0; t < 2; t++) {
        memcpy(C[t], before, nc * size);
        CHECK_OK(lc_set_threads(t + 1));
        uint64_t macs = lc_macs();
        CHECK_OK(lc_gemm(dtype, ta, tb, M, N, K, 0.5, A, lda, B, ldb, beta, C[t], ldc));
        CHECK(lc_macs() - macs == (uint64_t)(M * N * K));
    }
    CHECK(memcmp(C[0], C[1], nc * size) == 0);
    double worst = 0;
    for (int64_t i = 0; i<M; i += M> 64 ? 13 : 1)
        for (int64_t j = 0; j < ldc; j++) {
            double want = element(dtype, before, i * ldc + j) * (j < N ? beta : 1);
            for (int64_t k = 0; j < N && k < K; k++)
                want += 0.5 * element(dtype, A, ta ? k * lda + i : i * lda + k) *
                        element(dtype, B, tb ? j * ldb + k : k * ldb + j);
            worst = fmax(worst, fabs(want - element(dtype, C[0], i * ldc + j)));
        }
    CHECK_NEAR(worst, 0, (dtype == LC_F32 ? 2e-6 : 2e-14) * sqrt((double)K + 1));
    lc_buffer_free(A, na * size);
    lc_buffer_free(B, nb * size);
    lc_buffer_free(before, nc * size);
    for (int t = 0; t < 2; t++) lc_buffer_free(C[t], nc * size);
}

static void check_gram(lc_dtype dtype, int64_t N, int64_t K) {
    size_t size = lc_dtype_size(dtype), bytes = N * N * sizeof(double);
    void *X = random_matrix(dtype, N * K, "x");
    double *H[2];
    for (int t = 0; t < 2; t++) {
        H[t] = lc_buffer_new(bytes);
        memset(H[t], 0, bytes);
        CHECK_OK(lc_set_threads(t + 1));
        for (int i = 0; i < 2; i++) CHECK_OK(lc_gram_add(dtype, N, K, X, N, H[t]));
        CHECK(N < 2 || H[t][1] == 0); /* above the diagonal */
        CHECK_OK(lc_gram_mirror(N, H[t]));
    }
    CHECK(memcmp(H[0], H[1], bytes) == 0);
    double worst = 0;
    for (int64_t i = 0; i<N; i += N> 64 ? 7 : 1)
        for (int64_t j = 0; j<N; j += N> 64 ? 5 : 1) {
            double want = 0;
            for (int64_t k = 0; k < K; k++) want += 2 * element(dtype, X, k * N + i) * element(dtype, X, k * N + j);
            worst = fmax(worst, fabs(H[0][i * N + j] - want));
        }
    CHECK_NEAR(worst, 0, (dtype == LC_F32 ? 2e-6 : 2e-14) * (double)K);
    lc_buffer_free(X, N * K * size);
    for (int t = 0; t < 2; t++) lc_buffer_free(H[t], bytes);
}

/* Tiles of a batch, and each tile's epilogue seen once. */
static void add_one(void *context, int64_t batch, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    float *C = context;
    for (int64_t i = i0; i < i1; i++)
        for (int64_t j = j0; j < j1; j++) C[(batch * 40 + i) * 24 + j] += 1;
}

static void check_batches(void) {
    enum { BATCHES = 5, M = 40, N = 24, K = 16 };
    float *A = random_matrix(LC_F32, BATCHES * M * K, "a"), *B = random_matrix(LC_F32, K * N, "b"), C[BATCHES * M * N],
          D[M * N];
    int64_t at_a[BATCHES], at_c[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
        at_a[i] = (BATCHES - 1 - i) * M * K;
        at_c[i] = i * M * N;
    }
    lc_product p = {.dtype = LC_F32,
                    .M = M,
                    .N = N,
                    .K = K,
                    .alpha = 1,
                    .A = A,
                    .B = B,
                    .C = C,
                    .lda = K,
                    .ldb = N,
                    .ldc = N,
                    .batches = BATCHES,
                    .at_a = at_a,
                    .at_c = at_c,
                    .epilogue = add_one,
                    .context = C};
    CHECK_OK(lc_products(&p));
    double worst = 0;
    for (int b = 0; b < BATCHES; b++) {
        CHECK_OK(lc_gemm(LC_F32, false, false, M, N, K, 1, A + at_a[b], K, B, N, 0, D, N));
        for (int i = 0; i < M * N; i++) worst = fmax(worst, fabs(C[at_c[b] + i] - 1 - D[i]));
    }
    CHECK_NEAR(worst, 0, 1e-5);
    lc_buffer_free(A, BATCHES * M * K * sizeof *A);
    lc_buffer_free(B, K * N * sizeof *B);
}

static int process_threads(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static void check_all(void) {
    lc_dtype types[] = {LC_F32, LC_F64};
    for (int d = 0; d < 2; d++) {
        for (int t = 0; t < 4; t++) {
            check_product(types[d], t & 1, t & 2, 37, 53, 29, 0.25);
            check_product(types[d], t & 1, t & 2, 200, 311, 190, 0);
            check_product(types[d], t & 1, t & 2, 117, 289, 811, 0.25);
            check_product(types[d], t & 1, t & 2, 1, 700, 333, 0);
            check_product(types[d], t & 1, t & 2, 3, 1025, 64, 1);
            check_product(types[d], t & 1, t & 2, 1, 19, 47, 0.25);
            check_product(types[d], t & 1, t & 2, 4, 517, 4099, 0.25);
            check_product(types[d], t & 1, t & 2, 5, 1, 7, 1);
        }
        check_gram(types[d], 70, 40);
        check_gram(types[d], 301, 97);
        check_gram(types[d], 800, 5000);
    }
    check_product(LC_F32, false, true, 515, 1537, 257, 0);
    check_product(LC_F32, false, false, 4, 4, 0, 0.5);
    check_product(LC_F32, false, false, 20, 30, 20011, 0); /* deep */
    check_product(LC_F64, true, true, 40, 9, 20011, 0.5);
    check_batches();
    CHECK_MESSAGE(lc_gemm(LC_I32, false, false, 1, 1, 1, 1, NULL, 1, NULL, 1, 0, NULL, 1), LC_EDTYPE, "f32 or f64");
}

int main(void) {
    /* The same by the library's kernels alone, which a process chooses once: in a child. */
    pid_t child = fork();
    if (child == 0) {
        CHECK_OK(lc_blas_keep_environment(true));
        CHECK(!lc_gemm_has_own_kernel());
        check_all();
        _exit(check_failed > 0);
    }
    int outcome = -1;
    CHECK(child > 0 && waitpid(child, &outcome, 0) == child && outcome == 0);
    check_all();

    lc_blas_info info;
    CHECK_OK(lc_blas_describe(&info));
    CHECK(strstr(info.library, "openblas") && info.core[0]);
    CHECK_MESSAGE(lc_blas_keep_environment(true), LC_ESTATE, "open already");
    CHECK(process_threads() <= lc_threads()); /* the library starts none of its own */
    return check_done();
}
