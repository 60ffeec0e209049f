// A pair loss of two sets whose rows all have the same upstream gradient, value and gradient in one pass: 1u, and 1u for each side
// that moves, where two sweeps take one more.
//
// A strip of a few queries is computed against the whole gallery and kept. Its rows' statistics are then complete, so its
// values can become coefficients in place. The gallery's blocks take the strips in their order, one after the other: no number
// depends on the strips' height or on how many workers there are.
#pragma once

#include <algorithm>
#include <cmath>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "pair_tiles.h"

namespace fused_rank {

template <class T, class Term>
class PairStrips : PairTiles<T, Term> {
  using Base = PairTiles<T, Term>;
  using Base::matrix_, Base::term_, Base::scratch_, Base::columns_, Base::scales_;

 public:
  PairStrips(const PairProblem& problem, Workers& workers) : Base(problem, workers), workers_(workers) {
    height_ = height();
    for (int w = 0; w < workers.count(); ++w) strips_.emplace_back(blocks(), height_ * kTileStride);
  }

  // The gradients at an upstream gradient of 1, before the normalisation, beside what any forward reports.
  void forward(const PairForward<T>& out) {
    this->start_rows(out.inputs);
    this->start_scales();
    GradientSums<T> sums = matrix_.make_sums(out.grad_query != nullptr, out.grad_gallery != nullptr);
    const Operand<T>& query = matrix_.query();
    const auto strips_of = [&](int64_t rows) { return (rows + height_ - 1) / height_; };
    const int64_t last = query.blocks() - 1, each = strips_of(query.tile);
    Turns turns(blocks());
    workers_.for_each(last * each + strips_of(query.block_size(last)), [&](int64_t t, int worker) {
      Strip& strip = strips_[worker];
      const int64_t I = t / each, first = t % each * height_;
      strip.place(I, first, std::min(height_, query.block_size(I) - first));
      turns.guard([&] { finish_rows(strip, out, sums, worker); });
      for (int64_t J = 0; J < blocks() && sums.gallery.wanted(); ++J) {
        if (!turns.reached(J, static_cast<int32_t>(t))) return;
        turns.guard([&] { add_to_gallery(strip, J, sums.gallery, worker); });
        turns.finish(J, static_cast<int32_t>(t));
      }
    });
    std::fill(out.live, out.live + matrix_.query().blocks() * blocks(), uint8_t{1});
    if (out.grad_query) write(matrix_.query_rows(), sums.query, GradientSum<T>{}, out.grad_query);
    if (out.grad_gallery) write(matrix_.gallery_rows(), sums.gallery, near_, out.grad_gallery);
  }

 private:
  struct Kept {  // the coefficient of a pair that is summed apart
    Suspect at;
    T value;
  };
  struct Strip {
    Strip(int64_t blocks, int64_t part)
        : part_(part), values(blocks * part), suspects(blocks), kept(blocks) {}
    void place(int64_t block, int64_t row, int64_t height) {
      I = block;
      first = static_cast<int>(row);
      rows = static_cast<int>(height);
    }
    T* part(int64_t J) { return values.data() + J * part_; }  // its columns of block J, as rows of a tile

    int64_t part_;
    Buffer<T> values;
    std::vector<std::vector<Suspect>> suspects;
    std::vector<std::vector<Kept>> kept;
    int64_t I = 0;
    int first = 0, rows = 0;
  };

  int64_t blocks() const { return matrix_.gallery().blocks(); }

  // As tall as the memory for all strips allows, and so low that there is one for everybody.
  int64_t height() const {
    constexpr int64_t kBytes = int64_t{1} << 26;
    const int64_t row = blocks() * kTileStride * static_cast<int64_t>(sizeof(T)), workers = workers_.count();
    const int64_t share = (matrix_.query_rows().size() + workers - 1) / workers;
    const int64_t wanted = std::clamp<int64_t>(kBytes / (row * workers), kMicroRows, 128);
    const int64_t least = (share + kMicroRows - 1) / kMicroRows * kMicroRows;
    return std::min({wanted, least, matrix_.tile()});
  }

  void finish_rows(Strip& strip, const PairForward<T>& out, GradientSums<T>& sums, int worker) {
    TileScratch<T>& s = scratch_[worker];
    const int64_t I = strip.I, top = I * matrix_.tile() + strip.first;
    for (int64_t J = 0; J < blocks(); ++J) {
      s.tile.write_to(strip.part(J));
      s.tile.compute(I, J, strip.first, strip.rows);
      strip.suspects[J] = s.tile.suspects();
      this->template fold<false>(s, columns_[worker], I, J);
    }
    const Order& order = matrix_.order();
    for (int64_t i = top; i < top + strip.rows; ++i) {
      const int64_t at = order.query[i];
      this->report(out, i, at, {order.positive_count(i), order.negative_count(i)});
      T state[Term::kState + 1];
      for (int k = 0; k < Term::kState; ++k) state[k] = out.state[k * this->reported() + at];
      const T one(1);
      scales_.set(i, term_.scale(state, &one));
    }
    GradientSum<T>* to = sums.query.wanted() ? &sums.query : nullptr;
    for (int64_t J = 0; J < blocks(); ++J) {
      T* c = strip.part(J);
      s.tile.return_to(J, c);
      this->template slopes<false>(s, I, J);
      take_suspects(s.tile, strip, J, to);
      if (!to) continue;
      const int cols = s.tile.cols();
      if (!unmoved()) matrix_.sum_coefficients(c, I, strip.first, strip.rows, J, cols, to, nullptr);
      for (int64_t k = 0; k < matrix_.query().chunks(); ++k)
        to->add_product_chunk(I, strip.first, k, Coefficients<T>{c, 0}, strip.rows, cols,
                              matrix_.gallery().block_rows(J));
    }
  }

  void add_to_gallery(Strip& strip, int64_t J, GradientSum<T>& to, int worker) {
    const int cols = static_cast<int>(matrix_.gallery().block_size(J));
    const T* c = strip.part(J);
    if (!strip.kept[J].empty())
      std::call_once(near_needed_, [&] { near_ = GradientSum<T>(matrix_.gallery()); });
    for (const auto& [at, value] : strip.kept[J])
      near_.add_difference(J, at.col, -value,
                           scratch_[worker].tile.difference(strip.I, J, strip.first + at.row, at.col));
    if (!unmoved()) matrix_.sum_coefficients(c, strip.I, strip.first, strip.rows, J, cols, nullptr, &to);
    to.add_product(J, TransposedCoefficients<T>{c, 0}, cols, strip.rows,
                   matrix_.query().block_rows(strip.I) + strip.first * kPanel<T>);
  }

  // Near-duplicates leave the strip: into the query's gradient at once, into the gallery's when its turn comes.
  void take_suspects(DistanceTile<T>& reader, Strip& strip, int64_t J, GradientSum<T>* to) {
    strip.kept[J].clear();
    for (const Suspect& at : strip.suspects[J]) {
      T& value = strip.part(J)[at.row * kTileStride + at.col];
      if (value == T(0)) continue;
      const int row = strip.first + at.row;
      if (to) to->add_difference(strip.I, row, value, reader.difference(strip.I, J, row, at.col));
      strip.kept[J].push_back({at, value});
      value = T(0);
    }
  }

  bool unmoved() const { return matrix_.input().metric == Metric::dot; }  // its coefficients have no mass

  void write(const Rows& rows, const GradientSum<T>& sum, const GradientSum<T>& near, T* out) {
    constexpr DType dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
    const int64_t tile = matrix_.tile();
    matrix_.for_each_result(rows, [&](int64_t i, double* g, double* more) {
      if (!matrix_.gradient_lost(rows, i)) {
        sum.read(i / tile, i % tile, g);
        if (near.wanted()) {
          near.read(i / tile, i % tile, more);
          for (int64_t k = 0; k < rows.source.width; ++k) g[k] += more[k];
        }
      }
      narrow(g, rows.source.width, dtype, out, (*rows.order)[i]);
    });
  }

  Workers& workers_;
  int64_t height_;
  std::vector<Strip> strips_;
  // Of the gallery's near-duplicates, apart: in the order of their queries, wherever a strip ends and its product comes between.
  GradientSum<T> near_;
  std::once_flag near_needed_;
};

// Backward where the gradients are there, up to the one upstream number.
template <class T>
void scale_unit_gradients(const PairProblem& problem, const PairBackward<T>& io, Workers& workers) {
  const T upstream = problem.rows() > 0 ? io.grad_sums[0] : T(0);
  for (int64_t i = 1; i < problem.rows(); ++i)
    if (io.grad_sums[i] != upstream && !(std::isnan(io.grad_sums[i]) && std::isnan(upstream)))
      throw std::invalid_argument(
          "rows differ in their upstream gradient, which a gradient made ahead cannot follow");
  if ((io.grad_query && !io.unit_query) || (io.grad_gallery && !io.unit_gallery))
    throw std::invalid_argument("forward made no gradient for a side that wants one");
  PairSides sides(problem.input, workers);
  const auto write = [&](const Rows& rows, const T* unit, void* out) {
    sides.for_each_result(rows, [&](int64_t i, double* g, double* spare) {
      const int64_t at = (*rows.order)[i], width = rows.source.width;
      for (int64_t k = 0; k < width; ++k)
        g[k] = static_cast<double>(upstream) * static_cast<double>(unit[at * width + k]);
      if (problem.input.unit_rows()) through_normalization(rows, i, g, spare);
      narrow(g, width, rows.source.dtype, out, at);
    });
  };
  if (io.grad_query) write(sides.query_rows(), io.unit_query, io.grad_query);
  if (io.grad_gallery) write(sides.gallery_rows(), io.unit_gallery, io.grad_gallery);
}

// The same, and the gradients of the inputs, from the state as anywhere.
template <class T, class Term>
void backward_of_strips(const PairProblem& problem, const PairBackward<T>& io, Workers& workers) {
  scale_unit_gradients(problem, io, workers);
  if constexpr (kInputs<Term> > 0) {
    if (!io.grad_inputs) return;
    const Term term = Term::from(problem.params.data());
    const PairSides sides(problem.input, workers);
    for (int64_t i = 0; i < problem.rows(); ++i)
      KeptRow<T, Term>(io, problem.rows(), sides.order().query[i])
          .write_input_gradient(term, sides.lost(sides.query_rows(), i), io.grad_inputs);
  }
}

}  // namespace fused_rank
