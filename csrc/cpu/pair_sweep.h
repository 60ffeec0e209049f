// The statistics and gradient sweeps over one problem, for one term.
//
// Self form walks the upper triangle of tiles and folds each into its rows and its columns; two-set form walks the rectangle,
// and folds its columns too where it is symmetric.
#pragma once

#include "pair_tiles.h"

namespace fused_rank {

template <class T, class Term>
class PairSweep : PairTiles<T, Term> {
  using Base = PairTiles<T, Term>;
  using typename Base::V;
  template <class U>
  using Scale = typename Term::template Scale<U>;
  using Base::matrix_, Base::term_, Base::scratch_, Base::columns_, Base::scales_;
  using Base::self, Base::symmetric, Base::folds_columns, Base::start_rows, Base::finish, Base::make_scales;

 public:
  PairSweep(const PairProblem& problem, Workers& workers) : Base(problem, workers) {}

  void forward(const PairForward<T>& out) {
    start_rows(out.inputs);
    const bool fused = out.fused != Fused::none, columns = out.fused == Fused::both && !self();
    GradientSums<T> positive = matrix_.make_sums(fused, columns),
                    negative = matrix_.make_sums(fused, columns);
    matrix_.walk(
        [&](int64_t I, int64_t J, int worker) {
          uint8_t& live = out.live[I * matrix_.gallery().blocks() + J];
          live = !kPositivesOnly<Term> || matrix_.has_positives(I, J);
          if (!live) return;
          TileScratch<T>& s = scratch_[worker];
          s.tile.compute(I, J);
          if constexpr (Term::kSeparable) {
            if (fused) {
              live = this->template fold<true>(s, columns_[worker], I, J);
              if (!live) return;
              matrix_.add(s, I, J, s.tile.row(0), negative);
              if (matrix_.has_positives(I, J)) matrix_.add(s, I, J, s.second.data(), positive);
              return;
            }
          }
          live = this->template fold<false>(s, columns_[worker], I, J);
        },
        columns || symmetric());
    finish(out);
    if (!fused) return;
    write_unit(matrix_.query_rows(), positive.query, negative.query, out.grad_query);
    if (columns) write_unit(matrix_.gallery_rows(), positive.gallery, negative.gallery, out.grad_gallery);
  }

  void backward(const PairBackward<T>& io) {
    make_scales(io);
    const bool columns = io.grad_gallery != nullptr;
    if (!columns && !io.grad_query) return;
    GradientSums<T> sums = matrix_.make_sums(io.grad_query != nullptr, columns);
    matrix_.walk(
        [&](int64_t I, int64_t J, int worker) {
          if (!io.live[I * matrix_.gallery().blocks() + J]) return;
          TileScratch<T>& s = scratch_[worker];
          s.tile.compute(I, J);
          if (self() && io.query_only && I != J) {
            this->template slopes<true>(s, I, J);
            matrix_.add(s, I, J, s.second.data(), nullptr, &sums.query);
            matrix_.add(s, I, J, s.tile.row(0), &sums.query, nullptr);
          } else {
            folds_columns() && !io.query_only ? this->slopes_of_both_ends(s, I, J)
                                              : this->template slopes<false>(s, I, J);
            matrix_.add(s, I, J, s.tile.row(0), sums);
          }
        },
        columns);
    matrix_.write(sums, io.grad_query, io.grad_gallery);
  }

  // Backward after a fused forward: the gradient is there, up to each query's scale.
  void backward_from_unit(const PairBackward<T>& io) {
    make_scales(io);
    const bool both = io.fused == Fused::both;
    if (io.grad_query) scale_unit(matrix_.query_rows(), io.unit_query, both, io.grad_query);
    if (io.grad_gallery) scale_unit(matrix_.gallery_rows(), io.unit_gallery, true, io.grad_gallery);
  }

 private:
  // [2][rows][width]: the gradient of the positive and of the negative part at unit scale, before the normalisation.
  void write_unit(const Rows& rows, const GradientSum<T>& positive, const GradientSum<T>& negative, T* out) {
    const int64_t tile = matrix_.tile(), width = rows.source.width;
    constexpr DType dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
    matrix_.for_each_result(rows, [&](int64_t i, double* g, double*) {
      const int64_t at = (*rows.order)[i];
      const bool lost = matrix_.gradient_lost(rows, i);
      if (!lost) positive.read(i / tile, i % tile, g);
      narrow(g, width, dtype, out, at);
      if (!lost) negative.read(i / tile, i % tile, g);
      narrow(g, width, dtype, out + rows.size() * width, at);
    });
  }

  // In self form with both ends moving, either row of a pair has it in its loss: twice the unit gradient.
  void scale_unit(const Rows& rows, const T* unit, bool both, void* out) {
    const int64_t width = rows.source.width;
    const double twice = both && self() ? 2.0 : 1.0;
    matrix_.for_each_result(rows, [&](int64_t i, double* g, double* spare) {
      const int64_t at = (*rows.order)[i];
      const Scale<T> scale = scales_.get(both ? 0 : i);
      const T* positive = unit + at * width;
      const T* negative = unit + (rows.size() + at) * width;
      for (int64_t k = 0; k < width; ++k)
        g[k] = twice * (static_cast<double>(scale.positive) * positive[k] +
                        static_cast<double>(scale.negative) * negative[k]);
      if (matrix_.input().unit_rows()) through_normalization(rows, i, g, spare);
      narrow(g, width, rows.source.dtype, out, at);
    });
  }
};

}  // namespace fused_rank
