/* pretokenize.h: GPT-2's cut of text into pieces, by hand instead of by a regular expression:
 *
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * Depends on utf8, unicode, libutf8proc. */
#ifndef LC_PRETOKENIZE_H
#define LC_PRETOKENIZE_H

#include "base/status.h"

/* Length in bytes of the piece that begins at p (p < end). Text is UTF-8; a broken byte counts as punctuation. */
size_t lc_piece_gpt2(const uint8_t *p, const uint8_t *end);

#endif
