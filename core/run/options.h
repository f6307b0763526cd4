/* options.h: what decides the numbers of a training loop, as texts that checkpoints store and compare: a loop that goes
 * on under other options would be neither the old one nor a new one. */
#ifndef LC_OPTIONS_H
#define LC_OPTIONS_H

#include "io/json.h"
#include "run/trainer.h"

/* A fresh object {option: text}: numbers as they read back to the bit, and "groups: <tensor>" for each tensor with
 * options of its own. */
lc_status lc_trainer_describe(const lc_trainer *t, json_t **out);
/* LC_EINVAL names the first option that differs, both its values, and what to try; `where` begins the message. */
lc_status lc_compare_options(const json_t *stored, const json_t *present, const char *where);

#endif
