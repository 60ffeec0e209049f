// A query's row of distances, and its positives in the order in which they are found.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
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
    if (entries_.size() > kFew) into_steps();
    else std::sort(entries_.begin(), entries_.end());
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
  using Entry = std::pair<T, int32_t>;
  static constexpr size_t kFew = 64;

  // Large classes go into equal steps of distance first, one for each entry, which leaves little to sort. Rounding never changes the
  // order of two steps.
  void into_steps() {
    const int64_t n = static_cast<int64_t>(entries_.size());
    const auto [low, high] = std::minmax_element(entries_.begin(), entries_.end());
    const T first = low->first, range = high->first - first, limit = std::numeric_limits<T>::max();
    const T scale = static_cast<T>(n) / range;
    if (!(range < limit && scale < limit)) return std::sort(entries_.begin(), entries_.end());
    const auto step = [&](const Entry& e) {
      return std::min(static_cast<int64_t>((e.first - first) * scale), n - 1);
    };
    begin_.assign(n + 1, 0);
    for (const Entry& e : entries_) ++begin_[step(e) + 1];
    for (int64_t s = 0; s < n; ++s) begin_[s + 1] += begin_[s];
    scattered_.resize(n);
    for (const Entry& e : entries_)
      scattered_[begin_[step(e)]++] = e;  // afterwards begin_[s] is where s ends
    for (int64_t s = 0, start = 0; s < n; start = begin_[s++])
      if (begin_[s] - start > 1) std::sort(scattered_.begin() + start, scattered_.begin() + begin_[s]);
    entries_.swap(scattered_);
  }

  std::vector<Entry> entries_, scattered_;
  std::vector<int32_t> begin_;  // of each step
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
