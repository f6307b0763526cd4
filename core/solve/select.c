/* select.c: radix selection over scores that stay where they are. */
#include "solve/select.h"

#include <math.h>
#include <string.h>

#include "base/pool.h"

#define PIECE (1 << 18) /* scores between two looks at the cancel flag */

/* Keys are unsigned numbers in the order of the scores; 0 lies below every score. f32 fills the upper half only, so
 * that four of the eight counting passes are enough. */
static uint64_t key_of(const lc_ranked *r, int64_t i, bool wide) {
    if (r->held && !r->held[i]) return 0;
    double value = r->dtype == LC_F64 ? ((const double *)r->scores)[i] : ((const float *)r->scores)[i];
    value = r->absolute ? fabs(value) : value + 0.0; /* -0 counts as 0 */
    if (wide) {
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        return bits >> 63 ? ~bits : bits | 1ull << 63;
    }
    float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return (uint64_t)(bits >> 31 ? ~bits : bits | 1u << 31) << 32;
}

int64_t lc_ranked_nan(const lc_ranked *r) {
    for (int64_t i = 0; i < r->n; i++)
        if (r->dtype == LC_F64 ? isnan(((const double *)r->scores)[i]) : isnan(((const float *)r->scores)[i])) return i;
    return -1;
}

lc_ranked lc_ranked_part(const lc_ranked *r, int64_t start, int64_t n) {
    lc_ranked part = *r;
    part.scores = (const char *)r->scores + (size_t)start * lc_dtype_size(r->dtype);
    part.held = r->held ? r->held + start : NULL;
    part.keep = r->keep + start;
    part.n = n;
    return part;
}

static int64_t count_held(const lc_ranked *r) {
    int64_t pruned = 0;
    for (int64_t i = 0; r->held && i < r->n; i++) pruned += !r->held[i];
    return pruned;
}

/* The key in place `below` (from 0) of all in ascending order, and in *ties how many of those equal to it come before
 * that place. */
static lc_status find_threshold(const lc_ranked *parts, int64_t n_parts, bool wide, int64_t below, uint64_t *threshold,
                                int64_t *ties) {
    uint64_t prefix = 0, mask = 0;
    for (int shift = 56; shift >= (wide ? 0 : 32); shift -= 8) {
        int64_t count[256] = {0};
        for (int64_t p = 0; p < n_parts; p++) {
            for (int64_t i = 0; i < parts[p].n; i++) {
                if (i % PIECE == 0) LC_TRY(lc_poll());
                uint64_t key = key_of(&parts[p], i, wide);
                if ((key & mask) == prefix) count[key >> shift & 255]++;
            }
        }
        uint64_t bin = 0;
        while (bin < 255 && count[bin] <= below) below -= count[bin++];
        prefix |= bin << shift;
        mask |= 255ull << shift;
    }
    *threshold = prefix;
    *ties = below;
    return LC_OK;
}

lc_status lc_prune_lowest(const lc_ranked *parts, int64_t n_parts, int64_t pruned) {
    int64_t held = 0, n = 0;
    bool wide = false;
    for (int64_t p = 0; p < n_parts; p++) {
        held += count_held(&parts[p]);
        n += parts[p].n;
        wide = wide || parts[p].dtype == LC_F64;
    }
    pruned = lc_max(pruned, held);
    for (int64_t p = 0; p < n_parts; p++) memset(parts[p].keep, pruned < n, (size_t)parts[p].n);
    if (pruned == 0 || pruned >= n) return LC_OK;

    uint64_t threshold;
    int64_t ties;
    LC_TRY(find_threshold(parts, n_parts, wide, pruned, &threshold, &ties));
    for (int64_t p = 0; p < n_parts; p++)
        for (int64_t i = 0; i < parts[p].n; i++) {
            if (i % PIECE == 0) LC_TRY(lc_poll());
            parts[p].keep[i] = key_of(&parts[p], i, wide) >= threshold;
        }
    /* The last `ties` of the equal ones go. */
    for (int64_t p = n_parts - 1; p >= 0 && ties > 0; p--)
        for (int64_t i = parts[p].n - 1; i >= 0 && ties > 0; i--)
            if (key_of(&parts[p], i, wide) == threshold) {
                parts[p].keep[i] = 0;
                ties--;
            }
    return LC_OK;
}

lc_status lc_prune_groups(const lc_ranked *r, int64_t n, int64_t m) {
    bool wide = r->dtype == LC_F64;
    memset(r->keep, 1, (size_t)r->n);
    for (int64_t start = 0; start < r->n; start += m) {
        lc_ranked group = lc_ranked_part(r, start, m);
        int64_t pruned = lc_max(m - n, count_held(&group));
        if (start % 65536 == 0) LC_TRY(lc_poll());
        for (int64_t k = 0; k < pruned; k++) {
            int64_t lowest = -1;
            for (int64_t i = 0; i < m; i++)
                if (group.keep[i] && (lowest < 0 || key_of(&group, i, wide) <= key_of(&group, lowest, wide)))
                    lowest = i;
            group.keep[lowest] = 0;
        }
    }
    return LC_OK;
}
