// One tile of the pair matrix: distances between row block I and column block J, right to the last digits.
//
// With rows stored as p = x - c and q = y - e,
//   d² = (|p|² + 2 p · (c - e)) + (|q|² + 2 q · (e - c)) + |c - e|² - 2 p·q,
// where the brackets are each row's own (Operand::norm). Rows of one cluster share their centre and keep their digits. A pair
// whose d² is still small beside the terms it came from is computed again from the original rows, by direct difference. Such
// pairs are listed, because their gradient needs the same care.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "buffer.h"
#include "metric.h"
#include "operand.h"
#include "simd.h"

namespace fused_rank {

template <class T>
inline constexpr T kRepair = sizeof(T) == 4 ? T(0.01) : T(1e-5);

struct Suspect {
  int32_t row, col;  // within the tile
};

template <class T>
class DistanceTile {
  using V = Vec<T>;

 public:
  DistanceTile(const Packed<T>& packed, Metric metric)
      : x_(packed.query), y_(packed.other()), self_(packed.self), metric_(metric),
        own_(x_.tile * kTileStride), values_(own_.data()), row_min_(x_.tile), a_(x_.depth), b_(x_.depth) {
    std::fill(row_min_.data(), row_min_.data() + x_.tile, -T(INFINITY));
  }

  // Fills `row(i)` for i < rows(); columns from cols() on are arbitrary. A row that is not finite is infinitely far from every
  // other (as an inner product: minus infinity).
  void compute(int64_t I, int64_t J) { compute(I, J, 0, static_cast<int>(x_.block_size(I))); }
  // The same for `rows` rows of block I from row `first` on; row(0) is then that row.
  void compute(int64_t I, int64_t J, int first, int rows) {
    I_ = I;
    J_ = J;
    first_ = first;
    rows_ = rows;
    cols_ = static_cast<int>(y_.block_size(J));
    diagonal_ = self_ && I == J;
    const T* panels = y_.block_panels(J);
    const bool mirrored = diagonal_ && first == 0 && rows == cols_;
    for (int j = 0; j < cols_; j += kPanel<T>)
      multiply_panel(x_.broadcast(I, first), mirrored ? std::min(rows, j + kPanel<T>) : rows, x_.depth,
                     panels + j * x_.depth, values_ + j, kTileStride, false);
    if (mirrored) mirror();
    suspects_.clear();
    for (int i = 0; i < rows_; ++i) to_metric(i);
    if (diagonal_ && metric_ != Metric::dot)
      for (int i = 0; i < rows_; ++i) row(i)[first + i] = T(0);  // from itself
    if (!x_.exact->all_finite || !y_.exact->all_finite) hide_lost();
  }

  // Where the values of the following tiles go, rows kTileStride apart: memory of the caller's.
  void write_to(T* values) { values_ = values; }
  // Back to a tile of the row block and rows of the last `compute`, whose values were kept.
  void return_to(int64_t J, T* values) {
    J_ = J;
    cols_ = static_cast<int>(y_.block_size(J));
    values_ = values;
    std::fill(row_min_.data(), row_min_.data() + rows_, -T(INFINITY));
  }

  int rows() const { return rows_; }
  int first() const { return first_; }  // row(0) is this row of the block
  int cols() const { return cols_; }
  bool diagonal() const { return diagonal_; }
  T* row(int i) { return values_ + i * kTileStride; }
  // A lower bound of the row's values; of inner products none is known.
  T row_min(int i) const { return row_min_[i]; }
  const std::vector<Suspect>& suspects() const { return suspects_; }

  // x - y in full precision for row i of block I and row j of block J; the pointer lives until the next call.
  const double* difference(int64_t I, int64_t J, int i, int j) {
    read_pair(I * x_.tile + i, J * y_.tile + j);
    for (int64_t k = 0; k < x_.depth; ++k) b_[k] = a_[k] - b_[k];
    return b_.data();
  }

 private:
  // The lower triangle of a tile on the diagonal has the bits of the upper one.
  void mirror() {
    for (int i = kPanel<T>; i < rows_; ++i)
      for (int j = 0; j < i / kPanel<T> * kPanel<T>; ++j) row(i)[j] = row(j)[i];
  }

  void read_pair(int64_t i, int64_t j) {
    if (cached_row_ != i) x_.exact->read(cached_row_ = i, a_.data());
    y_.exact->read(j, b_.data());
  }

  void hide_lost() {
    const T nowhere = metric_ == Metric::dot ? -T(INFINITY) : T(INFINITY);
    for (int i = 0; i < rows_; ++i) {
      const bool row_lost = !x_.exact->finite[I_ * x_.tile + first_ + i];
      for (int j = 0; j < cols_; ++j)
        if (row_lost || !y_.exact->finite[J_ * y_.tile + j]) row(i)[j] = nowhere;
    }
  }

  template <Metric metric>
  FR_INLINE static Vec<T> from_square(Vec<T> q) {
    q = max(q, Vec<T>(T(0)));
    if constexpr (metric == Metric::euclidean) return sqrt(q);
    if constexpr (metric == Metric::cosine) return q * Vec<T>(T(0.5));
    return q;
  }

  template <Metric metric>
  void convert_row(int i) {
    T* s = row(i);
    const int64_t at = I_ * x_.tile + first_ + i;
    const int centre = x_.centre[at];
    const T* norms = y_.norms(centre) + J_ * y_.tile;
    const bool clustered = x_.centres->count > 1;
    const V two = V(T(2)), tau = V(kRepair<T>);
    V own = V(x_.norms(0)[at]);
    V smallest = V(T(INFINITY));
    for (int j = 0; j < cols_; j += V::width) {
      if (clustered) own = own_share(at, centre, j);
      const V scale = own + V::load(norms + j);
      const V q = scale - two * V::load(s + j);
      const V value = from_square<metric>(q);
      value.store(s + j);
      smallest = min(smallest, value);
      const Mask<T> close = q < tau * scale;
      if (__builtin_expect(any(close), 0)) repair<metric>(i, j, close);
    }
    for (int step = V::width / 2; step >= 1; step /= 2) smallest = min(smallest, rotate(smallest, step));
    row_min_[i] = smallest[0];
    if (repaired_min_ < row_min_[i]) row_min_[i] = repaired_min_;
    repaired_min_ = T(INFINITY);
  }

  // What row `at` adds to its squared distances to the columns from j on, each by its centre.
  __attribute__((noinline)) V own_share(int64_t at, int centre, int j) const {
    V share;
    for (int l = 0; l < V::width; ++l) {
      const int other = y_.centre[J_ * y_.tile + std::min(j + l, static_cast<int>(y_.tile) - 1)];
      share.v[l] = x_.norms(other)[at] + static_cast<T>(x_.centres->gap[centre * x_.centres->count + other]);
    }
    return share;
  }

  template <Metric metric>
  __attribute__((noinline)) void repair(int i, int j0, Mask<T> close) {
    for (int l = 0; l < Vec<T>::width; ++l) {
      const int j = j0 + l;
      if (!close[l] || j >= cols_ || (diagonal_ && first_ + i == j)) continue;
      read_pair(I_ * x_.tile + first_ + i, J_ * y_.tile + j);
      const double square = squared_difference(a_.data(), b_.data(), x_.depth);
      row(i)[j] = static_cast<T>(metric_of_square(metric, square));
      repaired_min_ = std::min(repaired_min_, row(i)[j]);
      suspects_.push_back({i, j});
    }
  }

  void to_metric(int i) {
    switch (metric_) {
      case Metric::euclidean:
        return convert_row<Metric::euclidean>(i);
      case Metric::squared:
        return convert_row<Metric::squared>(i);
      case Metric::cosine:
        return convert_row<Metric::cosine>(i);
      case Metric::dot:
        return;
    }
  }

  const Operand<T>& x_;
  const Operand<T>& y_;
  bool self_;
  Metric metric_;
  Buffer<T> own_;
  T* values_;  // own_, or where `write_to` said
  Buffer<T> row_min_;
  Buffer<double> a_, b_;  // two rows in full precision
  std::vector<Suspect> suspects_;
  int64_t I_ = 0, J_ = 0, cached_row_ = -1;
  int first_ = 0, rows_ = 0, cols_ = 0;
  bool diagonal_ = false;
  T repaired_min_ = T(INFINITY);
};

}  // namespace fused_rank
