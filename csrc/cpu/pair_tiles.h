// One tile of a pair loss, for one term: folded into the statistics of its rows and columns, or turned into coefficients; and
// what a row needs before and after. The sweeps (`pair_sweep.h`, `pair_strips.h`) decide which tiles, and when.
//
// A row that reports a loss has a position: its sorted row or, of the gallery of a symmetric form, that after all (padded) queries.
#pragma once

#include <type_traits>
#include <vector>

#include "../terms/term.h"
#include "members.h"
#include "pair.h"
#include "pair_matrix.h"

namespace fused_rank {

// What a row has for backward: what it kept, and its upstream gradients.
template <class T, class Term>
struct KeptRow {
  KeptRow(const PairBackward<T>& io, int64_t reported, int64_t at) : reported(reported), at(at) {
    for (int k = 0; k < Term::kState; ++k) state[k] = io.state[k * reported + at];
    for (int c = 0; c < Term::kChannels; ++c) grad[c] = io.grad_sums[c * reported + at];
  }
  // Into [inputs][R].
  void write_input_gradient(const Term& term, bool lost, T* out) const {
    T inputs[kInputs<Term>];
    term.input_gradient(state, grad, inputs);
    for (int k = 0; k < kInputs<Term>; ++k) out[k * reported + at] = lost ? T(NAN) : inputs[k];
  }

  int64_t reported, at;
  T state[Term::kState + 1], grad[Term::kChannels];
};

template <class T, class Term>
class PairTiles {
 protected:
  using V = Vec<T>;
  template <class U>
  using Row = typename Term::template Row<U>;
  template <class U>
  using Scale = typename Term::template Scale<U>;

  PairTiles(const PairProblem& problem, Workers& workers)
      : matrix_(problem.input, workers, problem.input.metric == Metric::dot ? Centre::none : Centre::mean,
                kPositivesOnly<Term> ? kNarrowTile : INT64_MAX),
        term_(Term::from(problem.params.data())), scratch_(matrix_.make_scratch(problem.input.metric)) {
    for (int w = 0; w < workers.count(); ++w) columns_.emplace_back(matrix_.tile());
  }

  // Positives are few in most tiles that have any, so what visits only those takes small ones.
  static constexpr int64_t kNarrowTile = 64;

  bool self() const { return matrix_.self(); }
  bool symmetric() const { return matrix_.input().symmetric; }
  bool folds_columns() const { return self() || symmetric(); }

  int64_t first_column() const { return symmetric() ? matrix_.query().padded() : 0; }  // a position
  int64_t positions() const {
    return matrix_.query().padded() + (symmetric() ? matrix_.gallery().padded() : 0);
  }
  // f(position, row of the results) for each row that reports a loss.
  template <class F>
  void for_each_reported(F&& f) const {
    const std::vector<int32_t>&query = matrix_.order().query, &gallery = matrix_.order().gallery;
    const int64_t m = static_cast<int64_t>(query.size()), n = static_cast<int64_t>(gallery.size());
    for (int64_t i = 0; i < m; ++i) f(i, query[i]);
    if (symmetric())
      for (int64_t j = 0; j < n; ++j) f(first_column() + j, m + gallery[j]);
  }
  int64_t reported() const {
    return matrix_.query_rows().size() + (symmetric() ? matrix_.gallery_rows().size() : 0);
  }

  // A struct of numbers as one of vectors.
  template <class Vectors, class Numbers>
  static FR_INLINE Vectors spread(const Numbers& s) {
    Vectors r;
    const T* from = reinterpret_cast<const T*>(&s);
    V* to = reinterpret_cast<V*>(&r);
#pragma GCC unroll 8
    for (int m = 0; m < kMembers<T, Numbers>; ++m) to[m] = V(from[m]);
    return r;
  }

  void read_inputs(const T* inputs) {
    if constexpr (kInputs<Term> > 0) {
      inputs_ = Buffer<T>(kInputs<Term> * positions());
      for_each_reported([&](int64_t position, int64_t at) {
        for (int k = 0; k < kInputs<Term>; ++k)
          inputs_[position * kInputs<Term> + k] = inputs[k * reported() + at];
      });
    }
  }
  Row<T> start(int64_t position) const {
    if constexpr (kInputs<Term> == 0) return Row<T>{};
    else return term_.start(inputs_.data() + position * kInputs<Term>);
  }
  // Empty accumulators, of rows with these inputs.
  void start_rows(const T* inputs) {
    read_inputs(inputs);
    rows_ = Members<T, Row>(positions());
    if constexpr (kInputs<Term> == 0) rows_.fill(Row<T>{});
    else for_each_reported([&](int64_t at, int64_t) { rows_.set(at, start(at)); });
  }
  void start_scales() {
    scales_ = Members<T, Scale>(positions());
    scales_.fill(Scale<T>{});
  }
  FR_INLINE Row<V> start_vector(int64_t position) const {
    if constexpr (kInputs<Term> == 0) return Row<V>{};
    else return spread<Row<V>>(start(position));
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
    for (int k = 0; k < kMembers<V, Row<V>>; ++k)
      to[k] = select(m.positive, from_p[k], select(m.negative, from_n[k], to[k]));
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

  // One tile into the statistics of its rows and, in self and symmetric form, its columns. With `Unit` the tile's values become the
  // coefficients of the negatives at unit scale, and scratch.positive those of the positives.
  template <bool Unit>
  bool fold(TileScratch<T>& s, Members<T, Row>& columns_of, int64_t I, int64_t J) {
    const bool columns = symmetric() || (self() && I != J);
    const int rows = s.tile.rows(), cols = s.tile.cols(), first = s.tile.first();
    const int64_t tile = matrix_.tile(), padded = (cols + V::width - 1) / V::width * V::width;
    const int64_t first_row = I * tile + first, first_column = this->first_column() + J * tile;
    if (columns) {
      if constexpr (kInputs<Term> == 0) columns_of.fill(Row<T>{});
      else
        for (int j = 0; j < cols; ++j) columns_of.set(j, start(first_column + j));
    }
    Scale<V> unit;
    if constexpr (Unit) unit = spread<Scale<V>>(Term::template unit<T>());
    if (Unit && matrix_.has_positives(I, J)) s.second.fill_zero();
    bool alive = false;
    for (int i = 0; i < rows; ++i) {
      T* values = s.tile.row(i);
      const TilePositives p = matrix_.positives(I, first + i, J, cols);
      if (p.none() && term_.negative_is_dead(s.tile.row_min(i))) {
        if (Unit) std::fill(values, values + padded, T(0));
        continue;
      }
      T* positive_values = s.second.data() + i * kTileStride;
      Row<V> row = start_vector(first_row + i);
      for_each_vector<T>(cols, p, [&](int j, auto kind) FR_LAMBDA {
        const V d = V::load(values + j);
        fold_vector(row, d, kind);
        if (columns) {
          Row<V> column = columns_of.template load<V>(j);
          fold_vector(column, d, kind);
          columns_of.store(j, column);
        }
        if constexpr (Unit) unit_coefficients(d, unit, kind, values + j, positive_values + j);
      });
      const Row<T> merged = merge_lanes(row);
      alive |= term_.alive(merged);
      Row<T> total = rows_.get(first_row + i);
      term_.merge(total, merged);
      rows_.set(first_row + i, total);
    }
    if constexpr (kInputs<Term> > 0) {  // a pair may be dead to its row and alive to its column
      for (int j = 0; columns && !alive && j < cols; ++j) alive = term_.alive(columns_of.get(j));
    }
    if (columns && alive) {
      for (int j = 0; j < cols; ++j) {
        Row<T> total = rows_.get(first_column + j);
        term_.merge(total, columns_of.get(j));
        rows_.set(first_column + j, total);
      }
    }
    return alive;
  }

  FR_INLINE void unit_coefficients(V d, const Scale<V>& unit, AllNegative, T* negative, T*) const {
    (term_.slope_negative(d, unit) * matrix_.factor(d)).store(negative);
  }
  FR_INLINE void unit_coefficients(V d, const Scale<V>& unit, AllPositive, T* negative, T* positive) const {
    (term_.slope_positive(d, unit) * matrix_.factor(d)).store(positive);
    V(T(0)).store(negative);
  }
  FR_INLINE void unit_coefficients(V d, const Scale<V>& unit, Mixed<T> m, T* negative, T* positive) const {
    const V f = matrix_.factor(d), zero(T(0));
    select(m.positive, term_.slope_positive(d, unit) * f, zero).store(positive);
    select(m.negative, term_.slope_negative(d, unit) * f, zero).store(negative);
  }

  template <class Kind>
  FR_INLINE V slope(V d, const Scale<V>& scale, Kind kind) const {
    if constexpr (std::is_same_v<Kind, AllNegative>) return term_.slope_negative(d, scale);
    else if constexpr (std::is_same_v<Kind, AllPositive>) return term_.slope_positive(d, scale);
    else {
      const V zero(T(0));
      return select(kind.positive, term_.slope_positive(d, scale),
                    select(kind.negative, term_.slope_negative(d, scale), zero));
    }
  }

  // Coefficients of the tile: slope at the query's scale; with `Transposed` also, in scratch.positive, at the column's.
  template <bool Transposed>
  void slopes(TileScratch<T>& s, int64_t I, int64_t J) {
    for_each_slope(s, I, J,
                   [&](int j, V d, const Scale<V>& own, const Scale<V>& other, auto kind, T* values,
                       T* second) FR_LAMBDA {
                     const V f = matrix_.factor(d);
                     if (Transposed) (slope(d, other, kind) * f).store(second + j);
                     (slope(d, own, kind) * f).store(values + j);
                   });
  }
  // Both ends of a pair in self and symmetric form: the pair occurs in the loss of either row, and moves both.
  void slopes_of_both_ends(TileScratch<T>& s, int64_t I, int64_t J) {
    for_each_slope(
        s, I, J,
        [&](int j, V d, const Scale<V>& own, const Scale<V>& other, auto kind, T* values, T*) FR_LAMBDA {
          ((slope(d, own, kind) + slope(d, other, kind)) * matrix_.factor(d)).store(values + j);
        });
  }

  template <class F>
  void for_each_slope(TileScratch<T>& s, int64_t I, int64_t J, F&& store) {
    const int rows = s.tile.rows(), cols = s.tile.cols(), first = s.tile.first();
    const int64_t tile = matrix_.tile(), padded = (cols + V::width - 1) / V::width * V::width;
    const int64_t first_row = I * tile + first, first_column = this->first_column() + J * tile;
    const bool two_way = folds_columns();
    for (int i = 0; i < rows; ++i) {
      T* values = s.tile.row(i);
      T* second = s.second.data() + i * kTileStride;
      const TilePositives p = matrix_.positives(I, first + i, J, cols);
      if (p.none() && term_.negative_is_dead(s.tile.row_min(i))) {
        std::fill(values, values + padded, T(0));
        std::fill(second, second + padded, T(0));
        continue;
      }
      const Scale<V> own = spread<Scale<V>>(scales_.get(first_row + i));
      for_each_vector<T>(cols, p, [&](int j, auto kind) FR_LAMBDA {
        const Scale<V> other = two_way ? scales_.template load<V>(first_column + j) : own;
        store(j, V::load(values + j), own, other, kind, values, second);
      });
    }
  }

  void finish(const PairForward<T>& out) {
    const Order& order = matrix_.order();
    const int64_t m = matrix_.query_rows().size();
    const std::vector<int64_t> turned =
        symmetric() ? order.gallery_positive_counts() : std::vector<int64_t>{};
    for_each_reported([&](int64_t position, int64_t at) {
      const int64_t j = position - first_column();  // of the gallery, if at >= m
      report(out, position, at,
             at < m ? PairCounts{order.positive_count(position), order.negative_count(position)}
                    : PairCounts{turned[j], m - turned[j]});
    });
  }
  // One row's accumulators into what it reports and keeps.
  void report(const PairForward<T>& out, int64_t position, int64_t at, PairCounts counts) {
    const int64_t r = reported();
    Channels<T> channels[Term::kChannels];
    T state[Term::kState + 1];
    term_.finish(rows_.get(position), counts, channels, state);
    for (int c = 0; c < Term::kChannels; ++c) {
      out.rows[c * r + at] = lost(position, at) ? T(NAN) : channels[c].sum;
      out.rows[(Term::kChannels + c) * r + at] = channels[c].count;
      out.rows[(2 * Term::kChannels + c) * r + at] = channels[c].active;
    }
    for (int k = 0; k < Term::kState; ++k) out.state[k * r + at] = state[k];
  }

  bool lost(int64_t position, int64_t at) const {
    const Rows &query = matrix_.query_rows(), &gallery = matrix_.gallery_rows();
    if (at < query.size()) return matrix_.lost(query, position);
    return !gallery.finite[position - first_column()] || !query.all_finite;  // its gallery are the queries
  }

  // What backward needs of each row, and the gradients of its inputs.
  void make_scales(const PairBackward<T>& io) {
    start_scales();
    for_each_reported([&](int64_t position, int64_t at) {
      const KeptRow<T, Term> kept(io, reported(), at);
      scales_.set(position, term_.scale(kept.state, kept.grad));
      if constexpr (kInputs<Term> > 0) {
        if (io.grad_inputs) kept.write_input_gradient(term_, lost(position, at), io.grad_inputs);
      }
    });
  }

  PairMatrix<T> matrix_;
  Term term_;
  std::vector<TileScratch<T>> scratch_;
  std::vector<Members<T, Row>> columns_;  // a tile's column statistics, one for each worker
  Buffer<T> inputs_;                      // [position][input]
  Members<T, Row> rows_;
  Members<T, Scale> scales_;
};

}  // namespace fused_rank
