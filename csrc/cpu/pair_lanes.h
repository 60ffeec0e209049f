// Which of a tile row's pairs are positive, a vector at a time. Positives are one range of columns, so nearly every vector is
// all of one kind and no label is ever compared; the few that are not carry masks.
#pragma once

#include "order.h"
#include "simd.h"

namespace fused_rank {

struct AllNegative {};
struct AllPositive {};
template <class T>
struct Mixed {
  Mask<T> positive, negative;  // neither: padding, or a row's pair with itself
};

// A query's positives within one tile, in tile columns.
struct TilePositives {
  int begin, end;  // empty if begin >= end
  int self;        // the query's own column, or -1
  bool none() const { return begin >= end && self < 0; }
};

inline TilePositives tile_positives(Range range, int64_t first_col, int cols, int64_t own) {
  const int64_t begin = std::max<int64_t>(range.begin - first_col, 0),
                end = std::min<int64_t>(range.end - first_col, cols);
  const bool here = own >= first_col && own < first_col + cols;
  return {static_cast<int>(begin), static_cast<int>(end), here ? static_cast<int>(own - first_col) : -1};
}

// visit(column, kind) for each vector of columns in [0, cols).
template <class T, class F>
FR_INLINE void for_each_vector(int cols, TilePositives p, F&& visit) {
  constexpr int W = Vec<T>::width;
  const int full = cols / W * W;
  if (p.none()) {
    for (int j = 0; j < full; j += W) visit(j, AllNegative{});
    if (full < cols)
      visit(full, Mixed<T>{Vec<T>(T(1)) < Vec<T>(T(0)), Vec<T>::iota() < Vec<T>(T(cols - full))});
    return;
  }
  for (int j = 0; j < cols; j += W) {
    if (j + W <= cols && (j + W <= p.begin || j >= p.end)) {
      visit(j, AllNegative{});
    } else if (j >= p.begin && j + W <= p.end && (p.self < j || p.self >= j + W)) {
      visit(j, AllPositive{});
    } else {
      const Vec<T> column = Vec<T>::iota() + Vec<T>(T(j));
      const Mask<T> within = (column >= Vec<T>(T(p.begin))) & (column < Vec<T>(T(p.end)));
      const Mask<T> valid = (column < Vec<T>(T(cols))) & (column != Vec<T>(T(p.self)));
      visit(j, Mixed<T>{valid & within, valid & ~within});
    }
  }
}

}  // namespace fused_rank
