// Distance-weighted sampling of negatives (Wu et al., 2017): nearly uniform in distance, where uniform in rows would be nearly
// all at one distance.
#pragma once

#include "pair_matrix.h"

namespace fused_rank {

// The negative of every (anchor, positive): the inverse of the anchor's cumulative weights at draws[l] in [0, 1). Pairs are
// numbered by anchor and then by positive, both in original order, and negatives accumulate in the order of their labels.
// The weight of a distance d is 1 / (max(d, cutoff)^(D - 2) (1 - max(d, cutoff)² / 4)^((D - 3) / 2)), 0 from `limit` on; where all
// are 0, every negative weighs the same. Rows must be unit rows. -1: the anchor has no negative, or is not finite.
template <class T>
void sample_negatives(const PairInput& input, const double* draws, double cutoff, double limit,
                      int64_t* negatives, Workers& workers);

}  // namespace fused_rank
