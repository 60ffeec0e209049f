#include "operand.h"

#include <cmath>

namespace fused_rank {

int64_t tile_rows(int64_t queries, int64_t gallery) {
  const int64_t n = std::min(queries, gallery);
  return n >= 2048 ? 256 : n >= 512 ? 128 : 64;
}

Rows describe_rows(const Source& source, const std::vector<int32_t>& order, bool normalize, Workers& workers) {
  Rows rows;
  rows.source = source;
  rows.order = &order;
  rows.inverse_norm = Buffer<double>(source.rows);
  rows.finite = Buffer<uint8_t>(source.rows);
  workers.for_ranges(source.rows, 256, [&](int64_t begin, int64_t end) {
    std::vector<double> x(source.width);
    for (int64_t i = begin; i < end; ++i) {
      widen(source, order[i], 1.0, x.data());
      double largest = 0.0;
      for (const double v : x) largest = std::fabs(v) > largest || std::isnan(v) ? std::fabs(v) : largest;
      rows.finite[i] = std::isfinite(largest);
      rows.inverse_norm[i] = 1.0;
      if (!rows.finite[i]) {
        rows.inverse_norm[i] = 0.0;
      } else if (normalize) {
        // Squares of fp64 values may leave the range; of narrower types they cannot.
        const double unit = source.dtype == DType::f64 && largest > 0.0 ? std::exp2(-std::ilogb(largest)) : 1.0;
        if (unit != 1.0) for (double& v : x) v *= unit;
        const double norm = std::sqrt(dot(x.data(), x.data(), source.width));
        rows.inverse_norm[i] = norm > 0.0 ? unit / norm : 0.0;
      }
    }
  });
  for (int64_t i = 0; i < source.rows; ++i) rows.all_finite &= rows.finite[i] != 0;
  return rows;
}

namespace {

template <class T>
class Packer {
 public:
  Packer(const Rows& rows, int64_t tile, Workers& workers) : rows_(rows), workers_(workers) {
    out_.size = rows.size();
    out_.depth = rows.source.width;
    out_.tile = tile;
    out_.exact = &rows;
    out_.rows = Buffer<T>(out_.blocks() * out_.row_block_stride());
    out_.panels = Buffer<T>(out_.blocks() * out_.panel_block_stride());
    out_.norm = Buffer<T>(out_.blocks() * tile);
    out_.centres = Buffer<double>::zeros((1 + out_.blocks()) * out_.depth);
    out_.tight.assign(out_.blocks(), 0);
    square_sum_.assign(out_.blocks(), 0.0);
  }

  // The mean of each block, and how far its rows lie from the origin.
  void measure() {
    const int64_t depth = out_.depth;
    workers_.for_each(out_.blocks(), [&](int64_t b, int) {
      std::vector<double> x(depth);
      double* mean = out_.centres.data() + (1 + b) * depth;
      const int64_t n = out_.block_size(b);
      for (int64_t i = 0; i < n; ++i) {
        read(b * out_.tile + i, x.data());
        for (int64_t k = 0; k < depth; ++k) mean[k] += x[k];
        square_sum_[b] += dot(x.data(), x.data(), depth);
      }
      for (int64_t k = 0; k < depth; ++k) mean[k] /= static_cast<double>(n);
    });
  }

  void add_to_mean(double* mean, double total) const {
    for (int64_t b = 0; b < out_.blocks(); ++b) {
      const double* m = out_.centres.data() + (1 + b) * out_.depth;
      const double share = static_cast<double>(out_.block_size(b)) / total;
      for (int64_t k = 0; k < out_.depth; ++k) mean[k] += share * m[k];
    }
  }

  void choose_centres(const double* mean, bool by_block) {
    std::copy(mean, mean + out_.depth, out_.centres.data());
    if (!by_block) return;
    for (int64_t b = 0; b < out_.blocks(); ++b) {
      const double* m = out_.centres.data() + (1 + b) * out_.depth;
      const double spread = std::max(0.0, square_sum_[b] / static_cast<double>(out_.block_size(b)) - dot(m, m, out_.depth));
      constexpr double kTight = 64.0;
      out_.tight[b] = kTight * spread < squared_difference(m, mean, out_.depth);
    }
  }

  Operand<T> finish() {
    workers_.for_each(out_.blocks(), [&](int64_t b, int) { pack_block(b); });
    return std::move(out_);
  }

 private:
  // Rows with NaN or inf take part as zeros; the caller poisons the results they touch.
  void read(int64_t i, double* x) const {
    if (rows_.finite[i]) {
      rows_.read(i, x);
    } else {
      std::fill(x, x + out_.depth, 0.0);
    }
  }

  void pack_block(int64_t b) {
    constexpr int P = kPanel<T>;
    const int64_t depth = out_.depth, tile = out_.tile, n = out_.block_size(b);
    std::vector<double> x(depth);
    const double* centre = out_.centre(b);
    T* rows = out_.rows.data() + b * out_.row_block_stride();
    T* panels = out_.panels.data() + b * out_.panel_block_stride();
    T* norm = out_.norm.data() + b * tile;
    for (int64_t i = 0; i < tile; ++i) {
      double square = 0.0;
      T* panel = panels + (i / P) * depth * P + i % P;
      if (i < n) {
        read(b * tile + i, x.data());
        for (int64_t k = 0; k < depth; ++k) x[k] = static_cast<double>(static_cast<T>(x[k] - centre[k]));
        square = dot(x.data(), x.data(), depth);
      } else {
        std::fill(x.begin(), x.end(), 0.0);
      }
      norm[i] = static_cast<T>(square);
      for (int64_t k = 0; k < depth; ++k) panel[k * P] = static_cast<T>(x[k]);
      for (int64_t c = 0; c < out_.chunks(); ++c) {
        T* chunk = rows + (c * tile + i) * P;
        const int64_t length = std::min<int64_t>(P, depth - c * P);
        for (int64_t k = 0; k < length; ++k) chunk[k] = static_cast<T>(x[c * P + k]);
        for (int64_t k = length; k < P; ++k) chunk[k] = T(0);
      }
    }
  }

  const Rows& rows_;
  Workers& workers_;
  Operand<T> out_;
  std::vector<double> square_sum_;
};

}  // namespace

template <class T>
Packed<T> pack(const Rows& query, const Rows* gallery, Centre centre, Workers& workers) {
  const int64_t tile = tile_rows(query.size(), gallery ? gallery->size() : query.size());
  Packer<T> first(query, tile, workers);
  std::vector<Packer<T>> second;
  if (gallery) second.emplace_back(*gallery, tile, workers);
  if (centre != Centre::none) {
    const double total = static_cast<double>(query.size() + (gallery ? gallery->size() : 0));
    std::vector<double> mean(query.source.width, 0.0);
    first.measure();
    first.add_to_mean(mean.data(), total);
    for (Packer<T>& p : second) {
      p.measure();
      p.add_to_mean(mean.data(), total);
      p.choose_centres(mean.data(), centre == Centre::mean);
    }
    first.choose_centres(mean.data(), centre == Centre::mean);
  }
  Packed<T> packed;
  packed.self = gallery == nullptr;
  packed.query = first.finish();
  for (Packer<T>& p : second) packed.gallery = p.finish();
  return packed;
}

template Packed<float> pack<float>(const Rows&, const Rows*, Centre, Workers&);
template Packed<double> pack<double>(const Rows&, const Rows*, Centre, Workers&);

}  // namespace fused_rank
