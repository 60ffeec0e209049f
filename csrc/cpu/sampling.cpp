#include "sampling.h"

#include "many_positives.h"
#include "simd_math.h"

namespace fused_rank {

namespace {

// One row's weights. Sums are kept by blocks, for a row is drawn from only a few times.
template <class T>
class WeightedRow {
  using V = Vec<T>;

 public:
  WeightedRow(int64_t width, double cutoff, double limit)
      : nearest_(static_cast<T>(cutoff * cutoff)), limit_(static_cast<T>(limit * limit)),
        by_distance_(static_cast<T>(0.5 * static_cast<double>(2 - width))),
        by_chord_(static_cast<T>(0.5 * static_cast<double>(3 - width))) {}

  void assign(const RankRow<T>& row) {
    const int64_t blocks = (row.n + kBlock - 1) / kBlock;
    weight_.resize(blocks * kBlock);
    const T highest = log_weights(row);
    const V none = V(kNone), zero = V(T(0));
    for (int64_t j = 0; j < blocks * kBlock; j += V::width) {
      const V logarithm = V::load(weight_.data() + j);
      select(logarithm > none, exp(logarithm - V(highest)), zero).store(weight_.data() + j);
    }
    if (highest == kNone) {  // all beyond the limit
      for (int64_t j = 0; j < row.n; ++j) weight_[j] = row.distance[j] < T(INFINITY) ? T(1) : T(0);
      std::fill(weight_.begin() + row.begin, weight_.begin() + row.end, T(0));
    }
    cumulative_.assign(1, 0.0);
    for (int64_t b = 0; b < blocks; ++b) {
      V sum = zero;
      for (int64_t j = b * kBlock; j < (b + 1) * kBlock; j += V::width) sum += V::load(weight_.data() + j);
      cumulative_.push_back(cumulative_.back() + static_cast<double>(horizontal_sum(sum)));
    }
  }

  // The first position whose cumulative weight exceeds that share of the total, or -1.
  int64_t draw(double share) const {
    const double total = cumulative_.back(), target = share * total;
    if (total == 0.0) return -1;
    // a share may round up to the total: then the last block that weighs anything
    const auto last = std::lower_bound(cumulative_.begin(), cumulative_.end(), total);
    const int64_t b = std::min(std::upper_bound(cumulative_.begin(), cumulative_.end(), target), last) -
                      cumulative_.begin() - 1;
    double sum = cumulative_[b];
    int64_t found = -1;
    for (int64_t j = b * kBlock; j < (b + 1) * kBlock && sum <= target; ++j) {
      if (weight_[j] == T(0)) continue;
      sum += static_cast<double>(weight_[j]);
      found = j;
    }
    return found;
  }

 private:
  static constexpr int64_t kBlock = 64;
  static constexpr T kNone = -T(INFINITY);

  // Fills `weight_` with logarithms, kNone for what must not be drawn, and returns the highest.
  T log_weights(const RankRow<T>& row) {
    const V none = V(kNone), quarter = V(T(0.25)), tiny = V(T(1e-8));
    for (int64_t j = 0; j < static_cast<int64_t>(weight_.size()); j += V::width) {
      V square = V(T(INFINITY));
      if (j + V::width <= row.n) square = V::load(row.distance + j);
      else
        for (int64_t l = 0; j + l < row.n; ++l) square.v[l] = row.distance[j + l];
      const Mask<T> admitted = square < V(limit_);
      V logarithm = none;
      if (any(admitted)) {
        const V clipped = min(max(square, V(nearest_)), V(T(4)));
        const V chord = max(V(T(1)) - clipped * quarter, tiny);
        logarithm = select(admitted, log(clipped) * V(by_distance_) + log(chord) * V(by_chord_), none);
      }
      logarithm.store(weight_.data() + j);
    }
    std::fill(weight_.begin() + row.begin, weight_.begin() + row.end, kNone);
    V highest = none;
    for (int64_t j = 0; j < static_cast<int64_t>(weight_.size()); j += V::width)
      highest = max(highest, V::load(weight_.data() + j));
    for (int step = V::width / 2; step >= 1; step /= 2) highest = max(highest, rotate(highest, step));
    return highest[0];
  }

  T nearest_, limit_, by_distance_, by_chord_;
  std::vector<T> weight_;
  std::vector<double> cumulative_;  // before each block, and after the last
};

// Where each anchor's pairs begin, by sorted query position; pairs are numbered by original anchor.
std::vector<int64_t> first_pairs(const Order& order) {
  const int64_t m = static_cast<int64_t>(order.query.size());
  std::vector<int64_t> sorted(m), first(m);
  for (int64_t i = 0; i < m; ++i) sorted[order.query[i]] = i;
  int64_t pairs = 0;
  for (int64_t anchor = 0; anchor < m; ++anchor) {
    first[sorted[anchor]] = pairs;
    pairs += order.positive_count(sorted[anchor]);
  }
  return first;
}

}  // namespace

template <class T>
void sample_negatives(const PairInput& input, const double* draws, double cutoff, double limit,
                      int64_t* negatives, Workers& workers) {
  const Order& order = input.order;
  const std::vector<int64_t> first = first_pairs(order);
  ManyPositives<T> sweep(input, Metric::squared, workers);
  std::vector<WeightedRow<T>> weights(workers.count(), WeightedRow<T>(input.query.width, cutoff, limit));
  sweep.for_each_row(nullptr, [&](const RankRow<T>& row, int64_t i, T*, int worker) {
    const int64_t pairs = order.positive_count(i);
    if (pairs == 0) return;
    const bool finite = sweep.matrix().query_rows().finite[i];
    if (finite) weights[worker].assign(row);
    for (int64_t l = first[i]; l < first[i] + pairs; ++l) {
      const int64_t at = finite ? weights[worker].draw(draws[l]) : -1;
      negatives[l] = at < 0 ? -1 : row.number[at];
    }
  });
}

template void sample_negatives<float>(const PairInput&, const double*, double, double, int64_t*, Workers&);
template void sample_negatives<double>(const PairInput&, const double*, double, double, int64_t*, Workers&);

}  // namespace fused_rank
