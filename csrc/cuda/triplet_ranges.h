// Which of an anchor's sorted positives form a triplet of a loss with a negative: a range of ranks.
#pragma once

#include "rank_row.h"

namespace fused_rank::cuda {

struct Ranks {
  int first, last;  // [first, last), empty where first >= last
};

// Positives whose triplet with a negative at distance d has a loss: under a hinge, one above zero; under soft margin, any.
template <class T>
FR_DEVICE Ranks ranks_of(const T* ascending, int count, T d, const TripletChoice& choice) {
  const T margin = static_cast<T>(choice.margin);
  const int last = choice.band ? count_below(ascending, count, d) : count;
  if (choice.soft && !choice.band) return {0, last};
  int low = 0, high = last;
  while (low < high) {
    const int middle = (low + high) / 2;
    const T ap = ascending[middle];
    const bool out = choice.soft ? !(d - ap <= margin) : !((ap - d) + margin > T(0));
    if (out) low = middle + 1;
    else high = middle;
  }
  return {low, last};
}

}  // namespace fused_rank::cuda
