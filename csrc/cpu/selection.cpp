#include "selection.h"

#include <algorithm>

#include "best.h"

namespace fused_rank {

template <class T>
void mine_hard(const PairInput& input, int64_t* positive, int64_t* negative, Workers& workers) {
  using V = Vec<T>;
  PairMatrix<T> matrix(input, workers);
  const int64_t tile = matrix.tile(), queries = matrix.query_rows().size();
  const bool folds = input.self() || input.symmetric;
  // Who chooses: the queries, and after them, in the symmetric form, the gallery.
  const int64_t first_column = input.symmetric ? matrix.query().padded() : 0;
  const int64_t choosers = matrix.query().padded() + (input.symmetric ? matrix.gallery().padded() : 0);
  const Buffer<T> numbers = row_numbers<T>(input.order.gallery_rows(), matrix.gallery().blocks() * tile);
  const Buffer<T> own_numbers = row_numbers<T>(input.order.query, matrix.query().blocks() * tile);
  Best<T> farthest(choosers), nearest(choosers);  // farthest: of -d²
  auto scratch = matrix.make_scratch(Metric::squared);

  matrix.walk(
      [&](int64_t I, int64_t J, int worker) {
        DistanceTile<T>& t = scratch[worker].tile;
        t.compute(I, J);
        const bool columns = folds && !t.diagonal();
        const int rows = t.rows(), cols = t.cols(), full = cols / V::width * V::width;
        const T* column_numbers = numbers.data() + J * tile;
        for (int i = 0; i < rows; ++i) {
          T* d = t.row(i);
          const int64_t query = I * tile + i;
          const TilePositives p = matrix.positives(I, i, J, cols);
          for (int j = p.begin; j < p.end; ++j) {
            if (j == p.self || d[j] == T(INFINITY)) continue;
            farthest.offer(query, -d[j], column_numbers[j]);
            if (columns) farthest.offer(first_column + J * tile + j, -d[j], own_numbers[query]);
          }
          std::fill(d + std::min(p.begin, cols), d + std::max(std::min(p.end, cols), std::min(p.begin, cols)),
                    T(INFINITY));
          for (int j = cols; j < full + V::width && j < kTileStride; ++j) d[j] = T(INFINITY);
          const auto real = [](int, V v) FR_LAMBDA { return v < V(T(INFINITY)); };
          best_of_row(
              nearest, query, cols, column_numbers, [&](int j) FR_LAMBDA { return V::load(d + j); }, real);
          if (!columns) continue;
          for (int j = 0; j < cols; j += V::width) {
            const V v = V::load(d + j);
            best_of_column(nearest, first_column + J * tile + j, v, v < V(T(INFINITY)), own_numbers[query]);
          }
        }
      },
      input.symmetric);

  const auto report = [&](const Rows& rows, int64_t first, int64_t at) {
    for (int64_t i = 0; i < rows.size(); ++i) {
      positive[at + (*rows.order)[i]] = rows.finite[i] ? farthest.found(first + i) : -1;
      negative[at + (*rows.order)[i]] = rows.finite[i] ? nearest.found(first + i) : -1;
    }
  };
  report(matrix.query_rows(), 0, 0);
  if (input.symmetric) report(matrix.gallery_rows(), first_column, queries);
}

namespace {

// The k least (value, row) pairs seen so far, the worst on top.
template <class T>
class Shortlist {
 public:
  explicit Shortlist(int64_t k) : k_(k) { heap_.reserve(k); }
  void clear() { heap_.clear(); }
  T worst() const { return static_cast<int64_t>(heap_.size()) < k_ ? T(INFINITY) : heap_.front().first; }
  void offer(T value, int64_t row) {
    const std::pair<T, int64_t> entry{value, row};
    if (static_cast<int64_t>(heap_.size()) == k_) {
      if (!(entry < heap_.front())) return;
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.pop_back();
    }
    heap_.push_back(entry);
    std::push_heap(heap_.begin(), heap_.end());
  }
  const std::vector<std::pair<T, int64_t>>& sorted() {
    std::sort_heap(heap_.begin(), heap_.end());
    return heap_;
  }

 private:
  int64_t k_;
  std::vector<std::pair<T, int64_t>> heap_;
};

}  // namespace

template <class T>
void top_k(const PairInput& input, int64_t k, bool exclude_self, T* values, int64_t* indices,
           Workers& workers) {
  using V = Vec<T>;
  const bool dot = input.metric == Metric::dot;
  PairMatrix<T> matrix(input, workers, dot ? Centre::none : Centre::mean);
  const int64_t tile = matrix.tile();
  const Rows& rows = matrix.gallery_rows();
  auto scratch = matrix.make_scratch(dot ? Metric::dot : Metric::squared);
  std::vector<std::vector<Shortlist<T>>> lists(workers.count(),
                                               std::vector<Shortlist<T>>(tile, Shortlist<T>(k)));
  const auto finish = [&](int64_t I, std::vector<Shortlist<T>>& list) {
    for (int64_t i = 0; i < matrix.query().block_size(I); ++i) {
      const int64_t query = I * tile + i;
      int64_t at = query * k;
      if (!matrix.query_rows().finite[query]) {  // no distance is known: the first rows, as NaN
        for (int64_t row = 0, found = 0; found < k; ++row) {
          if (exclude_self && row == query) continue;
          values[at + found] = T(NAN);
          indices[at + found++] = row;
        }
        continue;
      }
      for (const auto& [value, row] : list[i].sorted()) {
        values[at] = !rows.finite[row] ? T(NAN)
                     : dot             ? -value
                                       : static_cast<T>(metric_of_square(input.metric, value));
        indices[at++] = row;
      }
    }
  };
  workers.for_each(matrix.query().blocks(), [&](int64_t I, int worker) {
    DistanceTile<T>& t = scratch[worker].tile;
    std::vector<Shortlist<T>>& list = lists[worker];
    for (Shortlist<T>& l : list) l.clear();
    for (int64_t J = 0; J < matrix.gallery().blocks(); ++J) {
      t.compute(I, J);
      for (int i = 0; i < t.rows(); ++i) {
        const T* d = t.row(i);
        for (int j = 0; j < t.cols(); j += V::width) {
          const V v = dot ? -V::load(d + j) : V::load(d + j);
          const Mask<T> wins = v <= V(list[i].worst());
          if (__builtin_expect(!any(wins), 1)) continue;
          for (int l = 0; l < V::width && j + l < t.cols(); ++l) {
            const int64_t row = J * tile + j + l;
            if (wins[l] && !(exclude_self && row == I * tile + i)) list[i].offer(v[l], row);
          }
        }
      }
    }
    finish(I, list);
  });
}

template void mine_hard<float>(const PairInput&, int64_t*, int64_t*, Workers&);
template void mine_hard<double>(const PairInput&, int64_t*, int64_t*, Workers&);
template void top_k<float>(const PairInput&, int64_t, bool, float*, int64_t*, Workers&);
template void top_k<double>(const PairInput&, int64_t, bool, double*, int64_t*, Workers&);

}  // namespace fused_rank
