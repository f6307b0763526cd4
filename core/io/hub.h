/* hub.h: from what a person calls a model to the directory or file that holds it. Nothing is downloaded. Depends on base. */
#ifndef LC_HUB_H
#define LC_HUB_H

#include "base/status.h"

/* `name` is a directory or a file, or "org/name" (also "name") in the Hugging Face cache: $HF_HUB_CACHE, else
 * $HUGGINGFACE_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub, where
 * models--org--name/refs/main names the snapshot. That directory's own path will do, too. A leading ~ is $HOME, in
 * `name` and in the variables. LC_ENOTFOUND says every place that was looked at, and the command that fetches the model. */
lc_status lc_hub_resolve(const char *name, char **directory); /* lc_free */

#endif
