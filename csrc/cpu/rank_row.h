// One query against its whole gallery, by rank: positives sorted once, each negative placed among them by binary search.
// O(N log P) for the hinge forms instead of O(N P). Sums are kept in double: a loss is a difference of two of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../terms/triplet.h"
#include "triplet.h"

namespace fused_rank {

// A query's distances to the gallery at positions [0, n); positives are [begin, end) without `self`.
template <class T>
struct RankRow {
  const T* distance;
  const int32_t* number;  // original row of a position
  int64_t n, begin, end, self;
};

template <class T>
class RowRanker {
 public:
  RowRanker(Mining mining, double margin, bool soft)
      : mining_(mining), soft_(soft), hinge_{margin, mining == Mining::semihard_all},
        smooth_{margin, hinge_.band} {}

  struct Result {
    double sum = 0.0, count = 0.0, active = 0.0;
  };

  // With `coefficients` [n] also d sum / d distance of every position.
  Result rank(const RankRow<T>& row, T* coefficients) {
    sort_positives(row);
    if (coefficients) std::fill(coefficients, coefficients + row.n, T(0));
    const int64_t negatives = row.n - (row.end - row.begin), positives = static_cast<int64_t>(sorted_.size());
    Result result;
    if (positives == 0 || negatives == 0) return result;
    if (mining_ == Mining::semihard) {
      find_semihard(row);
      result.count = static_cast<double>(positives);
      for (int64_t k = 0; k < positives; ++k)
        if (negative_at(k) != kNone) mined(row, k, coefficients, result);
      return result;
    }
    result.count = static_cast<double>(positives) * static_cast<double>(negatives);
    if (soft_) every_pair(row, coefficients, result);
    else ranges(row, coefficients, result);
    return result;
  }

  // Semi-hard negatives of a row; the accessors below speak of it.
  void mine(const RankRow<T>& row) {
    sort_positives(row);
    find_semihard(row);
  }
  int64_t positives() const { return static_cast<int64_t>(sorted_.size()); }
  // Positions of the k-th positive in ascending order, and of its negative, or -1.
  int64_t positive_at(int64_t k) const { return position_[k]; }
  int64_t negative_at(int64_t k) const { return nearest_[k + 1] != kNone ? nearest_[k + 1] : farthest_; }

 private:
  static constexpr int64_t kNone = -1;

  void find_semihard(const RankRow<T>& row) {
    const int64_t positives = static_cast<int64_t>(sorted_.size());
    nearest_.assign(positives + 1, kNone);
    int64_t farthest = kNone;
    for_each_negative(row, [&](int64_t j, T d) {
      int64_t& best = nearest_[below(d)];  // strictly farther than that many positives
      if (best == kNone || before(row, j, best)) best = j;
      if (farthest == kNone || d > row.distance[farthest] ||
          (d == row.distance[farthest] && row.number[j] < row.number[farthest]))
        farthest = j;
    });
    for (int64_t k = positives - 1; k >= 1; --k) {  // the nearest of this bucket or of any farther one
      const int64_t next = nearest_[k + 1];
      if (next != kNone && (nearest_[k] == kNone || before(row, next, nearest_[k]))) nearest_[k] = next;
    }
    farthest_ = farthest;
  }

  static bool before(const RankRow<T>& row, int64_t a, int64_t b) {
    return row.distance[a] < row.distance[b] ||
           (row.distance[a] == row.distance[b] && row.number[a] < row.number[b]);
  }
  template <class F>
  static void for_each_negative(const RankRow<T>& row, F&& f) {
    const auto visit = [&](int64_t j) {
      if (row.distance[j] < T(INFINITY)) f(j, row.distance[j]);  // infinite: a row that is not finite
    };
    for (int64_t j = 0; j < row.begin; ++j) visit(j);
    for (int64_t j = row.end; j < row.n; ++j) visit(j);
  }

  void sort_positives(const RankRow<T>& row) {
    position_.clear();
    for (int64_t j = row.begin; j < row.end; ++j)
      if (j != row.self && row.distance[j] < T(INFINITY)) position_.push_back(j);
    std::sort(position_.begin(), position_.end(), [&](int64_t a, int64_t b) { return before(row, a, b); });
    sorted_.clear();
    for (const int64_t j : position_) sorted_.push_back(row.distance[j]);
  }

  // How many positives are strictly nearer than d, and how many have d_ap + margin <= d.
  int64_t below(T d) const { return std::lower_bound(sorted_.begin(), sorted_.end(), d) - sorted_.begin(); }
  int64_t satisfied(T d) const {
    const T margin = static_cast<T>(hinge_.margin);
    return std::partition_point(sorted_.begin(), sorted_.end(),
                                [&](T ap) { return ap - d + margin <= T(0); }) -
           sorted_.begin();
  }

  void mined(const RankRow<T>& row, int64_t k, T* coefficients, Result& result) {
    const int64_t p = positive_at(k), n = negative_at(k);
    const T ap = row.distance[p], an = row.distance[n];
    const T loss = soft_ ? smooth_.loss(ap, an) : hinge_.loss(ap, an);
    const T slope = soft_ ? smooth_.slope(ap, an) : hinge_.slope(ap, an);
    result.sum += loss;
    result.active += soft_ || loss > T(0);
    if (coefficients) {
      coefficients[p] += slope;
      coefficients[n] -= slope;
    }
  }

  // Hinge: a negative at d violates the positives of one range of ranks, so differences at its ends are all that is added.
  void ranges(const RankRow<T>& row, T* coefficients, Result& result) {
    const int64_t positives = static_cast<int64_t>(sorted_.size());
    count_.assign(positives + 1, 0.0);
    distance_.assign(positives + 1, 0.0);
    for_each_negative(row, [&](int64_t j, T d) {
      const int64_t first = satisfied(d), last = hinge_.band ? below(d) : positives;
      if (first >= last) return;
      count_[first] += 1.0;
      distance_[first] += d;
      count_[last] -= 1.0;
      distance_[last] -= d;
      if (coefficients) coefficients[j] -= static_cast<T>(last - first);
    });
    double count = 0.0, distance = 0.0;
    for (int64_t k = 0; k < positives; ++k) {
      count += count_[k];
      distance += distance_[k];
      result.sum += count * (static_cast<double>(sorted_[k]) + static_cast<T>(hinge_.margin)) - distance;
      result.active += count;
      if (coefficients) coefficients[position_[k]] += static_cast<T>(count);
    }
  }

  // Softplus cannot be summed by rank: O(N P).
  void every_pair(const RankRow<T>& row, T* coefficients, Result& result) {
    for_each_negative(row, [&](int64_t j, T d) {
      for (size_t k = 0; k < sorted_.size(); ++k) {
        if (!smooth_.is_active(sorted_[k], d)) continue;
        result.sum += smooth_.loss(sorted_[k], d);
        result.active += 1.0;
        if (!coefficients) continue;
        const T slope = smooth_.slope(sorted_[k], d);
        coefficients[j] -= slope;
        coefficients[position_[k]] += slope;
      }
    });
  }

  Mining mining_;
  bool soft_;
  TripletMargin<false> hinge_;
  TripletMargin<true> smooth_;
  std::vector<T> sorted_;
  std::vector<int64_t> position_, nearest_;
  std::vector<double> count_, distance_;
  int64_t farthest_ = kNone;
};

}  // namespace fused_rank
