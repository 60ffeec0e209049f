// The gradient of a set of rows while it is being summed up. For coefficients c_ij = (d loss / d distance) / distance,
//   gradient_i = sum_j c_ij (x_i - y_j),  where x_i - y_j = (p_i - q_j) + (centre of i - centre of j),
// so a sweep keeps the sum of products sum_j c_ij q_j and, for each centre, the sum of the coefficients of its rows.
#pragma once

#include "buffer.h"
#include "distance_tile.h"
#include "operand.h"
#include "product.h"

namespace fused_rank {

template <class T>
class GradientSum {
 public:
  GradientSum() = default;
  explicit GradientSum(const Operand<T>& x)
      : x_(&x), product_(Buffer<T>::zeros(x.blocks() * x.row_block_stride())),
        mass_(Buffer<T>::zeros(x.centres->count * x.padded())) {}

  bool wanted() const { return x_ != nullptr; }
  // Sums of coefficients towards the rows of one centre, for the rows of a block.
  T* mass(int centre, int64_t block) { return mass_.data() + centre * x_->padded() + block * x_->tile; }

  // product[block rows] += C · y, with y the rows of another block in this block's coordinates, [chunks][tile][kPanel].
  template <class Matrix>
  void add_product(int64_t block, const Matrix& c, int64_t rows, int64_t depth, const T* y) {
    for (int64_t k = 0; k < x_->chunks(); ++k) add_product_chunk(block, 0, k, c, rows, depth, y);
  }
  // One chunk of columns of it, for rows from `first` on.
  template <class Matrix>
  void add_product_chunk(int64_t block, int64_t first, int64_t chunk, const Matrix& c, int64_t rows,
                         int64_t depth, const T* y) {
    const int64_t step = x_->tile * kPanel<T>;
    T* out = product_.data() + block * x_->row_block_stride() + chunk * step + first * kPanel<T>;
    multiply_panel(c, rows, depth, y + chunk * step, out, kPanel<T>, true);
  }

  // gradient_i += scale * difference, for one pair that is summed apart.
  void add_difference(int64_t block, int64_t i, T scale, const double* difference) {
    add_row(block, i, -scale, difference);
  }

  // The finished sum for row i of a block, [depth].
  void read(int64_t block, int64_t i, double* out) const {
    const Centres& centres = *x_->centres;
    const int64_t row = block * x_->tile + i;
    double total = 0.0;
    for (int c = 0; c < centres.count; ++c) total += mass_[c * x_->padded() + row];
    for_each_chunk(block, i, [&](int64_t from, int64_t length, const T* product, const T* x) {
      for (int64_t k = 0; k < length; ++k) out[from + k] = total * x[k] - static_cast<double>(product[k]);
    });
    const int own = x_->centre[row];
    for (int c = 0; c < centres.count; ++c) {
      const double mass = mass_[c * x_->padded() + row];
      if (c == own || mass == 0.0) continue;
      for (int64_t k = 0; k < x_->depth; ++k) out[k] += mass * (centres[own][k] - centres[c][k]);
    }
  }

 private:
  // f(first column, columns, the sum's chunk, the row's own chunk)
  template <class F>
  void for_each_chunk(int64_t block, int64_t i, F&& f) const {
    const int64_t step = x_->tile * kPanel<T>, at = block * x_->row_block_stride() + i * kPanel<T>;
    for (int64_t c = 0; c < x_->chunks(); ++c)
      f(c * kPanel<T>, std::min<int64_t>(kPanel<T>, x_->depth - c * kPanel<T>),
        product_.data() + at + c * step, x_->rows.data() + at + c * step);
  }
  void add_row(int64_t block, int64_t i, T scale, const double* v) {
    for_each_chunk(block, i, [&](int64_t from, int64_t length, const T* product, const T*) {
      T* out = const_cast<T*>(product);
      for (int64_t k = 0; k < length; ++k) out[k] += static_cast<T>(scale * v[from + k]);
    });
  }

  const Operand<T>* x_ = nullptr;
  Buffer<T> product_, mass_;
};

// Through the normalisation x̂ = x / |x|: gradient = (g - x̂ (x̂ · g)) / |x|. Zero rows have inverse norm 0 and get 0.
inline void through_normalization(const Rows& rows, int64_t i, double* gradient, double* unit_row) {
  const int64_t width = rows.source.width;
  const double inverse = rows.inverse_norm[i];
  rows.read(i, unit_row);
  const double along = dot(unit_row, gradient, width);
  for (int64_t k = 0; k < width; ++k) gradient[k] = inverse * (gradient[k] - along * unit_row[k]);
}

}  // namespace fused_rank
