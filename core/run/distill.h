/* distill.h: learning from another model's distribution over next tokens (Hinton et al. 2015, "Distilling the knowledge
 * in a neural network").
 *
 * loss = alpha T^2 KL(teacher at T || student at T) + (1 - alpha) cross-entropy with the labels, mean over the labelled
 * tokens. Both heads and the loss run over chunks of tokens, and the student's gradient is made there too: logits (N,
 * V) never exist. */
#ifndef LC_DISTILL_H
#define LC_DISTILL_H

#include "model/model.h"

typedef struct lc_distill_options {
    double temperature; /* T, above 0 */
    double alpha;       /* share of the teacher, 0..1 */
    bool train;         /* the student's dropout on */
} lc_distill_options;

/* The student sees `batch`, whose labels count; the teacher `teacher_batch` (NULL = the same), of the same shape,
 * without dropout or graph. LC_EINVAL when no token is labelled; LC_ESHAPE when the vocabularies differ; LC_ESTATE when
 * a head has a bias or a replaced product. `count` gets the number of labelled tokens; it may be NULL. */
lc_status lc_distill(lc_model *student, const lc_batch *batch, lc_model *teacher, const lc_batch *teacher_batch,
                     const lc_distill_options *options, lc_tensor **loss, int64_t *count);

#endif
