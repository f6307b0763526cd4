/* swap.h: better masks by optimal 1-swaps (Zimmer et al. 2025, "SparseSwaps: tractable LLM pruning mask refinement at
 * scale"): exchanging one kept weight with one pruned weight of the same row, as long as the error falls.
 *
 * What an exchange changes follows from the Gram matrix alone. Let e = w - t and c = e H. Taking u out adds -w_u to e_u,
 * bringing p back adds t_p to e_p; so the row's error changes by
 *     2 (t_p c_p - w_u c_u) + t_p^2 H_pp + w_u^2 H_uu - 2 w_u t_p H_up,
 * and the pair that lowers it most is exchanged until none lowers it. Where kept weights have their old values (w = t)
 * this is the paper's rule; here they may have been compensated before. */
#ifndef LC_SWAP_H
#define LC_SWAP_H

#include "solve/quadratic.h"

/* Refines keep (O, I) and W, which is 0 where keep is; what comes back gets its value of q->T. `group`: pairs are of one
 * group of so many neighbours, which divides I; 0 = of one row. `held` (O, I): what is 0 there never comes back; NULL =
 * all may. At most `limit` swaps in each row. *swaps: how many there were in all; may be NULL. No row's error rises. */
lc_status lc_swap(const lc_quadratic *q, int64_t group, const uint8_t *held, int64_t limit, double *W, uint8_t *keep,
                  int64_t *swaps);

#endif
