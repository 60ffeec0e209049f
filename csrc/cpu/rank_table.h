// Sorted numbers and, for any other number, how many of them are below it: a table of equal steps leads to the few that need a
// binary search. Steps are found by the same rounded arithmetic for all numbers, which never changes their order, so the answer
// is exact; the table only makes it quick.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace fused_rank {

template <class T>
class RankTable {
 public:
  // `sorted` ascends, is finite, and has to outlive the table. More steps for each number: more of them are empty, and looked up
  // without a search.
  void assign(const std::vector<T>& sorted, int64_t steps_per_number = 1) {
    sorted_ = sorted.data();
    size_ = static_cast<int64_t>(sorted.size());
    if (size_ == 0) return;
    int64_t steps = 1;
    while (steps < size_ * steps_per_number) steps *= 2;
    const T limit = std::numeric_limits<T>::max();
    const T range = sorted_[size_ - 1] - sorted_[0], scale = static_cast<T>(steps) / range;
    scale_ = range < limit && scale < limit ? scale : T(0);  // one step: all nearly equal, or beyond measure
    last_step_ = static_cast<T>(steps - 1);
    first_.assign(steps + 1, 0);
    for (int64_t i = 0; i < size_; ++i) ++first_[step(sorted_[i]) + 1];
    for (int64_t s = 0; s < steps; ++s) first_[s + 1] += first_[s];
  }

  // How many are strictly less than x.
  int64_t below(T x) const {
    if (size_ == 0 || !(x > sorted_[0])) return 0;
    if (x > sorted_[size_ - 1]) return size_;
    const int64_t s = step(x);
    return std::lower_bound(sorted_ + first_[s], sorted_ + first_[s + 1], x) - sorted_;
  }

 private:
  int64_t step(T x) const {
    if (scale_ == T(0)) return 0;
    return static_cast<int64_t>(std::min((x - sorted_[0]) * scale_, last_step_));
  }

  const T* sorted_ = nullptr;
  int64_t size_ = 0;
  T scale_ = T(0), last_step_ = T(0);
  std::vector<int32_t> first_;  // of each step; one more for the end
};

}  // namespace fused_rank
