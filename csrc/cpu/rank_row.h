// One query against its whole gallery, by rank: positives sorted once, each negative placed among them by binary search.
// O(N log P) for the hinge forms instead of O(N P). Sums are kept in double: a loss is a difference of two of them.
#pragma once

#include "../terms/triplet.h"
#include "sorted_positives.h"
#include "triplet.h"

namespace fused_rank {

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
    positives_.sort(row);
    if (coefficients) std::fill(coefficients, coefficients + row.n, T(0));
    const int64_t negatives = row.n - (row.end - row.begin), positives = positives_.size();
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
    positives_.sort(row);
    find_semihard(row);
  }
  int64_t positives() const { return positives_.size(); }
  // Positions of the k-th positive in ascending order, and of its negative, or -1.
  int64_t positive_at(int64_t k) const { return positives_.position(k); }
  int64_t negative_at(int64_t k) const { return nearest_[k + 1] != kNone ? nearest_[k + 1] : farthest_; }

 private:
  static constexpr int64_t kNone = -1;

  void find_semihard(const RankRow<T>& row) {
    const int64_t positives = positives_.size();
    nearest_.assign(positives + 1, kNone);
    int64_t farthest = kNone;
    for_each_negative(row, [&](int64_t j, T d) {
      int64_t& best = nearest_[positives_.below(d)];  // strictly farther than that many positives
      if (best == kNone || SortedPositives<T>::before(row, j, best)) best = j;
      if (farthest == kNone || d > row.distance[farthest] ||
          (d == row.distance[farthest] && row.number[j] < row.number[farthest]))
        farthest = j;
    });
    for (int64_t k = positives - 1; k >= 1; --k) {  // the nearest of this bucket or of any farther one
      const int64_t next = nearest_[k + 1];
      if (next != kNone && (nearest_[k] == kNone || SortedPositives<T>::before(row, next, nearest_[k])))
        nearest_[k] = next;
    }
    farthest_ = farthest;
  }

  // How many positives have d_ap + margin <= d.
  int64_t satisfied(T d) const {
    const T margin = static_cast<T>(hinge_.margin);
    const std::vector<T>& sorted = positives_.distances();
    return std::partition_point(sorted.begin(), sorted.end(), [&](T ap) { return ap - d + margin <= T(0); }) -
           sorted.begin();
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
    const int64_t positives = positives_.size();
    count_.assign(positives + 1, 0.0);
    distance_.assign(positives + 1, 0.0);
    for_each_negative(row, [&](int64_t j, T d) {
      const int64_t first = satisfied(d), last = hinge_.band ? positives_.below(d) : positives;
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
      result.sum +=
          count * (static_cast<double>(positives_.distance(k)) + static_cast<T>(hinge_.margin)) - distance;
      result.active += count;
      if (coefficients) coefficients[positives_.position(k)] += static_cast<T>(count);
    }
  }

  // Softplus cannot be summed by rank: O(N P).
  void every_pair(const RankRow<T>& row, T* coefficients, Result& result) {
    for_each_negative(row, [&](int64_t j, T d) {
      for (int64_t k = 0; k < positives_.size(); ++k) {
        if (!smooth_.is_active(positives_.distance(k), d)) continue;
        result.sum += smooth_.loss(positives_.distance(k), d);
        result.active += 1.0;
        if (!coefficients) continue;
        const T slope = smooth_.slope(positives_.distance(k), d);
        coefficients[j] -= slope;
        coefficients[positives_.position(k)] += slope;
      }
    });
  }

  Mining mining_;
  bool soft_;
  TripletMargin<false> hinge_;
  TripletMargin<true> smooth_;
  SortedPositives<T> positives_;
  std::vector<int64_t> nearest_;
  std::vector<double> count_, distance_;
  int64_t farthest_ = kNone;
};

}  // namespace fused_rank
