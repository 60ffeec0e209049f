// Running bests with their rows. Distances and original row numbers are both kept as T (rows are fewer than 2^24), so that a
// vector of one goes with a vector of the other. Improvements become rare after a few tiles, so the sweeps test a whole
// vector against the best and enter the careful path only when some lane might win.
#pragma once

#include "buffer.h"
#include "order.h"
#include "simd.h"

namespace fused_rank {

template <class T>
inline constexpr T kNobody = T(1e30);  // larger than any row number

// Original row numbers by sorted position, padded to whole tiles.
template <class T>
Buffer<T> row_numbers(const std::vector<int32_t>& order, int64_t padded) {
  Buffer<T> numbers(padded);
  for (int64_t i = 0; i < padded; ++i)
    numbers[i] = i < static_cast<int64_t>(order.size()) ? static_cast<T>(order[i]) : kNobody<T>;
  return numbers;
}

// The least value and its row, for many rows at once. Negate values to look for the largest.
template <class T>
struct Best {
  Buffer<T> value, row;
  explicit Best(int64_t n = 0) : value(n), row(n) {
    std::fill(value.begin(), value.end(), T(INFINITY));
    std::fill(row.begin(), row.end(), kNobody<T>);
  }
  void offer(int64_t i, T v, T r) {
    if (v < value[i] || (v == value[i] && r < row[i])) {
      value[i] = v;
      row[i] = r;
    }
  }
  int64_t found(int64_t i) const { return row[i] < kNobody<T> ? static_cast<int64_t>(row[i]) : -1; }
};

// Candidates of one query among the columns [0, cols): value(j) where eligible(j, value).
template <class T, class Value, class Eligible>
FR_INLINE void best_of_row(Best<T>& best, int64_t i, int cols, const T* rows, Value&& value,
                           Eligible&& eligible) {
  using V = Vec<T>;
  for (int j = 0; j < cols; j += V::width) {
    const V v = value(j);
    const Mask<T> wins = eligible(j, v) & (v <= V(best.value[i]));
    if (__builtin_expect(any(wins), 0)) {
      for (int l = 0; l < V::width && j + l < cols; ++l)
        if (wins[l]) best.offer(i, v[l], rows[j + l]);
    }
  }
}

// One candidate row for each of a vector of queries starting at i.
template <class T>
FR_INLINE void best_of_column(Best<T>& best, int64_t i, Vec<T> v, Mask<T> eligible, T row) {
  const Mask<T> wins = eligible & (v <= Vec<T>::load(best.value.data() + i));
  if (__builtin_expect(any(wins), 0)) {
    for (int l = 0; l < Vec<T>::width; ++l)
      if (wins[l]) best.offer(i + l, v[l], row);
  }
}

}  // namespace fused_rank
