// How many triplets of each query are hard, near or active at a margin, counted without forming one: the rank sweep.
#pragma once

#include "pair_matrix.h"

namespace fused_rank {

// Rows of the result, [kTripletCounts][M] in original order:
//   sum of d_ap over the positives, sum of d_an over the negatives, positives, negatives,
//   hard triplets (d_an <= d_ap), near ones (d_an <= d_ap + margin), active ones (d_an < d_ap + margin).
// NaN where a row is not finite.
inline constexpr int64_t kTripletCounts = 7;

template <class T>
void triplet_counts(const PairInput& input, double margin, double* counts, Workers& workers);

}  // namespace fused_rank
