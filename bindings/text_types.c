/* text_types.c: the types of tokenizers and datasets where no module has registered them: nothing is of these types. */
#include "text.h"

__attribute__((weak)) const lcl_type LCL_TOKENIZER = {"lacuna.tokenizer", NULL, NULL, NULL};
__attribute__((weak)) const lcl_type LCL_DATASET = {"lacuna.dataset", NULL, NULL, NULL};
