#include "operand.h"

#include <cmath>

namespace fused_rank {

int64_t tile_rows(int64_t queries, int64_t gallery) {
  const int64_t n = std::min(queries, gallery);
  return n >= 2048 ? 256 : n >= 512 ? 128 : 64;
}

namespace {

// 1 / |x|, 0 for a zero row, NaN for one that is not finite. x is overwritten.
double inverse_norm(std::vector<double>& x) {
  const int64_t width = static_cast<int64_t>(x.size());
  double square = dot(x.data(), x.data(), width);
  if (square > 1e-280 && square < 1e280) return 1.0 / std::sqrt(square);
  double largest = 0.0;  // only fp64 input leaves that range without being zero, infinite or NaN
  for (const double v : x) largest = std::fabs(v) > largest || std::isnan(v) ? std::fabs(v) : largest;
  if (!std::isfinite(largest)) return NAN;
  if (largest == 0.0) return 0.0;
  const double unit = std::exp2(-std::ilogb(largest));
  for (double& v : x) v *= unit;
  square = dot(x.data(), x.data(), width);
  return unit / std::sqrt(square);
}

}  // namespace

Rows describe_rows(const Source& source, const std::vector<int32_t>& order, bool normalize, Workers& workers, Blocks* blocks) {
  const int64_t n = source.rows, width = source.width, tile = blocks ? blocks->tile : 256, count = (n + tile - 1) / tile;
  Rows rows;
  rows.source = source;
  rows.order = &order;
  rows.inverse_norm = Buffer<double>(n);
  rows.finite = Buffer<uint8_t>(n);
  if (blocks) {
    blocks->mean = Buffer<double>::zeros(count * width);
    blocks->square_sum.assign(count, 0.0);
  }
  workers.for_each(count, [&](int64_t b, int) {
    std::vector<double> x(width);
    const int64_t begin = b * tile, end = std::min(n, begin + tile);
    for (int64_t i = begin; i < end; ++i) {
      widen(source, order[i], 1.0, x.data());
      const double inverse = inverse_norm(x);
      rows.finite[i] = !std::isnan(inverse);
      rows.inverse_norm[i] = !rows.finite[i] ? 0.0 : normalize ? inverse : 1.0;
      if (!blocks || !rows.finite[i]) continue;
      rows.read(i, x.data());
      double* mean = blocks->mean.data() + b * width;
      const double share = 1.0 / static_cast<double>(end - begin);
      for (int64_t k = 0; k < width; ++k) mean[k] += share * x[k];
      blocks->square_sum[b] += inverse == 0.0 ? 0.0 : normalize ? 1.0 : 1.0 / (inverse * inverse);
    }
  });
  for (int64_t i = 0; i < n; ++i) rows.all_finite &= rows.finite[i] != 0;
  return rows;
}

namespace {

void add_to_mean(const Blocks& blocks, int64_t rows, double total, std::vector<double>& mean) {
  const int64_t width = static_cast<int64_t>(mean.size());
  for (size_t b = 0; b < blocks.square_sum.size(); ++b) {
    const double* m = blocks.mean.data() + static_cast<int64_t>(b) * width;
    const double share = static_cast<double>(std::min(blocks.tile, rows - static_cast<int64_t>(b) * blocks.tile)) / total;
    for (int64_t k = 0; k < width; ++k) mean[k] += share * m[k];
  }
}

template <class T>
class Packer {
 public:
  Packer(const Rows& rows, const Blocks& blocks, const std::vector<double>& mean, bool by_block) : rows_(rows) {
    out_.size = rows.size();
    out_.depth = rows.source.width;
    out_.tile = blocks.tile;
    out_.exact = &rows;
    out_.rows = Buffer<T>(out_.blocks() * out_.row_block_stride());
    out_.panels = Buffer<T>(out_.blocks() * out_.panel_block_stride());
    out_.norm = Buffer<T>(out_.blocks() * out_.tile);
    out_.centres = Buffer<double>((1 + out_.blocks()) * out_.depth);
    out_.tight.assign(out_.blocks(), 0);
    std::copy(mean.begin(), mean.end(), out_.centres.data());
    for (int64_t b = 0; b < out_.blocks(); ++b) {
      const double* m = blocks.mean.data() + b * out_.depth;
      std::copy(m, m + out_.depth, out_.centres.data() + (1 + b) * out_.depth);
      const double spread = std::max(0.0, blocks.square_sum[b] / static_cast<double>(out_.block_size(b)) - dot(m, m, out_.depth));
      constexpr double kTight = 64.0;
      out_.tight[b] = by_block && kTight * spread < squared_difference(m, mean.data(), out_.depth);
    }
  }

  Operand<T> pack(Workers& workers) {
    workers.for_each(out_.blocks(), [&](int64_t b, int) {
      std::vector<double> x(out_.depth);
      for (int64_t first = 0; first < out_.tile; first += kPanel<T>) pack_panel(b, first, x.data());
    });
    return std::move(out_);
  }

 private:
  static constexpr int P = kPanel<T>;

  // kPanel rows of a block from row `first` on: first as rows, then those turned into a panel, P x P numbers at a time.
  void pack_panel(int64_t b, int64_t first, double* x) {
    const int64_t depth = out_.depth, tile = out_.tile;
    T* rows = out_.rows.data() + b * out_.row_block_stride();
    for (int64_t i = first; i < first + P; ++i) out_.norm[b * tile + i] = pack_row(b, i, rows + i * P, x);
    T* panel = out_.panels.data() + b * out_.panel_block_stride() + first * depth;
    for (int64_t c = 0; c < out_.chunks(); ++c) {
      const T* square = rows + (c * tile + first) * P;
      const int64_t length = std::min<int64_t>(P, depth - c * P);
      for (int64_t k = 0; k < length; ++k)
        for (int i = 0; i < P; ++i) panel[(c * P + k) * P + i] = square[i * P + k];
    }
  }

  // Centred and rounded, chunk by chunk; returns the squared norm of what was stored. Padding is zero, and so, for the time being,
  // are rows with NaN or inf: the caller poisons the results they touch.
  T pack_row(int64_t b, int64_t i, T* out, double* x) {
    const int64_t row = b * out_.tile + i, depth = out_.depth, step = out_.tile * P;
    const bool present = row < out_.size && rows_.finite[row];
    if (present) {
      rows_.read(row, x);
      const double* centre = out_.centre(b);
      for (int64_t k = 0; k < depth; ++k) x[k] = static_cast<double>(static_cast<T>(x[k] - centre[k]));
    }
    for (int64_t c = 0; c < out_.chunks(); ++c) {
      const int64_t length = std::min<int64_t>(P, depth - c * P);
      for (int64_t k = 0; k < length; ++k) out[c * step + k] = present ? static_cast<T>(x[c * P + k]) : T(0);
      for (int64_t k = length; k < P; ++k) out[c * step + k] = T(0);
    }
    return present ? static_cast<T>(dot(x, x, depth)) : T(0);
  }

  const Rows& rows_;
  Operand<T> out_;
};

}  // namespace

template <class T>
Packed<T> pack(const Rows& query, const Blocks& query_blocks, const Rows* gallery, const Blocks* gallery_blocks, Centre centre,
               Workers& workers) {
  std::vector<double> mean(query.source.width, 0.0);
  if (centre != Centre::none) {
    const double total = static_cast<double>(query.size() + (gallery ? gallery->size() : 0));
    add_to_mean(query_blocks, query.size(), total, mean);
    if (gallery) add_to_mean(*gallery_blocks, gallery->size(), total, mean);
  }
  Packed<T> packed;
  packed.self = gallery == nullptr;
  packed.query = Packer<T>(query, query_blocks, mean, centre == Centre::mean).pack(workers);
  if (gallery) packed.gallery = Packer<T>(*gallery, *gallery_blocks, mean, centre == Centre::mean).pack(workers);
  return packed;
}

template Packed<float> pack<float>(const Rows&, const Blocks&, const Rows*, const Blocks*, Centre, Workers&);
template Packed<double> pack<double>(const Rows&, const Blocks&, const Rows*, const Blocks*, Centre, Workers&);

}  // namespace fused_rank
