#include "triplet_counts.h"

#include <limits>

#include "few_positives.h"
#include "many_positives.h"

namespace fused_rank {

namespace {

// One query's counts and sums; exact, because a double holds every count that can occur.
struct Counts {
  double positive_sum = 0.0, negative_sum = 0.0, hard = 0.0, near = 0.0, active = 0.0;
};

void write(const Order& order, int64_t i, const Counts& counts, bool lost, double* out) {
  const int64_t stride = static_cast<int64_t>(order.query.size());
  const double row[kTripletCounts] = {counts.positive_sum,
                                      counts.negative_sum,
                                      static_cast<double>(order.positive_count(i)),
                                      static_cast<double>(order.negative_count(i)),
                                      counts.hard,
                                      counts.near,
                                      counts.active};
  for (int64_t r = 0; r < kTripletCounts; ++r) out[r * stride + order.query[i]] = lost ? NAN : row[r];
}

// Few positives: each tile's negatives are compared with every slot of its rows and of its columns.
template <class T>
class FewCounts {
  using V = Vec<T>;

 public:
  FewCounts(const PairInput& input, double margin, Workers& workers)
      : input_(input), margin_(static_cast<T>(margin)), ranks_(input, input.metric, workers),
        counts_(ranks_.padded_rows()) {
    ranks_.matrix().walk(
        [&](int64_t I, int64_t J, int worker) { fold(ranks_.negatives(I, J, worker), I, J); }, false);
  }

  void write_to(double* out) {
    PairMatrix<T>& matrix = ranks_.matrix();
    for (int64_t i = 0; i < matrix.query_rows().size(); ++i) {
      for (int64_t s = 0; s < ranks_.slot_count(i); ++s) counts_[i].positive_sum += ranks_.positive(s)[i];
      write(input_.order, i, counts_[i], matrix.lost(matrix.query_rows(), i), out);
    }
  }

 private:
  struct Folded {
    V hard = V(T(0)), near = V(T(0)), active = V(T(0));  // of one tile: at most slots * tile, exact in fp32
  };

  FR_INLINE void fold_pair(Folded& f, V positive, V d) const {
    const V zero = V(T(0)), one = V(T(1)), excess = d - positive, margin = V(margin_);
    f.hard += select(d <= positive, one, zero);
    f.near += select(excess <= margin, one, zero);
    f.active += select(excess < margin, one, zero);
  }
  static FR_INLINE V finite(V d) { return select(d < V(T(INFINITY)), d, V(T(0))); }

  void fold(DistanceTile<T>& t, int64_t I, int64_t J) {
    const int64_t tile = ranks_.matrix().tile();
    const int rows = t.rows(), cols = t.cols();
    for (int i = 0; i < rows; ++i) {
      const int64_t query = I * tile + i;
      Counts& counts = counts_[query];
      Folded f;
      V sum = V(T(0));
      for (int64_t s = 0; s < ranks_.slot_count(query); ++s) {
        const V positive = V(ranks_.positive(s)[query]);
        for (int j = 0; j < cols; j += V::width) fold_pair(f, positive, V::load(t.row(i) + j));
      }
      for (int j = 0; j < cols; j += V::width) sum += finite(V::load(t.row(i) + j));
      counts.negative_sum += horizontal_sum(sum);
      counts.hard += horizontal_sum(f.hard);
      counts.near += horizontal_sum(f.near);
      counts.active += horizontal_sum(f.active);
    }
    if (!input_.self() || I == J) return;
    for (int j = 0; j < cols; j += V::width) fold_columns(t, J * tile + j, j, std::min(V::width, cols - j));
  }

  void fold_columns(DistanceTile<T>& t, int64_t query, int j, int lanes) {
    const int rows = t.rows();
    Folded f;
    V sum = V(T(0));
    for (int64_t s = 0; s < ranks_.slots(); ++s) {
      // Empty slots are infinite, which no count must see: below everything they count nothing.
      const V given = V::load(ranks_.positive(s) + query);
      const V positive = select(given < V(T(INFINITY)), given, V(-T(INFINITY)));
      for (int i = 0; i < rows; ++i) fold_pair(f, positive, V::load(t.row(i) + j));
    }
    for (int i = 0; i < rows; ++i) sum += finite(V::load(t.row(i) + j));
    for (int l = 0; l < lanes; ++l) {
      Counts& counts = counts_[query + l];
      counts.negative_sum += sum[l];
      counts.hard += f.hard[l];
      counts.near += f.near[l];
      counts.active += f.active[l];
    }
  }

  const PairInput& input_;
  T margin_;
  FewPositives<T> ranks_;
  std::vector<Counts> counts_;
};

// Many positives: each negative finds its places among the sorted ones by binary search.
template <class T>
Counts count_row(const RankRow<T>& row, T margin, SortedPositives<T>& positives) {
  positives.sort(row);
  const std::vector<T>& sorted = positives.distances();
  const auto from = [&](auto&& outside) {  // how many positives come after those for which it holds
    return static_cast<double>(sorted.end() - std::partition_point(sorted.begin(), sorted.end(), outside));
  };
  Counts counts;
  for (const T d : sorted) counts.positive_sum += d;
  for_each_negative(row, [&](int64_t, T d) {
    counts.negative_sum += d;
    counts.hard += from([&](T positive) { return positive < d; });
    counts.near += from([&](T positive) { return d - positive > margin; });
    counts.active += from([&](T positive) { return d - positive >= margin; });
  });
  return counts;
}

}  // namespace

template <class T>
void triplet_counts(const PairInput& input, double margin, double* counts, Workers& workers) {
  margin = std::min(margin, static_cast<double>(std::numeric_limits<T>::max()));
  if (input.order.widest <= kFewPositives) return FewCounts<T>(input, margin, workers).write_to(counts);
  ManyPositives<T> sweep(input, input.metric, workers);
  std::vector<SortedPositives<T>> sorted(workers.count());
  sweep.for_each_row(nullptr, [&](const RankRow<T>& row, int64_t i, T*, int worker) {
    const Counts found = count_row(row, static_cast<T>(margin), sorted[worker]);
    write(input.order, i, found, sweep.matrix().lost(sweep.matrix().query_rows(), i), counts);
  });
}

template void triplet_counts<float>(const PairInput&, double, double*, Workers&);
template void triplet_counts<double>(const PairInput&, double, double*, Workers&);

}  // namespace fused_rank
