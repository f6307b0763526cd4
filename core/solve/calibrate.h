/* calibrate.h: what a calibration text says about linear layers: statistics of their inputs. Depends on model, text.
 *
 * The text streams through the model block by block. It is embedded once, and the hidden states of all its tokens are
 * kept. For each block, a collecting pass shows what goes into the selected layers; whoever asked may then change their
 * weights; a second pass, with the weights as they are by then, gives the next block's inputs. Padding is left out.
 * Layers with the same input (q, k and v; gate and up) share one set of statistics, which goes when the last of them had
 * its turn; the hidden states go with the last pass. At any time there are at most the statistics of one block, the
 * hidden states of the text, and what a block makes of a slice of it. The collecting pass ends where nothing more is to
 * be seen. */
#ifndef LC_CALIBRATE_H
#define LC_CALIBRATE_H

#include "model/selection.h"

typedef enum lc_sequential {
    LC_SEQUENTIAL_BLOCK, /* a block's inputs come from the blocks before it as they are by then */
    LC_SEQUENTIAL_LAYER, /* within a block too: q, k, v; then out; then gate, up; then down */
    LC_SEQUENTIAL_OFF    /* all from the model as it was: one pass in all */
} lc_sequential;

typedef struct lc_calibrate_options {
    lc_sequential sequential;
    bool gram;  /* H too; without it only norms are summed, which costs next to nothing */
    bool input; /* the inputs themselves too: tokens x I numbers for each input of a block */
} lc_calibrate_options;

/* What calibration knows of one linear layer. The tensors are borrowed until the next call; one layer's may be
 * another's. Nobody writes into them, but for a solver that is alone with the calibration and makes of H, at the first
 * of the layers that share it, what it reads at the others; and anybody into H where `spare` is set. */
typedef struct lc_layer_stats {
    lc_layer *layer;  /* borrowed; NULL: there are no more */
    int64_t index;    /* the layer's place in the selection, from 0 */
    int64_t rows;     /* of the text: windows, or documents; those of padding alone left out */
    int64_t tokens;   /* n: padding left out */
    lc_tensor *norm;  /* (I) f64: root of the sum over tokens of x^2, which is H's diagonal */
    lc_tensor *H;     /* (I, I) f64: sum over tokens of x x^T; NULL unless asked for */
    lc_tensor *input; /* (n, I) in the model's type; NULL unless asked for */
    bool first, last; /* among the layers that share these tensors, which follow each other */
    bool spare;       /* H may be overwritten: nobody reads it after this layer */
} lc_layer_stats;

typedef struct lc_calibration lc_calibration;

/* `name` ("prune.wanda") begins the messages. LC_EINVAL unless the selection is of layers in blocks, and the head: what
 * stands between the embedding or the last block and them (OPT's project.in and project.out) is not watched. */
lc_status lc_calibration_new(const char *name, const lc_selection *layers, const lc_calibrate_options *options,
                             lc_calibration **out);
/* Adds text: embeds it, several rows at a time. All of it comes before the first lc_calibration_next. The batch's labels
 * are not read. */
lc_status lc_calibration_feed(lc_calibration *c, const lc_batch *batch);
/* Every example of the dataset, in order. */
lc_status lc_calibration_feed_dataset(lc_calibration *c, lc_dataset *data);
/* The next layer in the model's order. LC_EINVAL when no text was fed; LC_ENUMERIC for inputs that are not finite.
 * After a failure it can only be freed. */
lc_status lc_calibration_next(lc_calibration *c, lc_layer_stats *out);
void lc_calibration_free(lc_calibration *c); /* NULL is fine */

/* Borrowed. */
const char *lc_calibration_name(const lc_calibration *c);
lc_selection *lc_calibration_layers(const lc_calibration *c);
lc_sequential lc_calibration_sequential(const lc_calibration *c);

#endif
