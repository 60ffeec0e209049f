#include "operand.h"

#include <cmath>

namespace fused_rank {

int64_t tile_rows(int64_t queries, int64_t gallery) {
  const int64_t n = std::min(queries, gallery);
  return n >= 2048 ? 256 : n >= 512 ? 128 : 64;
}

namespace {

// 1 / |x|, 0 for a zero row, NaN for one that is not finite.
double inverse_norm(const std::vector<double>& x) {
  const int64_t width = static_cast<int64_t>(x.size());
  double square = dot(x.data(), x.data(), width);
  if (square > 1e-280 && square < 1e280) return 1.0 / std::sqrt(square);
  double largest = 0.0;  // only fp64 input leaves that range without being zero, infinite or NaN
  for (const double v : x) largest = std::fabs(v) > largest || std::isnan(v) ? std::fabs(v) : largest;
  if (!std::isfinite(largest)) return NAN;
  if (largest == 0.0) return 0.0;
  const double unit = std::exp2(-std::ilogb(largest));
  square = 0.0;
  for (const double v : x) square += (v * unit) * (v * unit);
  return unit / std::sqrt(square);
}

// Does the square of a row of that length leave fp32, in which all but fp64 rows are multiplied?
bool overflows(DType dtype, double inverse_norm) {
  return dtype != DType::f64 && inverse_norm > 0.0 && inverse_norm < 1.2e-19;
}

}  // namespace

Rows describe_rows(const Source& source, const std::vector<int32_t>& order, bool normalize, Workers& workers,
                   Moments* moments) {
  constexpr int64_t kPiece = 256;
  const int64_t n = source.rows, width = source.width, pieces = (n + kPiece - 1) / kPiece;
  Rows rows;
  rows.source = source;
  rows.order = &order;
  rows.inverse_norm = Buffer<double>(n);
  rows.finite = Buffer<uint8_t>(n);
  Buffer<double> sums = Buffer<double>::zeros(moments ? pieces * width : 0);
  std::vector<double> squares(pieces, 0.0);
  workers.for_each(pieces, [&](int64_t piece, int) {
    std::vector<double> x(width);
    for (int64_t i = piece * kPiece; i < std::min(n, (piece + 1) * kPiece); ++i) {
      widen(source, order[i], 1.0, x.data());
      const double inverse = inverse_norm(x);
      rows.finite[i] = !std::isnan(inverse) && (normalize || !overflows(source.dtype, inverse));
      rows.inverse_norm[i] = !rows.finite[i] ? 0.0 : normalize ? inverse : 1.0;
      if (!moments || !rows.finite[i]) continue;
      double* sum = sums.data() + piece * width;
      const double scale = rows.inverse_norm[i];
      for (int64_t k = 0; k < width; ++k) sum[k] += scale * x[k];
      squares[piece] += inverse == 0.0 ? 0.0 : normalize ? 1.0 : 1.0 / (inverse * inverse);
    }
  });
  int64_t finite = 0;
  for (int64_t i = 0; i < n; ++i) finite += rows.finite[i];
  rows.all_finite = finite == n;
  if (moments) {
    moments->count = finite;
    moments->mean.assign(width, 0.0);
    const double share = 1.0 / static_cast<double>(std::max<int64_t>(finite, 1));
    for (int64_t piece = 0; piece < pieces; ++piece) {
      moments->square += share * squares[piece];
      for (int64_t k = 0; k < width; ++k) moments->mean[k] += share * sums[piece * width + k];
    }
  }
  return rows;
}

void merge(Moments& into, const Moments& from) {
  const double total = static_cast<double>(std::max<int64_t>(into.count + from.count, 1));
  const double a = static_cast<double>(into.count) / total, b = static_cast<double>(from.count) / total;
  for (size_t k = 0; k < into.mean.size(); ++k) into.mean[k] = a * into.mean[k] + b * from.mean[k];
  into.square = a * into.square + b * from.square;
  into.count += from.count;
}

Centres choose_centres(const Rows& query, const Rows* gallery, const Moments& moments) {
  constexpr int64_t kSample = 64, kFewest = 256;
  constexpr int kMost = 16;
  constexpr double kTight = 1.0 / 256;  // of the squared distance to the mean
  Centres centres;
  const int64_t depth = centres.depth = static_cast<int64_t>(moments.mean.size());
  centres.at = moments.mean;
  const double spread = moments.square - dot(moments.mean.data(), moments.mean.data(), depth);
  if (spread > 1e-12 * moments.square) {  // below, the rows agree so well that no grid would help
    const double grid = std::exp2(std::floor(0.5 * std::log2(spread / static_cast<double>(depth))));
    for (double& c : centres.at) c = grid * std::round(c / grid);
  }
  // Rows that lead a group of the sample; only those that others follow become centres.
  std::vector<double> leaders, x(depth);
  std::vector<int> followers;
  const auto look = [&](const Rows& rows, int64_t count) {
    if (rows.size() < kFewest) return;
    for (int64_t s = 0; s < count; ++s) {
      // Golden-ratio steps: spread evenly, and in step with no pattern that the rows may have.
      const double turn = static_cast<double>(s) * 0.6180339887498949;
      const int64_t i = static_cast<int64_t>((turn - std::floor(turn)) * static_cast<double>(rows.size()));
      if (!rows.finite[i]) continue;
      rows.read(i, x.data());
      const double radius = kTight * squared_difference(x.data(), centres[0], depth);
      size_t l = 0;
      while (l < followers.size() &&
             squared_difference(x.data(), leaders.data() + l * depth, depth) >= radius)
        ++l;
      if (l < followers.size()) {
        ++followers[l];
      } else {
        leaders.insert(leaders.end(), x.begin(), x.end());
        followers.push_back(0);
      }
    }
  };
  look(query, gallery ? kSample / 2 : kSample);
  if (gallery) look(*gallery, kSample / 2);
  for (size_t l = 0; l < followers.size() && centres.count < kMost; ++l) {
    if (followers[l] == 0) continue;
    centres.at.insert(centres.at.end(), leaders.begin() + l * depth, leaders.begin() + (l + 1) * depth);
    ++centres.count;
  }
  for (int a = 0; a < centres.count; ++a)
    for (int b = 0; b < centres.count; ++b)
      centres.gap.push_back(squared_difference(centres[a], centres[b], depth));
  return centres;
}

namespace {

template <class T>
class Packer {
 public:
  Packer(const Rows& rows, std::shared_ptr<const Centres> centres, int64_t tile) : rows_(rows) {
    out_.size = rows.size();
    out_.depth = rows.source.width;
    out_.tile = tile;
    out_.exact = &rows;
    out_.rows = Buffer<T>(out_.blocks() * out_.row_block_stride());
    out_.panels = Buffer<T>(out_.blocks() * out_.panel_block_stride());
    out_.norm = Buffer<T>(centres->count * out_.padded());
    out_.centre = Buffer<uint8_t>(out_.padded());
    out_.centres = std::move(centres);
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
    for (int64_t i = first; i < first + P; ++i) pack_row(b, i, rows + i * P, x);
    T* panel = out_.panels.data() + b * out_.panel_block_stride() + first * depth;
    for (int64_t c = 0; c < out_.chunks(); ++c) {
      const T* square = rows + (c * tile + first) * P;
      const int64_t length = std::min<int64_t>(P, depth - c * P);
      for (int64_t k = 0; k < length; ++k)
        for (int i = 0; i < P; ++i) panel[(c * P + k) * P + i] = square[i * P + k];
    }
  }

  // Centred and rounded, chunk by chunk. Padding is zero, and so, for the time being, are rows with NaN or inf: the caller
  // poisons the results they touch.
  void pack_row(int64_t b, int64_t i, T* out, double* x) {
    const int64_t row = b * out_.tile + i, depth = out_.depth, step = out_.tile * P;
    const bool present = row < out_.size && rows_.finite[row];
    const Centres& centres = *out_.centres;
    int own = 0;
    if (present) {
      rows_.read(row, x);
      own = nearest_centre(x);
      const double* centre = centres[own];
      for (int64_t k = 0; k < depth; ++k) x[k] = static_cast<double>(static_cast<T>(x[k] - centre[k]));
    }
    out_.centre[row] = static_cast<uint8_t>(own);
    for (int64_t c = 0; c < out_.chunks(); ++c) {
      const int64_t length = std::min<int64_t>(P, depth - c * P);
      for (int64_t k = 0; k < length; ++k) out[c * step + k] = present ? static_cast<T>(x[c * P + k]) : T(0);
      for (int64_t k = length; k < P; ++k) out[c * step + k] = T(0);
    }
    for (int c = 0; c < centres.count; ++c) {
      double share = present ? dot(x, x, depth) : 0.0;
      if (present && c != own) share += 2.0 * (dot(x, centres[own], depth) - dot(x, centres[c], depth));
      out_.norm[c * out_.padded() + row] = static_cast<T>(share);
    }
  }

  // A cluster's centre only where the row is far nearer to it than to the mean.
  int nearest_centre(const double* x) const {
    const Centres& centres = *out_.centres;
    if (centres.count == 1) return 0;
    int best = 0;
    double least = squared_difference(x, centres[0], out_.depth) / 64.0;
    for (int c = 1; c < centres.count; ++c) {
      const double square = squared_difference(x, centres[c], out_.depth);
      if (square < least) {
        least = square;
        best = c;
      }
    }
    return best;
  }

  const Rows& rows_;
  Operand<T> out_;
};

}  // namespace

template <class T>
Packed<T> pack(const Rows& query, const Rows* gallery, const Centres& centres, int64_t tile,
               Workers& workers) {
  const auto shared = std::make_shared<const Centres>(centres);
  Packed<T> packed;
  packed.self = gallery == nullptr;
  packed.query = Packer<T>(query, shared, tile).pack(workers);
  if (gallery) packed.gallery = Packer<T>(*gallery, shared, tile).pack(workers);
  return packed;
}

template Packed<float> pack<float>(const Rows&, const Rows*, const Centres&, int64_t, Workers&);
template Packed<double> pack<double>(const Rows&, const Rows*, const Centres&, int64_t, Workers&);

}  // namespace fused_rank
