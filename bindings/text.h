/* text.h: tokenizers and datasets as handles. */
#ifndef LCL_TEXT_H
#define LCL_TEXT_H

#include "lcl.h"
#include "text/dataset.h"

extern const lcl_type LCL_TOKENIZER; /* lc_tokenizer * */
extern const lcl_type LCL_DATASET;   /* lc_dataset * */

#endif
