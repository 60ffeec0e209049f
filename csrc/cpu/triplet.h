// Triplet losses and semi-hard mining: the rank sweep.
//
// Every query carries its positives' distances; every negative is ranked among them. Up to kFewPositives positives they are
// compared one by one, symmetrically, tile by tile (FewPositives). Beyond, whole rows of distances are formed for a
// strip of queries and ranked by binary search (ManyPositives), so that memory stays O(strip * N).
#pragma once

#include <string>
#include <vector>

#include "pair_matrix.h"

namespace fused_rank {

inline constexpr int64_t kFewPositives = 64;

enum class Mining { semihard, hard, all, semihard_all };

struct TripletProblem {
  PairInput input;
  Mining mining = Mining::semihard;
  double margin = 0.0;
  bool soft = false;

  // Of the results: the queries and, in the symmetric form, the gallery's rows after them. All triplets and the band have that form.
  int64_t rows() const { return input.query.rows + (input.symmetric ? input.gallery.rows : 0); }
};

inline int64_t triplet_state_rows(Mining mining) { return mining == Mining::hard ? 2 : kFewPositives; }

// rows [3][R] (sum, count, active) and state [triplet_state_rows][R], both in original order: for mined triplets the original
// row of each slot's negative (-1 for none), for the others the sum of each slot's slopes. Unused with many positives.
template <class T>
struct TripletForward {
  T* rows;
  T* state;
  uint8_t* live;
};
template <class T>
struct TripletBackward {
  const T* grad_sums;  // [R]
  const T* state;
  const uint8_t* live;
  const T* active;  // [R], the last of forward's rows
  void* grad_query = nullptr;
  void* grad_gallery = nullptr;
};

template <class T>
void triplet_forward(const TripletProblem& problem, const TripletForward<T>& out, Workers& workers);
template <class T>
void triplet_backward(const TripletProblem& problem, const TripletBackward<T>& io, Workers& workers);

struct MinedTriplet {
  int32_t anchor, positive, negative;  // original rows
};
// Semi-hard triplets, by anchor and then positive. In the symmetric form the gallery's rows are anchors too, numbered after the queries,
// and take both from the queries.
template <class T>
std::vector<MinedTriplet> mine_semihard(const PairInput& input, Workers& workers);

}  // namespace fused_rank
