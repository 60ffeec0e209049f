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
    const double mass = mass_[block * x_->tile + i];
    for_each_chunk(block, i, [&](int64_t from, int64_t length, const T* product, const T* x) {
      for (int64_t k = 0; k < length; ++k) out[from + k] = mass * x[k] - static_cast<double>(product[k]);
    });
  }

 private:
  // f(first column, columns, the sum's chunk, the row's own chunk)
  template <class F>
  void for_each_chunk(int64_t block, int64_t i, F&& f) const {
    const int64_t step = x_->tile * kPanel<T>, at = block * x_->row_block_stride() + i * kPanel<T>;
    for (int64_t c = 0; c < x_->chunks(); ++c)
      f(c * kPanel<T>, std::min<int64_t>(kPanel<T>, x_->depth - c * kPanel<T>), product_.data() + at + c * step, x_->rows.data() + at + c * step);
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
