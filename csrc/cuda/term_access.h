// Terms (csrc/terms/) as kernels use them: one pair after another, with each row's numbers in arrays [member][row].
#pragma once

#include <string>

#include "../terms/terms.h"
#include "distance_tile.h"

namespace fused_rank::cuda {

// A row's struct of numbers (Term::Row<T>, Term::Scale<T>) from column `row` of an array [members][stride].
template <class T, class Struct>
FR_DEVICE Struct load_members(const T* from, int64_t stride, int64_t row) {
  Struct result;
  T* to = reinterpret_cast<T*>(&result);
#pragma unroll
  for (int m = 0; m < kMembers<T, Struct>; ++m) to[m] = from[m * stride + row];
  return result;
}
template <class T, class Struct>
FR_DEVICE void store_members(const Struct& value, T* to, int64_t stride, int64_t row) {
  const T* from = reinterpret_cast<const T*>(&value);
#pragma unroll
  for (int m = 0; m < kMembers<T, Struct>; ++m) to[m * stride + row] = from[m];
}

template <class Struct, class T>
FR_DEVICE Struct shuffle_members(const Struct& value, int step) {
  Struct other;
  const T* from = reinterpret_cast<const T*>(&value);
  T* to = reinterpret_cast<T*>(&other);
#pragma unroll
  for (int m = 0; m < kMembers<T, Struct>; ++m) to[m] = __shfl_xor_sync(kWarp, from[m], step);
  return other;
}

// An empty Row, with the row's inputs from [inputs][rows].
template <class T, class Term>
FR_DEVICE typename Term::template Row<T> start_row(const Term& term, const T* inputs, int64_t rows,
                                                   int64_t row) {
  if constexpr (kInputs<Term> == 0) {
    return {};
  } else {
    T own[kInputs<Term>];
#pragma unroll
    for (int k = 0; k < kInputs<Term>; ++k) own[k] = inputs[k * rows + row];
    return term.start(own);
  }
}

// f.template operator()<Term>() for the term that was chosen.
template <class F>
auto with_choice(const TermChoice& choice, F&& f) {
  return with_term(choice.name, choice.params, choice.reach, f);
}

// What a pair is to the loss. Positives of row i are the columns [begin, end).
struct Range {
  int begin, end;
  FR_DEVICE bool holds(int j) const { return j >= begin && j < end; }
};
template <class T>
FR_DEVICE Range positives_of(const Pairs<T>& pairs, int i) {
  return {pairs.begin[i], pairs.end[i]};
}
// May a tile hold a positive? Ranges rise with the row, so its first and last row answer.
template <class T>
FR_DEVICE bool may_hold_positives(const Pairs<T>& pairs, const Place& at) {
  return pairs.begin[at.row] < at.column + at.columns && pairs.end[at.row + at.rows - 1] > at.column;
}

}  // namespace fused_rank::cuda
