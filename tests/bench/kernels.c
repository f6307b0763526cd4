/* kernels.c: how fast the cpu kernels are on this machine: products beside the threaded library, and what is bound by
 * memory.
 *
 * The threaded library runs in a child process, since this one opens it with one thread. Rounds of both alternate and
 * the best of each counts, because other work on the machine only ever slows things down. */
#define _GNU_SOURCE
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "ops/blas.h"
#include "ops/gemm.h"
#include "ops/op.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(lc_status status) {
    if (!status) return;
    fprintf(stderr, "kernels: %s\n", lc_message());
    exit(1);
}

/* -- products ---------------------------------------------------------------------------------- */

typedef struct shape {
    const char *what;
    int M, N, K, trans_a, trans_b;
} shape;

static const shape shapes[] = {
    {"square, the roof", 3072, 3072, 3072, 0, 1}, /* stays the first */
    {"small square", 64, 64, 64, 0, 0},
    {"mlp up, T256", 1024, 3072, 768, 0, 1},
    {"mlp down, T256", 1024, 768, 3072, 0, 1},
    {"qkv, T256", 1024, 2304, 768, 0, 1},
    {"attention out, T256", 1024, 768, 768, 0, 1},
    {"mlp up dW, T256", 3072, 768, 1024, 1, 0},
    {"mlp down dW, T256", 768, 3072, 1024, 1, 0},
    {"mlp up dX, T256", 1024, 768, 3072, 0, 0},
    {"mlp down dX, T256", 1024, 3072, 768, 0, 0},
    {"mlp up, T64", 256, 3072, 768, 0, 1},
    {"mlp down, T64", 256, 768, 3072, 0, 1},
    {"attention out, T64", 256, 768, 768, 0, 1},
    {"mlp up dW, T64", 3072, 768, 256, 1, 0},
    {"head logits", 256, 50257, 768, 0, 1},
    {"head dX", 256, 768, 50257, 0, 0},
    {"head dW", 50257, 768, 256, 1, 0},
    {"decode mlp up", 1, 3072, 768, 0, 1},
    {"decode head", 1, 50257, 768, 0, 1},
    {"decode mlp up, as in the file", 1, 3072, 768, 0, 0},
    {"batch of 8", 8, 3072, 768, 0, 1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef void (*sgemm_function)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a,
                               int lda, const float *b, int ldb, float beta, float *c, int ldc);

/* Best seconds of one product over about a quarter of a second; `sgemm` NULL: ours. */
static double time_product(const shape *s, sgemm_function sgemm) {
    size_t a = (size_t)s->M * (size_t)s->K, b = (size_t)s->N * (size_t)s->K, c = (size_t)s->M * (size_t)s->N;
    float *A = lc_buffer_new(a * 4), *B = lc_buffer_new(b * 4), *C = lc_buffer_new(c * 4);
    lc_stream stream = lc_stream_make(1, "bench");
    must(lc_stream_fill_normal_f32(&stream, A, (int64_t)a));
    must(lc_stream_fill_normal_f32(&stream, B, (int64_t)b));
    int lda = s->trans_a ? s->M : s->K, ldb = s->trans_b ? s->K : s->N;
    double best = INFINITY, begin = now();
    for (int i = 0; i < 3 || now() - begin < 0.25; i++) {
        double start = now();
        if (sgemm)
            sgemm(LC_BLAS_ROW_MAJOR, s->trans_a ? LC_BLAS_TRANS : LC_BLAS_NO_TRANS,
                  s->trans_b ? LC_BLAS_TRANS : LC_BLAS_NO_TRANS, s->M, s->N, s->K, 1, A, lda, B, ldb, 0, C, s->N);
        else
            must(lc_gemm(LC_F32, s->trans_a, s->trans_b, s->M, s->N, s->K, 1, A, lda, B, ldb, 0, C, s->N));
        best = fmin(best, now() - start);
    }
    lc_buffer_free(A, a * 4);
    lc_buffer_free(B, b * 4);
    lc_buffer_free(C, c * 4);
    return best;
}

/* In the child: opens the library with all threads, and prints the seconds of one shape. */
static int run_threaded(int index) {
    void *library = dlopen("libopenblas.so.0", RTLD_NOW);
    sgemm_function sgemm = library ? (sgemm_function)dlsym(library, "cblas_sgemm") : NULL;
    if (!sgemm) return 1;
    printf("%.9f\n", time_product(&shapes[index], sgemm));
    return 0;
}

static double time_threaded(const char *program, int index) {
    char command[512], answer[64] = "";
    lc_blas_info info;
    must(lc_blas_describe(&info));
    snprintf(command, sizeof command,
             "OPENBLAS_CORETYPE=%s OPENBLAS_NUM_THREADS=%d OMP_NUM_THREADS=%d '%s' --threaded %d",
             info.chosen ? info.chosen : "", lc_threads(), lc_threads(), program, index);
    FILE *f = popen(command, "r");
    if (!f || !fgets(answer, sizeof answer, f) || pclose(f) != 0) {
        fprintf(stderr, "kernels: the threaded library did not run\n");
        exit(1);
    }
    return atof(answer);
}

/* The sum over tokens that calibration makes of a layer's inputs: the lower triangle of X^T X, added to f64. */
static void bench_gram(int64_t N, double roof) {
    int64_t K = 4096;
    size_t x = (size_t)(K * N) * sizeof(float), h = (size_t)(N * N) * sizeof(double);
    float *X = lc_buffer_new(x);
    double *H = lc_buffer_new(h), best = INFINITY, begin = now();
    lc_stream stream = lc_stream_make(1, "bench");
    must(lc_stream_fill_normal_f32(&stream, X, K * N));
    memset(H, 0, h);
    for (int i = 0; i < 3 || now() - begin < 0.5; i++) {
        double start = now();
        must(lc_gram_add(LC_F32, N, K, X, N, H));
        best = fmin(best, now() - start);
    }
    double rate = 1e-9 * (double)(N * (N + 1) * K) / best;
    printf("%-17s %4d x %4d, %4d tokens %10.1f %8.1f %26.0f%%\n", "inputs' Hessian", (int)N, (int)N, (int)K, best * 1e6,
           rate, 100 * rate / roof);
    lc_buffer_free(X, x);
    lc_buffer_free(H, h);
}

static void bench_products(const char *program) {
    lc_blas_info info;
    must(lc_blas_describe(&info));
    printf("%s\n%s kernels%s, %d threads\n\n", info.config, info.core, info.chosen ? " (chosen for this CPU)" : "",
           lc_threads());
    printf("%-30s %19s %10s %8s %8s %8s %8s\n", "product (f32)", "M x N x K", "us", "GFLOP/s", "library", "of it",
           "of roof");
    double roof = 0; /* what the library reaches on the first shape */
    for (int i = 0; i < SHAPES; i++) {
        const shape *s = &shapes[i];
        double ours = INFINITY, library = INFINITY, flops = 2e-9 * s->M * s->N * s->K;
        char text[40];
        for (int round = 0; round < 2; round++) {
            library = fmin(library, time_threaded(program, i));
            ours = fmin(ours, time_product(s, NULL));
        }
        snprintf(text, sizeof text, "%d x %d x %d", s->M, s->N, s->K);
        if (i == 0) roof = flops / library;
        printf("%-30s %19s %10.1f %8.1f %8.1f %7.0f%% %7.0f%%\n", s->what, text, ours * 1e6, flops / ours,
               flops / library, 100 * library / ours, 100 * flops / ours / roof);
        fflush(stdout);
    }
    bench_gram(768, roof);
    bench_gram(3072, roof);
}

/* -- ops --------------------------------------------------------------------------------------- */

/* Best seconds of one run; the outputs of the run before are still held, as in training. */
static double time_op(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in) {
    double best = INFINITY, begin = now();
    for (int i = 0; i < 5 || now() - begin < 0.3; i++) {
        lc_tensor *out[LC_MAX_OUT] = {NULL};
        double start = now();
        must(lc_run(op, attr, in, n_in, out));
        best = fmin(best, now() - start);
        for (int k = 0; k < LC_MAX_OUT; k++) lc_tensor_release(out[k]);
    }
    return best;
}

static lc_tensor *random_f32(int ndim, const int64_t *shape) {
    lc_tensor *t = NULL;
    lc_stream stream = lc_stream_make(2, "bench");
    must(lc_tensor_new(LC_F32, ndim, shape, LC_CPU, &t));
    must(lc_stream_fill_normal_f32(&stream, LC_DATA(float, t), lc_numel(t)));
    return t;
}

static void line(const char *what, double seconds, double bytes, double flops) {
    printf("%-44s %10.1f us", what, seconds * 1e6);
    if (bytes > 0) printf(" %8.1f GB/s", bytes / seconds * 1e-9);
    if (flops > 0) printf(" %8.1f GFLOP/s", flops / seconds * 1e-9);
    printf("\n");
    fflush(stdout);
}

static void bench_memory(void) {
    int64_t n = 64 << 20;
    lc_tensor *x = random_f32(1, &n), *y = random_f32(1, &n), *m = random_f32(1, &n), *v = random_f32(1, &n);
    must(lc_run_into(LC_OP_SQUARE, NULL, &v, 1, &v));
    double bytes = 4.0 * (double)n, best = INFINITY;
    line("read 256 MiB: square_sum", time_op(LC_OP_SQUARE_SUM, NULL, (lc_tensor *[]){x, NULL}, 2), bytes, 0);
    for (int i = 0; i < 5; i++) {
        double start = now();
        must(lc_copy_into(y, x));
        best = fmin(best, now() - start);
    }
    line("copy 256 MiB", best, 2 * bytes, 0);
    best = INFINITY;
    for (int i = 0; i < 5; i++) {
        double start = now();
        must(lc_run_into(LC_OP_ADD, NULL, (lc_tensor *[]){x, y}, 2, &m));
        best = fmin(best, now() - start);
    }
    line("x + y, 256 MiB each", best, 3 * bytes, 0);
    lc_attr adamw = {.a = 1e-4, .b = 0.9, .c = 0.999, .d = 1e-8, .e = 0.01, .f = 1, .n = 10};
    line("adamw_step, 64M weights", time_op(LC_OP_ADAMW_STEP, &adamw, (lc_tensor *[]){x, y, m, v, NULL}, 5), 7 * bytes,
         0);
    lc_attr keep = {.dim = -1, .n = n / 2};
    line("keep half of 64M", time_op(LC_OP_KEEP, &keep, &x, 1), bytes, 0);
    lc_tensor_release(x);
    lc_tensor_release(y);
    lc_tensor_release(m);
    lc_tensor_release(v);
}

static void bench_elementwise(void) {
    lc_tensor *small = random_f32(1, (int64_t[]){64}), *x = random_f32(2, (int64_t[]){1024, 3072}),
              *row = random_f32(1, (int64_t[]){3072});
    lc_tensor *turned = NULL;
    must(lc_view_permute(x, (int[]){1, 0}, &turned));
    double bytes = 4.0 * (double)lc_numel(x);
    lc_attr f32 = {.dtype = LC_F32}, all = {.dim = -1}, last = {.dim = 1}, first = {.dim = 0},
            rows = {.ndim = 1, .shape = {3072}};
    lc_attr drop = {.a = 0.1, .key = 1};
    line("64 floats: add", time_op(LC_OP_ADD, NULL, (lc_tensor *[]){small, small}, 2), 0, 0);
    line("(1024, 3072): add", time_op(LC_OP_ADD, NULL, (lc_tensor *[]){x, x}, 2), 3 * bytes, 0);
    line("  add a row", time_op(LC_OP_ADD, NULL, (lc_tensor *[]){x, row}, 2), 2 * bytes, 0);
    line("  add its transpose, (3072, 1024)", time_op(LC_OP_ADD, NULL, (lc_tensor *[]){turned, turned}, 2), 2 * bytes,
         0);
    line("  copy its transpose", time_op(LC_OP_COPY, &f32, &turned, 1), 2 * bytes, 0);
    line("  exp", time_op(LC_OP_EXP, NULL, &x, 1), 2 * bytes, 0);
    line("  gelu", time_op(LC_OP_GELU, NULL, &x, 1), 2 * bytes, 0);
    line("  gelu_tanh", time_op(LC_OP_GELU_TANH, NULL, &x, 1), 2 * bytes, 0);
    line("  gelu_tanh_backward", time_op(LC_OP_GELU_TANH_BACKWARD, NULL, (lc_tensor *[]){x, x}, 2), 3 * bytes, 0);
    line("  dropout", time_op(LC_OP_DROPOUT, &drop, &x, 1), 2 * bytes, 0);
    line("  softmax", time_op(LC_OP_SOFTMAX, NULL, &x, 1), 2 * bytes, 0);
    line("  sum", time_op(LC_OP_SUM, &all, &x, 1), bytes, 0);
    line("  sum of rows", time_op(LC_OP_SUM, &last, &x, 1), bytes, 0);
    line("  sum of columns", time_op(LC_OP_SUM, &first, &x, 1), bytes, 0);
    line("  sum_to (3072): a bias's gradient", time_op(LC_OP_SUM_TO, &rows, &x, 1), bytes, 0);
    lc_tensor *out[3] = {NULL}, *norm[] = {x, row, row};
    lc_attr eps = {.a = 1e-5};
    line("  layer_norm", time_op(LC_OP_LAYER_NORM, &eps, norm, 3), 2 * bytes, 0);
    must(lc_run(LC_OP_LAYER_NORM, &eps, norm, 3, out));
    lc_tensor *back[] = {x, row, out[1], out[2], x};
    line("  layer_norm_backward", time_op(LC_OP_LAYER_NORM_BACKWARD, NULL, back, 5), 3 * bytes, 0);
    for (int i = 0; i < 3; i++) lc_tensor_release(out[i]);
    lc_tensor_release(small);
    lc_tensor_release(x);
    lc_tensor_release(row);
    lc_tensor_release(turned);
}

static void bench_attention(int64_t B, int64_t T, int64_t S) {
    int64_t H = 12, D = 64, row = 3 * H * D, strides[] = {S * row, row, D, 1};
    lc_tensor *qkv = random_f32(3, (int64_t[]){B, S, row}), *in[7] = {NULL}, *out[2] = {NULL};
    must(lc_view_strided(qkv, 4, (int64_t[]){B, T, H, D}, strides, 0, &in[0]));
    must(lc_view_strided(qkv, 4, (int64_t[]){B, S, H, D}, strides, H * D, &in[1]));
    must(lc_view_strided(qkv, 4, (int64_t[]){B, S, H, D}, strides, 2 * H * D, &in[2]));
    lc_attr attr = {.a = 0.125, .causal = true};
    char text[80];
    uint64_t macs = lc_macs();
    must(lc_run(LC_OP_ATTENTION, &attr, in, 4, out));
    double flops = 2.0 * (double)(lc_macs() - macs);
    snprintf(text, sizeof text, "attention, causal, B %d T %d S %d", (int)B, (int)T, (int)S);
    line(text, time_op(LC_OP_ATTENTION, &attr, in, 4), T == 1 ? 8.0 * (double)(B * S * H * D) : 0, flops);
    if (T > 1) {
        in[4] = out[0], in[5] = out[1], in[6] = out[0];
        line("  backward", time_op(LC_OP_ATTENTION_BACKWARD, &attr, in, 7), 0, 2.5 * flops);
    }
    for (int i = 0; i < 3; i++) lc_tensor_release(in[i]);
    lc_tensor_release(out[0]);
    lc_tensor_release(out[1]);
    lc_tensor_release(qkv);
}

static void bench_head(int64_t N) {
    int64_t V = 50257, C = 768;
    lc_tensor *x = random_f32(2, (int64_t[]){N, C}), *w = random_f32(2, (int64_t[]){V, C}), *labels = NULL;
    must(lc_tensor_zeros(LC_I64, 1, &N, LC_CPU, &labels));
    lc_attr train = {.train = true};
    char text[80];
    snprintf(text, sizeof text, "linear_cross_entropy, %d tokens, gradients too", (int)N);
    line(text, time_op(LC_OP_LINEAR_CROSS_ENTROPY, &train, (lc_tensor *[]){x, w, labels}, 3), 0,
         6.0 * (double)N * (double)V * (double)C);
    lc_tensor_release(x);
    lc_tensor_release(w);
    lc_tensor_release(labels);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--threaded") == 0) return run_threaded(atoi(argv[2]));
    bool only = argc == 2;
    if (!only || strcmp(argv[1], "products") == 0) bench_products(argv[0]);
    printf("\n");
    if (!only || strcmp(argv[1], "memory") == 0) bench_memory();
    if (!only || strcmp(argv[1], "elementwise") == 0) bench_elementwise();
    if (!only || strcmp(argv[1], "attention") == 0) {
        bench_attention(4, 256, 256);
        bench_attention(1, 1024, 1024);
        bench_attention(1, 1, 1024);
    }
    if (!only || strcmp(argv[1], "head") == 0) {
        bench_head(256);
        bench_head(1020);
    }
    return 0;
}
