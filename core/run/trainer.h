/* trainer.h: training, one optimizer step at a time.
 *
 * A step goes through four moments, in this order; each does what is left of those before it:
 *   begin     the clock is set, gradients are cleared
 *   forward   each micro-batch's loss; all but the last go through their backward pass at once, so that one graph exists at a time
 *   backward  the last micro-batch's backward pass; the gradient is that of the mean over all labelled tokens of the step
 *   update    norm, clipping, the optimizer's pass
 * lc_trainer_drop forgets a step that has not reached update: weights, moments, dropout's streams and data are then as
 * they were at begin. */
#ifndef LC_TRAINER_H
#define LC_TRAINER_H

#include "model/model.h"
#include "optim/optim.h"
#include "schedule/schedule.h"

typedef struct lc_trainer_options {
    int64_t steps;         /* optimizer steps of the whole loop: n of the schedules */
    int64_t start;         /* steps that count as done */
    int64_t accumulate;    /* micro-batches in a step */
    lc_decay decay;        /* of the learning rate; */
    lc_schedule *schedule; /* with LC_DECAY_SCHEDULE; retained */
    int64_t warmup;        /* steps */
    double clip;           /* largest global norm of the gradient; 0 = off */
    lc_recipe recipe;      /* for every parameter that has no slot of its own yet */
} lc_trainer_options;

typedef enum lc_moment { LC_STEP_NONE, LC_STEP_BEGUN, LC_STEP_FORWARD, LC_STEP_BACKWARD, LC_STEP_UPDATED } lc_moment;

typedef struct lc_trainer {
    lc_model *model; /* retained */
    lc_trainer_options options;
    lc_optim optim;
    lc_loader *loader;         /* owned; NULL when batches are given one by one */
    lc_loader_options reading; /* how it reads */
    char data_hash[33];        /* of what it reads; "" without */
    lc_moment moment;

    /* Of the step that runs, or ran last. */
    int64_t step;        /* from 1 */
    double loss;         /* mean over its labelled tokens */
    double grad_norm;    /* before clipping */
    double lr;           /* of the default recipe */
    int64_t tokens;      /* read, padding left out */
    int64_t labels;      /* labelled tokens */
    uint64_t macs;       /* multiply-adds done so far */
    uint64_t dense_macs; /* the same with those that were left out: see lc_dense_macs */
    int64_t n_batches;
    lc_batch *batches; /* its micro-batches */

    /* Of the loop. */
    int64_t total_tokens;

    /* For going on with this step, and for going back to its start. */
    lc_tensor *pending; /* the last micro-batch's loss, before its backward pass */
    double seed;        /* its weight */
    double rescale;     /* of the whole gradient, once it is there; 1 = none */
    uint64_t first_mac, first_dense_mac, first_dropout_pass;
    int64_t first_epoch, first_index;
} lc_trainer;

/* LC_EINVAL for numbers that make no sense. Slots for groups and other leaves are added to ->optim before the first
 * step. */
lc_status lc_trainer_new(lc_model *model, const lc_trainer_options *options, lc_trainer **out);
void lc_trainer_free(lc_trainer *t); /* drops what is pending; NULL is fine */

/* Takes batches from here on out of a dataset: `accumulate` in a step, fewer at an epoch's end, so that a step never
 * mixes epochs. Goes to where step `start` + 1 reads. */
lc_status lc_trainer_read(lc_trainer *t, lc_dataset *data, const lc_loader_options *options);
/* Steps in one epoch of a loader's batches. */
int64_t lc_steps_per_epoch(int64_t batches, int64_t accumulate);

/* Begins step t->step + 1 and reads its batches where there is a loader. LC_ESTATE when a step is pending. */
lc_status lc_trainer_begin(lc_trainer *t);
/* Adds a micro-batch by hand; its tensors are retained. */
lc_status lc_trainer_give(lc_trainer *t, const lc_batch *batch);
/* Labelled tokens of micro-batch `index` (from 0) as the model's loss counts them. */
lc_status lc_trainer_labels(lc_trainer *t, int64_t index, int64_t *count);
/* The model's own loss on every micro-batch. LC_EINVAL when the step has no label at all. */
lc_status lc_trainer_forward(lc_trainer *t);
/* Instead of forward, for losses made elsewhere: one call per micro-batch, each loss weighed by `weight`, the last with
 * `last`. */
lc_status lc_trainer_add(lc_trainer *t, lc_tensor *loss, double weight, bool last);
/* Multiplies the step's loss and, once it is whole, its gradient. Between forward and backward. */
void lc_trainer_rescale(lc_trainer *t, double factor);
/* Leaves a tensor out of this step. Before backward its gradient is not computed. LC_ESTATE after update. */
lc_status lc_trainer_skip(lc_trainer *t, lc_tensor *leaf, lc_skip skip);
lc_status lc_trainer_backward(lc_trainer *t);
/* The gradient's norm as it is now; does the backward pass if it is not done. */
lc_status lc_trainer_norm(lc_trainer *t, double *norm);
/* LC_ENUMERIC names the step and the first tensor when loss or gradient is not finite; nothing has changed then. */
lc_status lc_trainer_update(lc_trainer *t);
lc_status lc_trainer_drop(lc_trainer *t);
/* Slots follow the model: tensors that appeared get the default recipe, those that are gone go. Begin does this itself.
 */
lc_status lc_trainer_sync(lc_trainer *t);

/* Adds the loss of each labelled token, and their number; dropout off, no graph. */
lc_status lc_evaluate_batch(lc_model *m, const lc_batch *batch, double *sum, int64_t *count);
/* The same over a whole dataset. */
lc_status lc_evaluate(lc_model *m, lc_dataset *data, int64_t batch_size, double *sum, int64_t *count);

#endif
