/* bytes.c: the tokenizer whose ids are the bytes: byte-level BPE without merges, with the ids in the order of the
 * bytes. */
#include "text/bpe.h"

#define END_OF_TEXT "<|endoftext|>"

lc_status lc_tokenizer_bytes(lc_tokenizer **out) {
    lc_tokenizer *t;
    LC_TRY(lc_tokenizer_new(&t));
    lc_status status = lc_tokenizer_set_byte_level(t, false);
    for (int byte = 0; byte < 256 && !status; byte++)
        status = lc_vocabulary_add(&t->vocabulary, byte, &(char){(char)byte}, 1, true);
    if (!status) status = lc_tokenizer_add_special(t, END_OF_TEXT, sizeof END_OF_TEXT - 1, &t->eos);
    if (!status) status = lc_tokenizer_finish(t);
    if (status) {
        lc_tokenizer_release(t);
        return status;
    }
    *out = t;
    return LC_OK;
}
