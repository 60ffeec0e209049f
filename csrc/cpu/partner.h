// Selection under limits: each query's nearest or farthest positive or negative, of those within an interval of distances.
#pragma once

#include "pair_matrix.h"

namespace fused_rank {

struct PartnerChoice {
  bool positives;  // of the query's class, or of the others
  bool farthest;   // or nearest
};

// All by query in original order. `above` and `below` are squared distances, exclusive; null for no limit. values: the squared
// distance of the partner, NaN where there is none; rows: its original row, -1 where there is none or the query is not finite.
// Ties go to the lowest original row.
template <class T>
void find_partner(const PairInput& input, PartnerChoice choice, const T* above, const T* below, T* values,
                  int64_t* rows, Workers& workers);

}  // namespace fused_rank
