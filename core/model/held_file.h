/* held_file.h: lacuna.safetensors beside a model: what other programs have no place for. For each parameter with a held
 * mask
 * "<parameter>.held" (bool, in the leaf's shape, (O, I) for layers) and, where values are remembered,
 * "<parameter>.held_values". */
#ifndef LC_HELD_FILE_H
#define LC_HELD_FILE_H

#include "model/model.h"

/* Holds what the file says; no file is no mask. */
lc_status lc_held_read(lc_model *m, const char *directory);
/* Writes the file, or removes it when nothing is held. */
lc_status lc_held_write(lc_model *m, const char *directory);

#endif
