#include "sampling.h"

#include "many_positives.h"
#include "simd_math.h"

namespace fused_rank {

namespace {

template <class T>
class WeightedRow {
  using V = Vec<T>;

 public:
  WeightedRow(int64_t width, double cutoff, double limit)
      : nearest_(static_cast<T>(cutoff * cutoff)), limit_(static_cast<T>(limit * limit)),
        by_distance_(static_cast<T>(0.5 * static_cast<double>(2 - width))),
        by_chord_(static_cast<T>(0.5 * static_cast<double>(3 - width))) {}

  // Cumulative weights of a row of squared distances.
  void assign(const RankRow<T>& row) {
    weight_.resize((row.n + V::width - 1) / V::width * V::width);
    cumulative_.resize(row.n);
    log_weights(row);
    T highest = -T(INFINITY);
    for_each_negative(row, [&](int64_t j, T d) {
      if (d < limit_) highest = std::max(highest, weight_[j]);
    });
    const bool uniform = highest == -T(INFINITY);
    for (int64_t j = 0; j < row.n; j += V::width)
      exp(V::load(weight_.data() + j) - V(highest)).store(weight_.data() + j);
    double total = 0.0;
    for (int64_t j = 0; j < row.n; ++j) {
      const T d = row.distance[j];
      const bool negative = (j < row.begin || j >= row.end) && d < T(INFINITY);
      if (negative) total += uniform ? 1.0 : d < limit_ ? static_cast<double>(weight_[j]) : 0.0;
      cumulative_[j] = total;
    }
  }

  // The first position whose cumulative weight exceeds that share of the total, or -1.
  int64_t draw(double share) const {
    const double total = cumulative_.back();
    if (total == 0.0) return -1;
    const auto at = std::upper_bound(cumulative_.begin(), cumulative_.end(), share * total);
    if (at != cumulative_.end()) return at - cumulative_.begin();
    // rounded up to the total: the last that weighs anything
    return std::lower_bound(cumulative_.begin(), cumulative_.end(), total) - cumulative_.begin();
  }

 private:
  void log_weights(const RankRow<T>& row) {
    const T tiny = T(1e-8);
    for (int64_t j = 0; j < row.n; j += V::width) {
      V square = V(nearest_);
      if (j + V::width <= row.n) square = V::load(row.distance + j);
      else
        for (int64_t l = 0; j + l < row.n; ++l) square.v[l] = row.distance[j + l];
      square = min(max(square, V(nearest_)), V(T(4)));
      const V chord = max(V(T(1)) - square * V(T(0.25)), V(tiny));
      (log(square) * V(by_distance_) + log(chord) * V(by_chord_)).store(weight_.data() + j);
    }
  }

  T nearest_, limit_, by_distance_, by_chord_;
  std::vector<T> weight_;
  std::vector<double> cumulative_;
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
