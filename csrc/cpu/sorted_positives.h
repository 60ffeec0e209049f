// A query's row of distances, and its positives in the order in which they are found.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace fused_rank {

// A query's distances to the gallery at positions [0, n); positives are [begin, end) without `self`.
template <class T>
struct RankRow {
  const T* distance;
  const int32_t* number;  // original row of a position
  int64_t n, begin, end, self;
};

// Ascending by distance, equal ones by original row, which within a class is the order of the positions; what is infinitely far (a
// row that is not finite) is left out.
template <class T>
class SortedPositives {
 public:
  void sort(const RankRow<T>& row) {
    entries_.clear();
    for (int64_t j = row.begin; j < row.end; ++j)
      if (j != row.self && row.distance[j] < T(INFINITY))
        entries_.push_back({row.distance[j], static_cast<int32_t>(j)});
    std::sort(entries_.begin(), entries_.end());
    distances_.clear();
    positions_.clear();
    for (const auto& [distance, position] : entries_) {
      distances_.push_back(distance);
      positions_.push_back(position);
    }
  }

  int64_t size() const { return static_cast<int64_t>(positions_.size()); }
  const std::vector<T>& distances() const { return distances_; }
  T distance(int64_t k) const { return distances_[k]; }
  int64_t position(int64_t k) const { return positions_[k]; }
  // How many are strictly nearer than d.
  int64_t below(T d) const {
    return std::lower_bound(distances_.begin(), distances_.end(), d) - distances_.begin();
  }

  static bool before(const RankRow<T>& row, int64_t a, int64_t b) {
    return row.distance[a] < row.distance[b] ||
           (row.distance[a] == row.distance[b] && row.number[a] < row.number[b]);
  }

 private:
  std::vector<std::pair<T, int32_t>> entries_;
  std::vector<T> distances_;
  std::vector<int32_t> positions_;
};

// f(position, distance) for every negative that is finite.
template <class T, class F>
void for_each_negative(const RankRow<T>& row, F&& f) {
  const auto visit = [&](int64_t j) {
    if (row.distance[j] < T(INFINITY)) f(j, row.distance[j]);
  };
  for (int64_t j = 0; j < row.begin; ++j) visit(j);
  for (int64_t j = row.end; j < row.n; ++j) visit(j);
}

}  // namespace fused_rank
