// The gradient of a set of rows while it is being summed up. For coefficients c_ij = (d loss / d distance) / distance,
//   gradient_i = sum_j c_ij (x_i - y_j) = (sum_j c_ij) x_i - sum_j c_ij y_j,
// so a sweep keeps the sum of coefficients and the sum of products, both in the centred coordinates of the row's own block.
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
      : x_(&x), product_(Buffer<T>::zeros(x.blocks() * x.row_block_stride())), mass_(Buffer<T>::zeros(x.blocks() * x.tile)) {}

  bool wanted() const { return x_ != nullptr; }
  T* mass(int64_t block) { return mass_.data() + block * x_->tile; }

  // product[block rows] += C · y, with y the rows of another block in this block's coordinates, [chunks][tile][kPanel].
  template <class Matrix>
  void add_product(int64_t block, const Matrix& c, int64_t rows, int64_t depth, const T* y) {
    for (int64_t k = 0; k < x_->chunks(); ++k) add_product_chunk(block, 0, k, c, rows, depth, y);
  }
  // One chunk of columns of it, for rows from `first` on.
  template <class Matrix>
  void add_product_chunk(int64_t block, int64_t first, int64_t chunk, const Matrix& c, int64_t rows, int64_t depth, const T* y) {
    const int64_t step = x_->tile * kPanel<T>;
    T* out = product_.data() + block * x_->row_block_stride() + chunk * step + first * kPanel<T>;
    multiply_panel(c, rows, depth, y + chunk * step, out, kPanel<T>, true);
  }

  // gradient_i += scale * difference, for one pair that is summed apart.
  void add_difference(int64_t block, int64_t i, T scale, const double* difference) { add_row(block, i, -scale, difference); }

  // The other side of a tile whose blocks have different centres: y_j - x_i was taken in block I's coordinates.
  void add_shift(int64_t block, int64_t count, const T* mass, const double* delta) {
    for (int64_t j = 0; j < count; ++j) add_row(block, j, mass[j], delta);
  }

  // The finished sum for row i of a block, [depth].
  void read(int64_t block, int64_t i, double* out) const {
    const T* p = product_.data() + block * x_->row_block_stride();
    const T* x = x_->block_rows(block);
    const double mass = mass_[block * x_->tile + i];
    for (int64_t k = 0; k < x_->depth; ++k) {
      const int64_t at = ((k / kPanel<T>) * x_->tile + i) * kPanel<T> + k % kPanel<T>;
      out[k] = mass * x[at] - static_cast<double>(p[at]);
    }
  }

 private:
  void add_row(int64_t block, int64_t i, T scale, const double* v) {
    T* p = product_.data() + block * x_->row_block_stride();
    for (int64_t k = 0; k < x_->depth; ++k)
      p[((k / kPanel<T>) * x_->tile + i) * kPanel<T> + k % kPanel<T>] += static_cast<T>(scale * v[k]);
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
