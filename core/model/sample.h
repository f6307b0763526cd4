/* sample.h: choosing a token by its logits. */
#ifndef LC_SAMPLE_H
#define LC_SAMPLE_H

#include "base/random.h"
#include "tensor/tensor.h"

/* From logits (V). temperature 0 takes the largest (the first of equals). Otherwise softmax(logits / temperature) over
 * the top_k largest (0 = all), and of those the fewest whose probabilities reach top_p (1 = all). LC_ENUMERIC when a
 * logit is NaN. */
lc_status lc_sample(lc_tensor *logits, double temperature, int64_t top_k, double top_p, lc_stream *stream,
                    int64_t *out);

#endif
