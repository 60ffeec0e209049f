// Where each query's positives stand in its full ranking, and the retrieval measures that follow from that alone.
#pragma once

#include <vector>

#include "pair_matrix.h"

namespace fused_rank {

// Rows of the result before those of the cutoffs: positives P, rank of the first, how many are among the first P, average
// precision, and the part of it that the first P ranks give.
inline constexpr int64_t kRankMeasures = 5;

// measures [kRankMeasures + 2 * cutoffs][M] in original order. The last rows: for every cutoff k the positives among the first k,
// then for every k the normalised discounted gain. All 0 for a query without positives, NaN where a row is not finite.
// Among equal distances the lowest original row comes first.
template <class T>
void rank_positives(const PairInput& input, const std::vector<int64_t>& cutoffs, double* measures,
                    Workers& workers);

}  // namespace fused_rank
