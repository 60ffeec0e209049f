// How many pairs lie at which distance, positives and negatives apart.
#pragma once

#include <vector>

#include "pair_matrix.h"

namespace fused_rank {

// counts [2][edges + 1]: positive, then negative pairs with edge[b - 1] < d <= edge[b]; the last also takes pairs of rows that are
// not finite. In self form a pair counts once. Edges ascend and are finite.
template <class T>
void distance_histogram(const PairInput& input, const std::vector<double>& edges, int64_t* counts,
                        Workers& workers);

}  // namespace fused_rank
