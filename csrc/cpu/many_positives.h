// The rank sweep where some query has many positives. A strip of queries at a time: its distances to the whole gallery are
// formed, each row is ranked, and, in backward, turned into coefficients in place and multiplied out. The strip is as tall as a
// fixed budget allows, so memory is O(strip * N) and constant from some N on.
#pragma once

#include <functional>

#include "rank_row.h"

namespace fused_rank {

template <class T>
class ManyPositives {
  using V = Vec<T>;

 public:
  // Inner products come negated: the least is the nearest.
  ManyPositives(const PairInput& input, Metric metric, Workers& workers)
      : input_(input), negated_(metric == Metric::dot),
        matrix_(input, workers, negated_ ? Centre::none : Centre::mean),
        scratch_(matrix_.make_scratch(metric)) {
    constexpr int64_t kBudget = int64_t{1} << 22;  // distances in a strip
    const int64_t columns = matrix_.gallery().blocks() * kTileStride;
    height_ = std::clamp<int64_t>(kBudget / columns, 8, 64);
    strip_ = Buffer<T>(height_ * columns);
    suspects_.resize(matrix_.gallery().blocks());
    const int64_t n = input.order.gallery_size();
    for (int w = 0; w < workers.count(); ++w) lines_.emplace_back(2 * n);
  }

  PairMatrix<T>& matrix() { return matrix_; }

  // rank(row, sorted query, coefficients or null, worker) for every query; with `sums` its coefficients are then added.
  template <class F>
  void for_each_row(GradientSums<T>* sums, F&& rank) {
    for (int64_t I = 0; I < matrix_.query().blocks(); ++I)
      for (int64_t first = 0; first < matrix_.query().block_size(I); first += height_)
        strip(I, static_cast<int>(first),
              static_cast<int>(std::min(height_, matrix_.query().block_size(I) - first)), sums, rank);
  }

 private:
  T* part(int64_t J) {
    return strip_.data() + J * height_ * kTileStride;
  }  // the strip's columns of block J, [height][kTileStride]

  template <class F>
  void strip(int64_t I, int first, int rows, GradientSums<T>* sums, F&& rank) {
    const int64_t blocks = matrix_.gallery().blocks(), tile = matrix_.tile(), n = input_.order.gallery_size();
    Workers& workers = matrix_.workers();
    workers.for_each(blocks, [&](int64_t J, int worker) {
      DistanceTile<T>& t = scratch_[worker].tile;
      t.compute(I, J, first, rows);
      for (int i = 0; i < rows; ++i) std::memcpy(part(J) + i * kTileStride, t.row(i), sizeof(T) * t.cols());
      suspects_[J] = t.suspects();
    });
    workers.for_each(rows, [&](int64_t i, int worker) {
      T* line = lines_[worker].data();
      T* coefficients = sums ? line + n : nullptr;
      for (int64_t J = 0; J < blocks; ++J)
        std::memcpy(line + J * tile, part(J) + i * kTileStride, sizeof(T) * matrix_.gallery().block_size(J));
      if (negated_) std::transform(line, line + n, line, std::negate<T>());
      const int64_t query = I * tile + first + i;
      const Range p = input_.order.positives[query];
      const RankRow<T> row{line,  input_.order.gallery_rows().data(), n, p.begin,
                           p.end, input_.self() ? query : -1};
      rank(row, query, coefficients, worker);
      if (!sums) return;
      for (int64_t j = 0; j < n; ++j) coefficients[j] *= static_cast<T>(edge_factor(input_.metric, line[j]));
      for (int64_t J = 0; J < blocks; ++J) {
        const int64_t cols = matrix_.gallery().block_size(J);
        T* out = part(J) + i * kTileStride;
        std::memcpy(out, coefficients + J * tile, sizeof(T) * cols);
        std::fill(out + cols, out + cols + V::width, T(0));  // sums go by whole vectors
      }
    });
    if (sums) multiply(I, first, rows, *sums);
  }

  void multiply(int64_t I, int first, int rows, GradientSums<T>& sums) {
    const int64_t blocks = matrix_.gallery().blocks();
    GradientSum<T>* rows_to = sums.query.wanted() ? &sums.query : nullptr;
    GradientSum<T>* columns_to = input_.self() ? rows_to : sums.gallery.wanted() ? &sums.gallery : nullptr;
    for (int64_t J = 0; J < blocks; ++J)
      matrix_.take_suspects(scratch_[0].tile, suspects_[J], part(J), I, first, J, rows_to, columns_to);
    if (columns_to) {
      matrix_.workers().for_each(blocks, [&](int64_t J, int) {
        const int cols = static_cast<int>(matrix_.gallery().block_size(J));
        matrix_.sum_coefficients(part(J), I, first, rows, J, cols, nullptr, columns_to);
        columns_to->add_product(J, TransposedCoefficients<T>{part(J), 0}, cols, rows,
                                matrix_.query().block_rows(I) + first * kPanel<T>);
      });
    }
    if (rows_to) {
      for (int64_t J = 0; J < blocks; ++J)
        matrix_.sum_coefficients(part(J), I, first, rows, J,
                                 static_cast<int>(matrix_.gallery().block_size(J)), rows_to, nullptr);
      matrix_.workers().for_each(matrix_.query().chunks(), [&](int64_t chunk, int) {
        for (int64_t J = 0; J < blocks; ++J)
          rows_to->add_product_chunk(I, first, chunk, Coefficients<T>{part(J), 0}, rows,
                                     matrix_.gallery().block_size(J), matrix_.gallery().block_rows(J));
      });
    }
  }

  const PairInput& input_;
  bool negated_;
  PairMatrix<T> matrix_;
  std::vector<TileScratch<T>> scratch_;
  int64_t height_ = 0;
  Buffer<T> strip_;
  std::vector<std::vector<Suspect>> suspects_;
  std::vector<Buffer<T>> lines_;
};

}  // namespace fused_rank
