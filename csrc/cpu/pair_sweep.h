// The statistics and gradient sweeps over one problem, for one term.
//
// Self form walks the upper triangle of tiles and folds each into its rows and its columns; two-set form walks the rectangle.
// `Members` arrays hold accumulators and scales by member: [member][row], so that a vector of columns is one load each.
#pragma once

#include <type_traits>
#include <vector>

#include "../terms/term.h"
#include "gradient_sum.h"
#include "pair.h"
#include "pair_lanes.h"
#include "schedule.h"

namespace fused_rank {

// An array of structs with V members, stored by member.
template <class T, template <class> class Struct>
class Members {
 public:
  static constexpr int count = kMembers<T, Struct<T>>;
  explicit Members(int64_t rows = 0) : rows_(rows), data_(rows * count) {}

  void fill(const Struct<T>& value) {
    for (int64_t i = 0; i < rows_; ++i) set(i, value);
  }
  template <class V>
  FR_INLINE Struct<V> load(int64_t i) const {
    Struct<V> s;
    V* members = reinterpret_cast<V*>(&s);
#pragma GCC unroll 8
    for (int m = 0; m < count; ++m) {
      if constexpr (std::is_same_v<V, T>) members[m] = data_[m * rows_ + i];
      else members[m] = V::load(data_.data() + m * rows_ + i);
    }
    return s;
  }
  template <class V>
  FR_INLINE void store(int64_t i, const Struct<V>& s) {
    const V* members = reinterpret_cast<const V*>(&s);
#pragma GCC unroll 8
    for (int m = 0; m < count; ++m) {
      if constexpr (std::is_same_v<V, T>) data_[m * rows_ + i] = members[m];
      else members[m].store(data_.data() + m * rows_ + i);
    }
  }
  Struct<T> get(int64_t i) const { return load<T>(i); }
  void set(int64_t i, const Struct<T>& s) { store<T>(i, s); }

 private:
  int64_t rows_;
  Buffer<T> data_;
};

template <class T, class Term>
class PairSweep {
  using V = Vec<T>;
  template <class U>
  using Row = typename Term::template Row<U>;
  template <class U>
  using Scale = typename Term::template Scale<U>;

 public:
  PairSweep(const PairProblem& problem, Workers& workers)
      : problem_(problem), order_(problem.order), workers_(workers), term_(Term::from(problem.params.data())),
        query_rows_(describe_rows(problem.query, order_.query, problem.unit_rows(), workers)) {
    if (!problem.self()) gallery_rows_ = describe_rows(problem.gallery, order_.gallery, problem.unit_rows(), workers);
    packed_ = pack<T>(query_rows_, problem.self() ? nullptr : &gallery_rows_, Centre::mean, workers);
    for (int w = 0; w < workers.count(); ++w) scratch_.emplace_back(packed_, problem.metric);
  }

  void forward(const PairForward<T>& out) {
    const Operand<T>& x = packed_.query;
    rows_ = Members<T, Row>(x.blocks() * x.tile);
    rows_.fill(Row<T>{});
    const bool fused = out.fused != Fused::none;
    GradientSum<T> query_pos, query_neg, gallery_pos, gallery_neg;
    if (fused) {
      query_pos = GradientSum<T>(x);
      query_neg = GradientSum<T>(x);
      if (!self() && out.fused == Fused::both) {
        gallery_pos = GradientSum<T>(packed_.gallery);
        gallery_neg = GradientSum<T>(packed_.gallery);
      }
    }
    Sums pos{&query_pos, self() ? &query_pos : &gallery_pos}, neg{&query_neg, self() ? &query_neg : &gallery_neg};
    const auto tile = [&](int64_t I, int64_t J, int w) {
      Scratch& s = scratch_[w];
      s.tile.compute(I, J);
      const bool live = fused ? fold<true>(s, I, J) : fold<false>(s, I, J);
      out.live[I * packed_.other().blocks() + J] = live;
      if (fused && s.any_negative) add(s, I, J, s.tile.row(0), neg);
      if (fused && s.any_positive) add(s, I, J, s.positive.data(), pos);
    };
    walk(tile, !self() && out.fused == Fused::both);
    finish(out);
    if (fused) {
      write_unit(query_rows_, query_pos, query_neg, out.grad_query);
      if (gallery_pos.wanted()) write_unit(gallery_rows_, gallery_pos, gallery_neg, out.grad_gallery);
    }
  }

  void backward(const PairBackward<T>& io) {
    make_scales(io);
    GradientSum<T> query, gallery;
    if (io.grad_query) query = GradientSum<T>(packed_.query);
    if (io.grad_gallery) gallery = GradientSum<T>(packed_.gallery);
    Sums sums{&query, self() ? &query : &gallery};
    walk(
        [&](int64_t I, int64_t J, int w) {
          if (!io.live[I * packed_.other().blocks() + J]) return;
          Scratch& s = scratch_[w];
          s.tile.compute(I, J);
          if (self() && io.query_only && I != J) {
            slopes<true>(s, I, J);
            add_query_only(s, I, J, query);
          } else {
            self() && !io.query_only ? slopes_both_ends(s, I, J) : slopes<false>(s, I, J);
            add(s, I, J, s.tile.row(0), sums);
          }
        },
        !self() && io.grad_gallery != nullptr);
    if (io.grad_query) write(query_rows_, query, problem_.query.dtype, io.grad_query);
    if (io.grad_gallery) write(gallery_rows_, gallery, problem_.gallery.dtype, io.grad_gallery);
  }

  // Backward after a fused forward: the gradient is there, up to each query's scale.
  void backward_from_unit(const PairBackward<T>& io) {
    make_scales(io);
    const bool both = io.fused == Fused::both;
    if (io.grad_query) scale_unit(query_rows_, io.unit_query, both, io.grad_query);
    if (io.grad_gallery) scale_unit(gallery_rows_, io.unit_gallery, true, io.grad_gallery);
  }

 private:
  struct Scratch {
    Scratch(const Packed<T>& packed, Metric metric)
        : tile(packed, metric), columns(packed.query.tile), positive(packed.query.tile * tile.ld()),
          row_mass(packed.query.tile), col_mass(packed.query.tile) {}
    DistanceTile<T> tile;
    Members<T, Row> columns;
    Buffer<T> positive;           // a second tile of coefficients: of the positives, or of the transposed direction
    Buffer<T> row_mass, col_mass;
    bool any_positive = false, any_negative = false;
  };
  struct Sums {
    GradientSum<T>* query;
    GradientSum<T>* gallery;
  };

  bool self() const { return problem_.self(); }

  template <class F>
  void walk(F&& tile, bool writes_columns) {
    const int64_t rows = packed_.query.blocks(), cols = packed_.other().blocks();
    if (self()) return for_each_triangle_tile(workers_, rows, tile);
    if (writes_columns) return for_each_rectangle_tile(workers_, rows, cols, tile);
    for_each_row_tile(workers_, rows, cols, tile);
  }

  TilePositives positives(int64_t I, int i, int64_t J, int cols) const {
    const int64_t row = I * packed_.query.tile + i;
    return tile_positives(order_.positives[row], J * packed_.query.tile, cols, self() ? row : -1);
  }

  static FR_INLINE Scale<V> spread(const Scale<T>& s) {
    Scale<V> r;
    const T* from = reinterpret_cast<const T*>(&s);
    V* to = reinterpret_cast<V*>(&r);
#pragma GCC unroll 8
    for (int m = 0; m < kMembers<T, Scale<T>>; ++m) to[m] = V(from[m]);
    return r;
  }

  FR_INLINE void fold_vector(Row<V>& row, V d, AllNegative) const { term_.fold_negative(row, d); }
  FR_INLINE void fold_vector(Row<V>& row, V d, AllPositive) const { term_.fold_positive(row, d); }
  FR_INLINE void fold_vector(Row<V>& row, V d, Mixed<T> m) const {
    Row<V> p = row, n = row;
    term_.fold_positive(p, d);
    term_.fold_negative(n, d);
    V* to = reinterpret_cast<V*>(&row);
    const V* from_p = reinterpret_cast<const V*>(&p);
    const V* from_n = reinterpret_cast<const V*>(&n);
#pragma GCC unroll 8
    for (int k = 0; k < kMembers<V, Row<V>>; ++k) to[k] = select(m.positive, from_p[k], select(m.negative, from_n[k], to[k]));
  }

  // Lanes of one row's accumulators into one.
  FR_INLINE Row<T> merge_lanes(Row<V> row) const {
    constexpr int members = kMembers<V, Row<V>>;
    for (int step = V::width / 2; step >= 1; step /= 2) {
      Row<V> turned;
      const V* from = reinterpret_cast<const V*>(&row);
      V* to = reinterpret_cast<V*>(&turned);
#pragma GCC unroll 8
      for (int m = 0; m < members; ++m) to[m] = rotate(from[m], step);
      term_.merge(row, turned);
    }
    Row<T> result;
    const V* from = reinterpret_cast<const V*>(&row);
    T* to = reinterpret_cast<T*>(&result);
    for (int m = 0; m < members; ++m) to[m] = from[m][0];
    return result;
  }

  // d distance / d x_i = factor * (x_i - y_j)
  FR_INLINE V factor(V d) const {
    const V zero(T(0));
    if (problem_.metric == Metric::euclidean) return select(d > zero, V(T(1)) / d, zero);
    return V(problem_.metric == Metric::squared ? T(2) : T(1));
  }

  // One tile into the statistics of its rows and, in self form, its columns. With `Unit` the tile's values become the
  // coefficients of the negatives at unit scale, and scratch.positive those of the positives.
  template <bool Unit>
  bool fold(Scratch& s, int64_t I, int64_t J) {
    const bool columns = self() && I != J;
    const int rows = s.tile.rows(), cols = s.tile.cols();
    const int64_t tile = packed_.query.tile, padded = (cols + V::width - 1) / V::width * V::width;
    if (columns) s.columns.fill(Row<T>{});
    const Scale<V> unit = spread(Term::template unit<T>());
    s.any_positive = s.any_negative = false;
    if (Unit) {
      s.any_positive = tile_has_positives(I, J, rows, cols);
      if (s.any_positive) s.positive.fill_zero();
    }
    bool alive = false;
    for (int i = 0; i < rows; ++i) {
      T* values = s.tile.row(i);
      const TilePositives p = positives(I, i, J, cols);
      if (p.none() && term_.negative_is_dead(s.tile.row_min(i))) {
        if (Unit) std::fill(values, values + padded, T(0));
        continue;
      }
      T* positive_values = s.positive.data() + i * s.tile.ld();
      Row<V> row{};
      for_each_vector<T>(cols, p, [&](int j, auto kind) FR_LAMBDA {
        const V d = V::load(values + j);
        fold_vector(row, d, kind);
        if (columns) {
          Row<V> column = s.columns.template load<V>(j);
          fold_vector(column, d, kind);
          s.columns.store(j, column);
        }
        if (Unit) unit_coefficients(d, unit, kind, values + j, positive_values + j);
      });
      const Row<T> merged = merge_lanes(row);
      alive |= term_.alive(merged);
      Row<T> total = rows_.get(I * tile + i);
      term_.merge(total, merged);
      rows_.set(I * tile + i, total);
      s.any_negative = true;
    }
    if (columns && alive) {
      for (int j = 0; j < cols; ++j) {
        Row<T> total = rows_.get(J * tile + j);
        term_.merge(total, s.columns.get(j));
        rows_.set(J * tile + j, total);
      }
    }
    if (!alive) s.any_positive = s.any_negative = false;
    return alive;
  }

  FR_INLINE void unit_coefficients(V d, const Scale<V>& unit, AllNegative, T* negative, T*) const {
    (term_.slope_negative(d, unit) * factor(d)).store(negative);
  }
  FR_INLINE void unit_coefficients(V d, const Scale<V>& unit, AllPositive, T* negative, T* positive) const {
    (term_.slope_positive(d, unit) * factor(d)).store(positive);
    V(T(0)).store(negative);
  }
  FR_INLINE void unit_coefficients(V d, const Scale<V>& unit, Mixed<T> m, T* negative, T* positive) const {
    const V f = factor(d), zero(T(0));
    select(m.positive, term_.slope_positive(d, unit) * f, zero).store(positive);
    select(m.negative, term_.slope_negative(d, unit) * f, zero).store(negative);
  }

  bool tile_has_positives(int64_t I, int64_t J, int rows, int cols) const {
    const int64_t tile = packed_.query.tile;  // ranges rise with the row
    return order_.positives[I * tile].begin < J * tile + cols && order_.positives[I * tile + rows - 1].end > J * tile;
  }

  template <class Kind>
  FR_INLINE V slope(V d, const Scale<V>& scale, Kind kind) const {
    if constexpr (std::is_same_v<Kind, AllNegative>) return term_.slope_negative(d, scale);
    else if constexpr (std::is_same_v<Kind, AllPositive>) return term_.slope_positive(d, scale);
    else {
      const V zero(T(0));
      return select(kind.positive, term_.slope_positive(d, scale), select(kind.negative, term_.slope_negative(d, scale), zero));
    }
  }

  // Coefficients of the tile: slope at the query's scale; with `Transposed` also, in scratch.positive, at the column's.
  template <bool Transposed>
  void slopes(Scratch& s, int64_t I, int64_t J) {
    for_each_slope(s, I, J, [&](int j, V d, const Scale<V>& own, const Scale<V>& other, auto kind, T* values, T* second) FR_LAMBDA {
      const V f = factor(d);
      if (Transposed) (slope(d, other, kind) * f).store(second + j);
      (slope(d, own, kind) * f).store(values + j);
    });
  }
  // Both ends of a pair in self form: the pair occurs in the loss of either row, and moves both.
  void slopes_both_ends(Scratch& s, int64_t I, int64_t J) {
    for_each_slope(s, I, J, [&](int j, V d, const Scale<V>& own, const Scale<V>& other, auto kind, T* values, T*) FR_LAMBDA {
      ((slope(d, own, kind) + slope(d, other, kind)) * factor(d)).store(values + j);
    });
  }

  template <class F>
  void for_each_slope(Scratch& s, int64_t I, int64_t J, F&& store) {
    const int rows = s.tile.rows(), cols = s.tile.cols();
    const int64_t tile = packed_.query.tile, padded = (cols + V::width - 1) / V::width * V::width;
    for (int i = 0; i < rows; ++i) {
      T* values = s.tile.row(i);
      T* second = s.positive.data() + i * s.tile.ld();
      const TilePositives p = positives(I, i, J, cols);
      if (p.none() && term_.negative_is_dead(s.tile.row_min(i))) {
        std::fill(values, values + padded, T(0));
        std::fill(second, second + padded, T(0));
        continue;
      }
      const Scale<V> own = spread(scales_.get(I * tile + i));
      for_each_vector<T>(cols, p, [&](int j, auto kind) FR_LAMBDA {
        const Scale<V> other = self() ? scales_.template load<V>(J * tile + j) : own;
        store(j, V::load(values + j), own, other, kind, values, second);
      });
    }
  }

  // Suspects out of the tile and into the sums, pair by pair; then the sums of coefficients by row and by column.
  void take_suspects(Scratch& s, int64_t I, int64_t J, T* c, GradientSum<T>* query, GradientSum<T>* gallery) {
    for (const Suspect& at : s.tile.suspects()) {
      T& value = c[at.row * s.tile.ld() + at.col];
      if (value != T(0)) {
        const double* difference = s.tile.difference(at.row, at.col);
        if (query) query->add_difference(I, at.row, value, difference);
        if (gallery) gallery->add_difference(J, at.col, -value, difference);
      }
      value = T(0);
    }
  }
  void sum_coefficients(Scratch& s, const T* c) {
    const int rows = s.tile.rows(), cols = s.tile.cols();
    s.col_mass.fill_zero();
    for (int i = 0; i < rows; ++i) {
      const T* row = c + i * s.tile.ld();
      V sum(T(0));
      for (int j = 0; j < cols; j += V::width) {
        const V v = V::load(row + j);
        sum += v;
        (V::load(s.col_mass.data() + j) + v).store(s.col_mass.data() + j);
      }
      s.row_mass[i] = horizontal_sum(sum);
    }
  }

  // A tile of coefficients that holds for both ends of each pair, into the rows of I and the columns of J.
  void add(Scratch& s, int64_t I, int64_t J, T* c, Sums sums) {
    const bool columns = sums.gallery->wanted() && !s.tile.diagonal();
    const int rows = s.tile.rows(), cols = s.tile.cols();
    GradientSum<T>* query = sums.query->wanted() ? sums.query : nullptr;
    GradientSum<T>* gallery = columns ? sums.gallery : nullptr;
    take_suspects(s, I, J, c, query, gallery);
    sum_coefficients(s, c);
    if (query) {
      for (int i = 0; i < rows; ++i) query->mass(I)[i] += s.row_mass[i];
      query->add_product(I, coefficients(c, s.tile.ld(), false), rows, cols, s.tile.col_rows());
    }
    if (gallery) {
      for (int j = 0; j < cols; ++j) gallery->mass(J)[j] += s.col_mass[j];
      if (const double* delta = s.tile.col_shift()) gallery->add_shift(J, cols, s.col_mass.data(), delta);
      gallery->add_product(J, coefficients(c, s.tile.ld(), true), cols, rows, packed_.query.block_rows(I));
    }
  }

  // Self form where only queries move: the tile as rows of I, its transposed twin as rows of J.
  void add_query_only(Scratch& s, int64_t I, int64_t J, GradientSum<T>& sum) {
    GradientSum<T> none;
    T* twin = s.positive.data();
    take_suspects(s, I, J, twin, nullptr, &sum);
    sum_coefficients(s, twin);
    for (int j = 0; j < s.tile.cols(); ++j) sum.mass(J)[j] += s.col_mass[j];
    if (const double* delta = s.tile.col_shift()) sum.add_shift(J, s.tile.cols(), s.col_mass.data(), delta);
    sum.add_product(J, coefficients(twin, s.tile.ld(), true), s.tile.cols(), s.tile.rows(), packed_.query.block_rows(I));
    add(s, I, J, s.tile.row(0), Sums{&sum, &none});
  }

  void finish(const PairForward<T>& out) {
    const int64_t m = problem_.query.rows;
    const bool lost = !packed_.other().exact->all_finite;  // every query meets a row that is not finite
    for (int64_t i = 0; i < m; ++i) {
      const int64_t at = order_.query[i];
      Channels<T> channels[Term::kChannels];
      T state[Term::kState + 1];
      term_.finish(rows_.get(i), PairCounts{order_.positive_count(i), order_.negative_count(i)}, channels, state);
      for (int c = 0; c < Term::kChannels; ++c) {
        out.rows[c * m + at] = lost || !query_rows_.finite[i] ? T(NAN) : channels[c].sum;
        out.rows[(Term::kChannels + c) * m + at] = channels[c].count;
        out.rows[(2 * Term::kChannels + c) * m + at] = channels[c].active;
      }
      for (int k = 0; k < Term::kState; ++k) out.state[k * m + at] = state[k];
    }
  }

  void make_scales(const PairBackward<T>& io) {
    const int64_t m = problem_.query.rows;
    scales_ = Members<T, Scale>(packed_.query.blocks() * packed_.query.tile);
    scales_.fill(Scale<T>{});
    for (int64_t i = 0; i < m; ++i) {
      T state[Term::kState + 1], grad[Term::kChannels];
      for (int k = 0; k < Term::kState; ++k) state[k] = io.state[k * m + order_.query[i]];
      for (int c = 0; c < Term::kChannels; ++c) grad[c] = io.grad_sums[c * m + order_.query[i]];
      scales_.set(i, term_.scale(state, grad));
    }
  }

  bool lost(const Rows& rows, int64_t i) const {
    return !rows.finite[i] || !packed_.other().exact->all_finite || (&rows == &gallery_rows_ && !query_rows_.all_finite);
  }

  // f(sorted row, scratch row of doubles) over all rows of one side.
  template <class F>
  void for_each_result(const Rows& rows, F&& f) {
    workers_.for_ranges(rows.size(), 64, [&](int64_t begin, int64_t end) {
      std::vector<double> g(rows.source.width), unit(rows.source.width);
      for (int64_t i = begin; i < end; ++i) {
        if (lost(rows, i)) std::fill(g.begin(), g.end(), NAN);
        f(i, g.data(), unit.data());
      }
    });
  }

  void write(const Rows& rows, const GradientSum<T>& sum, DType dtype, void* out) {
    const int64_t tile = packed_.query.tile;
    for_each_result(rows, [&](int64_t i, double* g, double* unit) {
      if (!lost(rows, i)) {
        sum.read(i / tile, i % tile, g);
        if (problem_.unit_rows()) through_normalization(rows, i, g, unit);
      }
      narrow(g, rows.source.width, dtype, out, (*rows.order)[i]);
    });
  }

  void write_unit(const Rows& rows, const GradientSum<T>& pos, const GradientSum<T>& neg, T* out) {
    const int64_t tile = packed_.query.tile, width = rows.source.width;
    constexpr DType dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
    for_each_result(rows, [&](int64_t i, double* g, double*) {
      const int64_t at = (*rows.order)[i];
      if (!lost(rows, i)) pos.read(i / tile, i % tile, g);
      narrow(g, width, dtype, out, at);
      if (!lost(rows, i)) neg.read(i / tile, i % tile, g);
      narrow(g, width, dtype, out + rows.size() * width, at);
    });
  }

  // In self form with both ends moving, either row of a pair has it in its loss: twice the unit gradient.
  void scale_unit(const Rows& rows, const T* unit_gradient, bool both, void* out) {
    const int64_t width = rows.source.width;
    const T twice = both && self() ? T(2) : T(1);
    for_each_result(rows, [&](int64_t i, double* g, double* unit) {
      const int64_t at = (*rows.order)[i];
      const Scale<T> scale = scales_.get(both ? 0 : i);
      const T* pos = unit_gradient + at * width;
      const T* neg = unit_gradient + (rows.size() + at) * width;
      for (int64_t k = 0; k < width; ++k)
        g[k] = double(twice) * (double(scale.positive) * pos[k] + double(scale.negative) * neg[k]);
      if (problem_.unit_rows()) through_normalization(rows, i, g, unit);
      narrow(g, width, rows.source.dtype, out, at);
    });
  }

  const PairProblem& problem_;
  const Order& order_;
  Workers& workers_;
  Term term_;
  Rows query_rows_, gallery_rows_;
  Packed<T> packed_;
  Members<T, Row> rows_;
  Members<T, Scale> scales_;
  std::vector<Scratch> scratch_;
};

}  // namespace fused_rank
