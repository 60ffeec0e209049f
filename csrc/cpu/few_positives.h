// The rank sweep where no query has more than kFewPositives positives. Positives have slots: slot s of a query is the s-th row of
// its class in sorted order, itself left out. Slot arrays are [slot][sorted row], so a vector of queries is one load; in the
// symmetric form the gallery's rows are queries too, and follow.
#pragma once

#include "../terms/triplet.h"
#include "best.h"
#include "triplet.h"

namespace fused_rank {

template <class T>
class FewPositives {
  using V = Vec<T>;

 public:
  // `metric`: what tiles hold. Mining compares squared distances, losses need the metric itself.
  FewPositives(const PairInput& input, Metric metric, Workers& workers)
      : input_(input), matrix_(input, workers), scratch_(matrix_.make_scratch(metric)),
        turned_(input.symmetric ? input.order.turned() : Order{}),
        slots_(std::max(input.order.widest, turned_.widest)),
        stride_(matrix_.query().padded() + (input.symmetric ? matrix_.gallery().padded() : 0)),
        positive_(slots_ * stride_) {
    collect_positives();
  }

  PairMatrix<T>& matrix() { return matrix_; }
  const PairMatrix<T>& matrix() const { return matrix_; }
  int64_t slots() const { return slots_; }
  int64_t padded_rows() const { return stride_; }
  int64_t slot_count(int64_t i) const { return input_.order.positive_count(i); }
  // Where the gallery's rows stand among those that choose, and what they choose from.
  int64_t first_column() const { return input_.symmetric ? matrix_.query().padded() : 0; }
  const Order& turned() const { return turned_; }
  const T* positive(int64_t slot) const { return positive_.data() + slot * stride_; }
  TileScratch<T>& scratch(int worker) { return scratch_[worker]; }

  // Computes tile (I, J) and overwrites whatever is not a negative with infinity.
  DistanceTile<T>& negatives(int64_t I, int64_t J, int worker) {
    DistanceTile<T>& t = scratch_[worker].tile;
    t.compute(I, J);
    const int cols = t.cols(), padded = (cols + V::width - 1) / V::width * V::width;
    for (int i = 0; i < t.rows(); ++i) {
      T* d = t.row(i);
      const TilePositives p = matrix_.positives(I, i, J, cols);
      for (int j = p.begin; j < p.end; ++j) d[j] = T(INFINITY);
      for (int j = cols; j < padded; ++j) d[j] = T(INFINITY);
    }
    return t;
  }

 private:
  void collect_positives() {
    std::fill(positive_.begin(), positive_.end(), T(INFINITY));
    const Order& order = input_.order;
    const int64_t tile = matrix_.tile();
    matrix_.workers().for_each(matrix_.query().blocks(), [&](int64_t I, int worker) {
      const int64_t last_row = I * tile + matrix_.query().block_size(I) - 1;
      const int64_t first = std::max<int64_t>(order.positives[I * tile].begin / tile, input_.self() ? I : 0);
      DistanceTile<T>& t = scratch_[worker].tile;
      for (int64_t J = first; J < matrix_.gallery().blocks() && J * tile < order.positives[last_row].end;
           ++J) {
        if (!matrix_.has_positives(I, J)) continue;
        t.compute(I, J);
        for (int i = 0; i < t.rows(); ++i) {
          const TilePositives p = matrix_.positives(I, i, J, t.cols());
          const int64_t query = I * tile + i;
          for (int j = p.begin; j < p.end; ++j) {
            if (j == p.self) continue;
            const int64_t other = J * tile + j;
            positive_[order.slot_of(query, other) * stride_ + query] = t.row(i)[j];
            if (input_.self() && I != J)
              positive_[order.slot_of(other, query) * stride_ + other] = t.row(i)[j];
            if (input_.symmetric)
              positive_[turned_.slot_of(other, query) * stride_ + first_column() + other] = t.row(i)[j];
          }
        }
      }
    });
  }

  const PairInput& input_;
  PairMatrix<T> matrix_;
  std::vector<TileScratch<T>> scratch_;
  Order turned_;  // of a symmetric form
  int64_t slots_, stride_;
  Buffer<T> positive_;
};

// Semi-hard: for each slot the nearest negative strictly farther than it; for each query the farthest negative.
template <class T>
class SemihardSweep {
  using V = Vec<T>;

 public:
  SemihardSweep(const PairInput& input, Workers& workers)
      : input_(input), ranks_(input, Metric::squared, workers), farthest_(ranks_.padded_rows()) {
    for (int64_t s = 0; s < ranks_.slots(); ++s) nearest_.emplace_back(ranks_.padded_rows());
    PairMatrix<T>& matrix = ranks_.matrix();
    numbers_ = row_numbers<T>(input.order.gallery_rows(), matrix.gallery().blocks() * matrix.tile());
    own_numbers_ = row_numbers<T>(input.order.query, matrix.query().blocks() * matrix.tile());
    matrix.walk([&](int64_t I, int64_t J, int worker) { fold(ranks_.negatives(I, J, worker), I, J); },
                input.symmetric);
  }

  // The original row of the negative for a slot of a sorted query, or -1.
  int64_t negative(int64_t i, int64_t slot) const {
    const int64_t farther = nearest_[slot].found(i);
    return farther >= 0 ? farther : farthest_.found(i);
  }
  // All of them, in original rows: for each query by sorted position, and, of a symmetric form, for each gallery row after them, whose
  // own numbers start at the number of queries.
  std::vector<MinedTriplet> triplets() const {
    std::vector<MinedTriplet> found;
    list(input_.order, 0, 0, ranks_.matrix().gallery_rows(), found);
    if (input_.symmetric)
      list(ranks_.turned(), ranks_.first_column(), ranks_.matrix().query_rows().size(),
           ranks_.matrix().query_rows(), found);
    return found;
  }

 private:
  void list(const Order& order, int64_t first, int64_t offset, const Rows& others,
            std::vector<MinedTriplet>& to) const {
    for (int64_t i = 0; i < static_cast<int64_t>(order.query.size()); ++i)
      for (int64_t s = 0; s < order.positive_count(i); ++s) {
        const int64_t positive = order.at_slot(i, s), n = negative(first + i, s);
        if (n >= 0 && others.finite[positive])
          to.push_back({static_cast<int32_t>(offset + order.query[i]), order.gallery_rows()[positive],
                        static_cast<int32_t>(n)});
      }
  }

  void fold(DistanceTile<T>& t, int64_t I, int64_t J) {
    const int64_t tile = ranks_.matrix().tile();
    const int rows = t.rows(), cols = t.cols();
    const T* column_numbers = numbers_.data() + J * tile;
    const V none = V(T(INFINITY));
    for (int i = 0; i < rows; ++i) {
      const T* d = t.row(i);
      const int64_t query = I * tile + i;
      for (int64_t s = 0; s < ranks_.slot_count(query); ++s) {
        const V positive = V(ranks_.positive(s)[query]);
        best_of_row(
            nearest_[s], query, cols, column_numbers, [&](int j) FR_LAMBDA { return V::load(d + j); },
            [&](int, V v) FR_LAMBDA { return (v > positive) & (v < none); });
      }
      best_of_row(
          farthest_, query, cols, column_numbers, [&](int j) FR_LAMBDA { return -V::load(d + j); },
          [&](int, V v) FR_LAMBDA { return v > -none; });
    }
    if (!(input_.self() || input_.symmetric) || t.diagonal()) return;
    for (int j = 0; j < cols; j += V::width) {
      const int64_t query = ranks_.first_column() + J * tile + j;
      for (int64_t s = 0; s < ranks_.slots(); ++s) {
        const V positive = V::load(ranks_.positive(s) + query);
        for (int i = 0; i < rows; ++i) {
          const V v = V::load(t.row(i) + j);
          best_of_column(nearest_[s], query, v, (v > positive) & (v < none), own_numbers_[I * tile + i]);
        }
      }
      for (int i = 0; i < rows; ++i) {
        const V v = -V::load(t.row(i) + j);
        best_of_column(farthest_, query, v, v > -none, own_numbers_[I * tile + i]);
      }
    }
  }

  const PairInput& input_;
  FewPositives<T> ranks_;
  std::vector<Best<T>> nearest_;
  Best<T> farthest_;
  Buffer<T> numbers_, own_numbers_;
};

// Every triplet (or every one in the band): loss sums and slopes, and the gradient from them.
template <class T, bool Soft>
class AllTriplets {
  using V = Vec<T>;

 public:
  AllTriplets(const TripletProblem& problem, Workers& workers)
      : problem_(problem), term_{problem.margin, problem.mining == Mining::semihard_all},
        ranks_(problem.input, problem.input.metric, workers) {}

  void forward(const TripletForward<T>& out) {
    PairMatrix<T>& matrix = ranks_.matrix();
    const int64_t stride = ranks_.padded_rows(), r = problem_.rows();
    sum_ = Buffer<T>::zeros(stride);
    active_ = Buffer<T>::zeros(stride);
    slopes_ = Buffer<T>::zeros(ranks_.slots() * stride);
    matrix.walk(
        [&](int64_t I, int64_t J, int worker) {
          out.live[I * matrix.gallery().blocks() + J] = fold(ranks_.negatives(I, J, worker), I, J);
        },
        problem_.input.symmetric);
    for_each_anchor([&](int64_t i, int64_t position, int64_t at, const Order& order, bool lost) {
      out.rows[at] = lost ? T(NAN) : sum_[position];
      out.rows[r + at] = static_cast<T>(order.positive_count(i) * order.negative_count(i));
      out.rows[2 * r + at] = active_[position];
      for (int64_t s = 0; s < order.positive_count(i); ++s)
        out.state[s * r + at] = slopes_[s * stride + position];
    });
  }

  void backward(const TripletBackward<T>& io) {
    PairMatrix<T>& matrix = ranks_.matrix();
    const int64_t stride = ranks_.padded_rows(), r = problem_.rows();
    slopes_ = Buffer<T>::zeros(ranks_.slots() * stride);
    upstream_ = Buffer<T>::zeros(stride);
    for_each_anchor([&](int64_t i, int64_t position, int64_t at, const Order& order, bool) {
      upstream_[position] = io.grad_sums[at];
      for (int64_t s = 0; s < order.positive_count(i); ++s)
        slopes_[s * stride + position] = io.state[s * r + at];
    });
    GradientSums<T> sums = matrix.make_sums(io.grad_query != nullptr, io.grad_gallery != nullptr);
    matrix.walk(
        [&](int64_t I, int64_t J, int worker) {
          if (!io.live[I * matrix.gallery().blocks() + J] && !matrix.has_positives(I, J)) return;
          coefficients(ranks_.scratch(worker), I, J);
          matrix.add(ranks_.scratch(worker), I, J, ranks_.scratch(worker).tile.row(0), sums);
        },
        io.grad_gallery != nullptr);
    matrix.write(sums, io.grad_query, io.grad_gallery);
  }

 private:
  struct Sums {
    V loss, slope, active;
  };

  // f(sorted row, its position in slot arrays, row of the results, the order it is a query of, whether its loss is NaN) for each
  // query and, in the symmetric form, each row of the gallery.
  template <class F>
  void for_each_anchor(F&& f) const {
    const PairMatrix<T>& matrix = ranks_.matrix();
    const Order &order = problem_.input.order, &turned = ranks_.turned();
    const Rows &query = matrix.query_rows(), &gallery = matrix.gallery_rows();
    for (int64_t i = 0; i < query.size(); ++i) f(i, i, order.query[i], order, matrix.lost(query, i));
    if (!problem_.input.symmetric) return;
    for (int64_t j = 0; j < gallery.size(); ++j)
      f(j, ranks_.first_column() + j, query.size() + turned.query[j], turned,
        is_lost(gallery, j, gallery, query));
  }
  FR_INLINE void fold_pair(Sums& sums, V positive, V d) const {
    sums.loss += term_.loss(positive, d);
    sums.slope += term_.slope(positive, d);
    sums.active += select(term_.is_active(positive, d), V(T(1)), V(T(0)));
  }

  bool fold(DistanceTile<T>& t, int64_t I, int64_t J) {
    const int64_t tile = ranks_.matrix().tile(), stride = ranks_.padded_rows();
    const int rows = t.rows(), cols = t.cols();
    bool alive = false;
    for (int i = 0; i < rows; ++i) {
      const T* d = t.row(i);
      const int64_t query = I * tile + i;
      for (int64_t s = 0; s < ranks_.slot_count(query); ++s) {
        const V positive = V(ranks_.positive(s)[query]);
        Sums sums{V(T(0)), V(T(0)), V(T(0))};
        for (int j = 0; j < cols; j += V::width) fold_pair(sums, positive, V::load(d + j));
        const T active = horizontal_sum(sums.active);
        if (active == T(0)) continue;
        const T slope = horizontal_sum(sums.slope);
        alive |= slope > T(0);
        sum_[query] += horizontal_sum(sums.loss);
        active_[query] += active;
        slopes_[s * stride + query] += slope;
      }
    }
    if (!(problem_.input.self() && I != J) && !problem_.input.symmetric) return alive;
    for (int j = 0; j < cols; j += V::width) {
      const int64_t query = ranks_.first_column() + J * tile + j;
      for (int64_t s = 0; s < ranks_.slots(); ++s) {
        const V positive = V::load(ranks_.positive(s) + query);
        const Mask<T> real = positive < V(T(INFINITY));
        Sums sums{V(T(0)), V(T(0)), V(T(0))};
        for (int i = 0; i < rows; ++i) fold_pair(sums, positive, V::load(t.row(i) + j));
        add_to(slopes_.data() + s * stride + query, sums.slope, real);
        add_to(sum_.data() + query, sums.loss, real);
        add_to(active_.data() + query, sums.active, real);
        alive |= any(real & (sums.slope > V(T(0))));
      }
    }
    return alive;
  }
  static FR_INLINE void add_to(T* p, V v, Mask<T> where) {
    (V::load(p) + select(where, v, V(T(0)))).store(p);
  }

  // The tile's distances become coefficients: minus the slopes of a negative's triplets, and, at the positives, their sums.
  void coefficients(TileScratch<T>& scratch, int64_t I, int64_t J) {
    DistanceTile<T>& t = scratch.tile;
    t.compute(I, J);
    const bool two_way = problem_.input.self() || problem_.input.symmetric;
    const int64_t tile = ranks_.matrix().tile(), stride = ranks_.padded_rows();
    const V zero = V(T(0));
    for (int i = 0; i < t.rows(); ++i) {
      T* d = t.row(i);
      const int64_t query = I * tile + i;
      const TilePositives p = ranks_.matrix().positives(I, i, J, t.cols());
      for_each_vector<T>(t.cols(), p, [&](int j, auto kind) FR_LAMBDA {
        const V v = V::load(d + j);
        V own = zero, other = zero;
        for (int64_t s = 0; s < ranks_.slot_count(query); ++s)
          own += term_.slope(V(ranks_.positive(s)[query]), v);
        if (two_way) {
          const int64_t column = ranks_.first_column() + J * tile + j;
          for (int64_t s = 0; s < ranks_.slots(); ++s) {
            const V positive = V::load(ranks_.positive(s) + column);
            other += select(positive < V(T(INFINITY)), term_.slope(positive, v), zero);
          }
          other *= V::load(upstream_.data() + column);
        }
        const V negative = -(own * V(upstream_[query]) + other) * ranks_.matrix().factor(v);
        if constexpr (std::is_same_v<decltype(kind), AllNegative>) {
          negative.store(d + j);
        } else if constexpr (std::is_same_v<decltype(kind), AllPositive>) {
          positive_coefficients(query, J * tile, j, v, Mask<T>{v == v}, stride).store(d + j);
        } else {
          const V positive = positive_coefficients(query, J * tile, j, v, kind.positive, stride);
          select(kind.positive, positive, select(kind.negative, negative, zero)).store(d + j);
        }
      });
    }
  }
  V positive_coefficients(int64_t query, int64_t first_col, int j, V d, Mask<T> where, int64_t stride) const {
    V c = V(T(0));
    for (int l = 0; l < V::width; ++l) {
      if (!where[l]) continue;
      const int64_t other = first_col + j + l;
      T slope = upstream_[query] * slopes_[problem_.input.order.slot_of(query, other) * stride + query];
      if (problem_.input.self())
        slope += upstream_[other] * slopes_[problem_.input.order.slot_of(other, query) * stride + other];
      if (problem_.input.symmetric) {
        const int64_t position = ranks_.first_column() + other;
        slope += upstream_[position] * slopes_[ranks_.turned().slot_of(other, query) * stride + position];
      }
      c.v[l] = slope;
    }
    return c * ranks_.matrix().factor(d);
  }

  const TripletProblem& problem_;
  TripletMargin<Soft> term_;
  FewPositives<T> ranks_;
  Buffer<T> sum_, active_, slopes_, upstream_;
};

}  // namespace fused_rank
