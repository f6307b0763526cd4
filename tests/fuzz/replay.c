/* replay.c: gives every file of a corpus directory to a fuzzer's function, without a fuzzing library. A crash is the
 * failure; what is counted is the files that went through. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether the file could be read. */
static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *data = size >= 0 ? malloc((size_t)size + 1) : NULL;
    int ok = data && fread(data, 1, (size_t)size, file) == (size_t)size;
    if (ok) LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    fclose(file);
    return ok;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_DIRECTORY\n", argv[0]);
        return 2;
    }
    const char *slash = strrchr(argv[0], '/');
    int passed = 0, failed = 0;
    DIR *directory = opendir(argv[1]);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char path[4096];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (replay(path)) {
            passed++;
        } else {
            fprintf(stderr, "cannot read %s\n", path);
            failed++;
        }
    }
    if (directory) closedir(directory);
    if (passed == 0) {
        fprintf(stderr, "no corpus in %s\n", argv[1]);
        failed++;
    }
    printf("%s: %d passed, %d failed\n", slash ? slash + 1 : argv[0], passed, failed);
    return failed != 0;
}
