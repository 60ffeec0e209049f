// The selection sweep: which gallery row is farthest, nearest, or among the k nearest. Ties go to the lowest original row.
#pragma once

#include "pair_matrix.h"

namespace fused_rank {

// Per query, in original order: its farthest positive and its nearest negative (original gallery rows), -1 where there is none
// or the query is not finite. In the symmetric form, after them, per gallery row: those among the queries.
template <class T>
void mine_hard(const PairInput& input, int64_t* positive, int64_t* negative, Workers& workers);

// The k best gallery rows of every query, [M][k]: ascending by distance, descending for Metric::dot. A gallery row that is not finite
// comes last, with the value NaN; a query that is not finite gets NaN throughout.
template <class T>
void top_k(const PairInput& input, int64_t k, bool exclude_self, T* values, int64_t* indices,
           Workers& workers);

}  // namespace fused_rank
