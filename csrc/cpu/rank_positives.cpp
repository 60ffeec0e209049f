#include "rank_positives.h"

#include "best.h"
#include "many_positives.h"
#include "rank_table.h"

namespace fused_rank {

namespace {

// The ranks of one row's positives. What lies between them need not be sorted: it only has to be counted.
template <class T>
class PositiveRanks {
  using V = Vec<T>;

 public:
  // `numbers`: the original rows of the positions as T. Ascending ranks, from 1.
  const std::vector<int64_t>& of(const RankRow<T>& row, const T* numbers) {
    positives_.sort(row);
    nearer_.assign(positives_.size() + 1, 0);
    if (positives_.size() <= kCompared) compare(row, numbers);
    else place(row);
    nearer_.resize(positives_.size());
    for (int64_t k = 0; k < positives_.size(); ++k) nearer_[k] += k + 1;
    return nearer_;
  }

 private:
  static constexpr int64_t kCompared = 12;  // so few are compared with every negative, a vector at a time

  void compare(const RankRow<T>& row, const T* numbers) {
    count(row, numbers, 0, row.begin);
    count(row, numbers, row.end, row.n);
  }
  void count(const RankRow<T>& row, const T* numbers, int64_t begin, int64_t end) {
    const V one = V(T(1)), zero = V(T(0));
    const int64_t full = begin + (end - begin) / V::width * V::width;
    for (int64_t k = 0; k < positives_.size(); ++k) {
      const T d = positives_.distance(k), number = numbers[positives_.position(k)];
      const V distance = V(d), own = V(number);
      V sum = zero;  // at most 2^24 / width a lane
      for (int64_t j = begin; j < full; j += V::width) {
        const V other = V::load(row.distance + j);
        const Mask<T> tied = (other == distance) & (V::load(numbers + j) < own);
        sum += select((other < distance) | tied, one, zero);
      }
      int64_t total = static_cast<int64_t>(horizontal_sum(sum));
      for (int64_t j = full; j < end; ++j)
        total += row.distance[j] < d || (row.distance[j] == d && numbers[j] < number);
      nearer_[k] += total;
    }
  }

  // Each negative finds how many positives come before it; sums of those counts are what precedes each positive.
  void place(const RankRow<T>& row) {
    table_.assign(positives_.distances(), 4);
    for_each_negative(row, [&](int64_t j, T d) {
      int64_t k = table_.below(d);
      if (k < positives_.size() && positives_.distance(k) == d) k = after_tie(row, k, d, row.number[j]);
      ++nearer_[k];
    });
    for (int64_t k = 1; k < positives_.size(); ++k) nearer_[k] += nearer_[k - 1];
  }
  int64_t after_tie(const RankRow<T>& row, int64_t first, T d, int32_t number) const {
    int64_t last = positives_.size();
    while (first < last) {
      const int64_t middle = first + (last - first) / 2;
      const bool precedes =
          positives_.distance(middle) == d && row.number[positives_.position(middle)] < number;
      if (precedes) first = middle + 1;
      else last = middle;
    }
    return first;
  }

  SortedPositives<T> positives_;
  RankTable<T> table_;
  std::vector<int64_t> nearer_;  // negatives before each positive, then its rank
};

// 1 / log2(1 + rank) and its sums from rank 1 on.
class Discounts {
 public:
  explicit Discounts(int64_t ranks) : at_(ranks + 1, 0.0), sum_(ranks + 1, 0.0) {
    for (int64_t r = 1; r <= ranks; ++r) {
      at_[r] = 1.0 / std::log2(1.0 + static_cast<double>(r));
      sum_[r] = sum_[r - 1] + at_[r];
    }
  }
  double operator[](int64_t rank) const { return at_[rank]; }
  double ideal(int64_t positives) const { return sum_[positives]; }

 private:
  std::vector<double> at_, sum_;
};

// Writes one query's column of the measures.
void measure(const std::vector<int64_t>& ranks, int64_t positives, const std::vector<int64_t>& cutoffs,
             const Discounts& discounts, double* out, int64_t stride) {
  double precisions = 0.0, early = 0.0, among = 0.0;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const double precision = static_cast<double>(i + 1) / static_cast<double>(ranks[i]);
    precisions += precision;
    if (ranks[i] > positives) continue;
    early += precision;
    among += 1.0;
  }
  const double share = positives > 0 ? 1.0 / static_cast<double>(positives) : 0.0;
  out[0] = static_cast<double>(positives);
  out[stride] = ranks.empty() ? 0.0 : static_cast<double>(ranks[0]);
  out[2 * stride] = among;
  out[3 * stride] = precisions * share;
  out[4 * stride] = early * share;
  const int64_t count = static_cast<int64_t>(cutoffs.size());
  for (int64_t c = 0; c < count; ++c) {
    double found = 0.0, gain = 0.0;
    for (size_t i = 0; i < ranks.size() && ranks[i] <= cutoffs[c]; ++i) {
      found += 1.0;
      gain += discounts[ranks[i]];
    }
    const int64_t best = std::min(positives, cutoffs[c]);
    out[(kRankMeasures + c) * stride] = found;
    out[(kRankMeasures + count + c) * stride] = best > 0 ? gain / discounts.ideal(best) : 0.0;
  }
}

}  // namespace

template <class T>
void rank_positives(const PairInput& input, const std::vector<int64_t>& cutoffs, double* measures,
                    Workers& workers) {
  const Order& order = input.order;
  ManyPositives<T> sweep(input, input.metric == Metric::dot ? Metric::dot : Metric::squared, workers);
  PairMatrix<T>& matrix = sweep.matrix();
  const int64_t m = input.query.rows, rows = kRankMeasures + 2 * static_cast<int64_t>(cutoffs.size());
  const Buffer<T> numbers = row_numbers<T>(order.gallery_rows(), matrix.gallery().padded());
  const Discounts discounts(order.gallery_size());
  std::vector<int64_t> within(cutoffs);
  for (int64_t& k : within) k = std::min(k, order.gallery_size());
  std::vector<PositiveRanks<T>> ranks(workers.count());
  sweep.for_each_row(nullptr, [&](const RankRow<T>& row, int64_t i, T*, int worker) {
    double* out = measures + order.query[i];
    if (matrix.lost(matrix.query_rows(), i))
      for (int64_t r = 0; r < rows; ++r) out[r * m] = NAN;
    else measure(ranks[worker].of(row, numbers.data()), order.positive_count(i), within, discounts, out, m);
  });
}

template void rank_positives<float>(const PairInput&, const std::vector<int64_t>&, double*, Workers&);
template void rank_positives<double>(const PairInput&, const std::vector<int64_t>&, double*, Workers&);

}  // namespace fused_rank
