// What a pair term is made of. A term is a small struct of parameters; a sweep calls it and knows nothing else of the loss.
//
//   kChannels                     how many (sum, count, active) triples a query reports
//   kState                        how many numbers a query keeps from forward to backward
//   kSeparable                    slopes are Scale.positive * f(d) and Scale.negative * g(d): the gradient can be
//                                 accumulated in the forward sweep at unit scale (`unit`) and scaled afterwards
//   kInputs (default 0)           how many numbers of its own a query brings to the sweep
//   kPositivesOnly (optional)     negatives contribute nothing, so that a sweep passes over tiles without a positive
//   kWholeRows (optional)         of two sets the forward pass may make the gradient too, where the upstream gradient is one number
//   from(params)                  from the list of numbers that Python passes
//   Row<V>                        a query's accumulators: only V members, merged in any order
//   start(inputs)                 an empty Row that keeps what it needs of its query's inputs (if there are any)
//   fold_positive, fold_negative  one pair (or one vector of pairs) into a Row
//   merge                         one Row into another, which keeps its inputs
//   negative_is_dead(d)           no negative at distance d contributes anything, whatever the query's inputs (lets a sweep
//                                 pass over it early)
//   alive(row)                    some pair folded into it contributes, so backward must visit its tile
//   finish                        a complete Row into channels and state; backward sees the inputs only through the state
//   Scale<V>, scale, unit         what backward needs of a query: its state times the upstream gradient, or 1
//   slope_positive, slope_negative   d loss / d distance of one pair
//   input_gradient                d loss / d inputs of a query, from its state and upstream gradients (if it has any)
//
// All but `from` and `is_bounded` run on a GPU too: they are FR_TERM.
#pragma once

#include <cstdint>

#include "math.h"

namespace fused_rank {

struct PairCounts {
  int64_t positive, negative;  // the pairs a query has
};

template <class T>
struct Channels {
  T sum, count, active;
};

// Optional members of a term.
template <class Term>
inline constexpr int kInputs = [] {
  if constexpr (requires { Term::kInputs; }) return Term::kInputs;
  else return 0;
}();
template <class Term>
inline constexpr bool kPositivesOnly = [] {
  if constexpr (requires { Term::kPositivesOnly; }) return Term::kPositivesOnly;
  else return false;
}();

template <class Term>
inline constexpr bool kWholeRows = [] {
  if constexpr (requires { Term::kWholeRows; }) return Term::kWholeRows;
  else return false;
}();

// A parameter (kept in double) as the number type of V.
template <class V>
FR_TERM typename ScalarOf<V>::type number(double x) {
  return static_cast<typename ScalarOf<V>::type>(x);
}

// Accumulator structs hold nothing but V members, so they can be walked as an array of V.
template <class V, class Struct>
inline constexpr int kMembers = static_cast<int>(sizeof(Struct) / sizeof(V));

template <class V, class Struct>
FR_TERM void add_members(Struct& into, const Struct& from) {
  V* a = reinterpret_cast<V*>(&into);
  const V* b = reinterpret_cast<const V*>(&from);
#pragma GCC unroll 8
  for (int m = 0; m < kMembers<V, Struct>; ++m) a[m] += b[m];
}

}  // namespace fused_rank
