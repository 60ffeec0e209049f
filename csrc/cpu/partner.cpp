#include "partner.h"

#include <algorithm>

#include "best.h"

namespace fused_rank {

namespace {

template <class T>
class PartnerSweep {
  using V = Vec<T>;

 public:
  PartnerSweep(const PairInput& input, PartnerChoice choice, const T* above, const T* below, Workers& workers)
      : input_(input), choice_(choice), matrix_(input, workers),
        scratch_(matrix_.make_scratch(Metric::squared)), sign_(choice.farthest ? T(-1) : T(1)),
        numbers_(row_numbers<T>(input.order.gallery_rows(), matrix_.gallery().padded())),
        best_(matrix_.query().padded()), above_(limits(above, -T(INFINITY))),
        below_(limits(below, T(INFINITY))) {
    matrix_.walk([&](int64_t I, int64_t J, int worker) { visit(I, J, worker); }, false);
  }

  void write(T* values, int64_t* rows) const {
    const Rows& queries = matrix_.query_rows();
    for (int64_t i = 0; i < queries.size(); ++i) {
      const int64_t at = input_.order.query[i], found = queries.finite[i] ? best_.found(i) : -1;
      rows[at] = found;
      values[at] = found >= 0 ? sign_ * best_.value[i] : T(NAN);
    }
  }

 private:
  Buffer<T> limits(const T* given, T none) const {
    Buffer<T> sorted(matrix_.query().padded());
    std::fill(sorted.begin(), sorted.end(), none);
    for (int64_t i = 0; given && i < input_.query.rows; ++i) sorted[i] = given[input_.order.query[i]];
    return sorted;
  }

  void visit(int64_t I, int64_t J, int worker) {
    if (choice_.positives && !matrix_.has_positives(I, J)) return;
    DistanceTile<T>& t = scratch_[worker].tile;
    t.compute(I, J);
    if (choice_.positives) positives(t, I, J);
    else negatives(t, I, J);
  }

  void positives(DistanceTile<T>& t, int64_t I, int64_t J) {
    const int64_t tile = matrix_.tile();
    const bool columns = input_.self() && I != J;
    for (int i = 0; i < t.rows(); ++i) {
      const int64_t query = I * tile + i;
      const TilePositives p = matrix_.positives(I, i, J, t.cols());
      for (int j = p.begin; j < p.end; ++j) {
        if (j == p.self) continue;
        offer(query, t.row(i)[j], J * tile + j);
        if (columns) offer(J * tile + j, t.row(i)[j], query);
      }
    }
  }
  void offer(int64_t query, T d, int64_t other) {
    if (d > above_[query] && d < below_[query] && d < T(INFINITY))
      best_.offer(query, sign_ * d, numbers_[other]);
  }

  void negatives(DistanceTile<T>& t, int64_t I, int64_t J) {
    const int64_t tile = matrix_.tile();
    const int rows = t.rows(), cols = t.cols(), padded = (cols + V::width - 1) / V::width * V::width;
    const T* column_numbers = numbers_.data() + J * tile;
    const V sign = V(sign_), none = V(T(INFINITY));
    const auto eligible = [none](V d, V above, V below)
                              FR_LAMBDA { return (d > above) & (d < below) & (d < none); };
    for (int i = 0; i < rows; ++i) {
      T* d = t.row(i);
      const int64_t query = I * tile + i;
      const TilePositives p = matrix_.positives(I, i, J, cols);
      for (int j = p.begin; j < p.end; ++j) d[j] = T(INFINITY);
      for (int j = cols; j < padded; ++j) d[j] = T(INFINITY);
      const V above = V(above_[query]), below = V(below_[query]);
      best_of_row(
          best_, query, cols, column_numbers, [&](int j) FR_LAMBDA { return sign * V::load(d + j); },
          [&](int j, V) FR_LAMBDA { return eligible(V::load(d + j), above, below); });
      if (!input_.self() || I == J) continue;
      for (int j = 0; j < cols; j += V::width) {
        const int64_t other = J * tile + j;
        const V v = V::load(d + j);
        const Mask<T> real = eligible(v, V::load(above_.data() + other), V::load(below_.data() + other));
        best_of_column(best_, other, sign * v, real, numbers_[query]);
      }
    }
  }

  const PairInput& input_;
  PartnerChoice choice_;
  PairMatrix<T> matrix_;
  std::vector<TileScratch<T>> scratch_;
  T sign_;
  Buffer<T> numbers_;
  Best<T> best_;
  Buffer<T> above_, below_;
};

}  // namespace

template <class T>
void find_partner(const PairInput& input, PartnerChoice choice, const T* above, const T* below, T* values,
                  int64_t* rows, Workers& workers) {
  PartnerSweep<T>(input, choice, above, below, workers).write(values, rows);
}

template void find_partner<float>(const PairInput&, PartnerChoice, const float*, const float*, float*,
                                  int64_t*, Workers&);
template void find_partner<double>(const PairInput&, PartnerChoice, const double*, const double*, double*,
                                   int64_t*, Workers&);

}  // namespace fused_rank
