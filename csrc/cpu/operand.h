// One side of the pair matrix, packed for the tile product: rows in sorted order, optionally normalised, centred, and
// stored twice: as the broadcast operand (`rows`) and, transposed, as the panel operand (`panels`).
//
// Both are cut into blocks of `tile` rows:
//   rows    [block][depth / kPanel][tile][kPanel]     also the panel operand of the gradient product C · X
//   panels  [block][tile / kPanel][depth][kPanel]
//
// Centring. Distances do not move under translation, but |x|² + |y|² - 2 x·y loses its digits when x and y are close
// compared with their norms. So every row is stored relative to a centre: the mean of all rows or, for a row of a tight cluster
// (a batch that has collapsed into a few points), that cluster's centre. A centre belongs to the row, not to its place: duplicates
// always share it, and equal distances stay equal. How rows with different centres meet is in DistanceTile.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "buffer.h"
#include "parallel.h"
#include "product.h"
#include "source.h"

namespace fused_rank {

// A row's exact position: what the packed copy was made from, for pairs that need more digits than it has.
struct Rows {
  Source source;
  const std::vector<int32_t>* order = nullptr;  // sorted position -> row of source
  Buffer<double> inverse_norm;  // by sorted position; 1 without normalisation, 0 for a zero row
  Buffer<uint8_t> finite;       // by sorted position
  bool all_finite = true;

  int64_t size() const { return source.rows; }
  void read(int64_t i, double* out) const { widen(source, (*order)[i], inverse_norm[i], out); }
};

// A row that is not finite loses its own results and those of every row it pairs with. `own` is one of the two sides; in
// self form they are one.
inline bool is_lost(const Rows& own, int64_t i, const Rows& query, const Rows& gallery) {
  return !own.finite[i] || !gallery.all_finite || (&own == &gallery && !query.all_finite);
}

// First and second moment of the rows that are finite, after normalisation.
struct Moments {
  std::vector<double> mean;
  double square = 0.0;  // mean of |x|²
  int64_t count = 0;
};
void merge(Moments& into, const Moments& from);

Rows describe_rows(const Source& source, const std::vector<int32_t>& order, bool normalize, Workers& workers,
                   Moments* moments = nullptr);

// The points that rows are stored relative to. Centre 0 is the common mean, on a grid about as fine as the rows are spread out:
// that centres as well, and rows on a grid of their own (small integers) keep exact distances, so equal ones tie.
struct Centres {
  int count = 1;
  int64_t depth = 0;
  std::vector<double> at;   // [count][depth]
  std::vector<double> gap;  // [count][count]: squared distances between them
  const double* operator[](int c) const { return at.data() + c * depth; }
};

// Looks at a sample of the rows for clusters that are much tighter than the batch is wide.
Centres choose_centres(const Rows& query, const Rows* gallery, const Moments& moments);

template <class T>
struct Operand {
  int64_t size = 0, depth = 0, tile = 0;
  Buffer<T> rows, panels;
  // |p|² + 2 p · (centre of the row - centre c) for a stored row p, [centre][padded rows]: its share of a squared distance to a
  // row of centre c. Zero in the padding.
  Buffer<T> norm;
  Buffer<uint8_t> centre;  // of each row
  std::shared_ptr<const Centres> centres;
  const Rows* exact = nullptr;

  int64_t blocks() const { return (size + tile - 1) / tile; }
  int64_t block_size(int64_t b) const { return std::min(tile, size - b * tile); }
  int64_t chunks() const { return (depth + kPanel<T> - 1) / kPanel<T>; }
  int64_t row_block_stride() const { return chunks() * tile * kPanel<T>; }
  int64_t panel_block_stride() const { return tile * depth; }
  const T* block_rows(int64_t b) const { return rows.data() + b * row_block_stride(); }
  const T* block_panels(int64_t b) const { return panels.data() + b * panel_block_stride(); }
  int64_t padded() const { return blocks() * tile; }
  const T* norms(int c) const { return norm.data() + c * padded(); }
  // Block b from row `first` on, as a left operand.
  PackedRows<T> broadcast(int64_t b, int64_t first) const {
    return {block_rows(b) + first * kPanel<T>, tile * kPanel<T>};
  }
};

// Rows per tile: large enough to amortise the epilogue, small enough that a small batch still fills the machine.
// Depends on the shape alone, never on the number of threads.
int64_t tile_rows(int64_t queries, int64_t gallery);

enum class Centre { none, mean };  // none: inner products

template <class T>
struct Packed {
  Operand<T> query, gallery;  // gallery stays empty in self form
  bool self = false;
  const Operand<T>& other() const { return self ? query : gallery; }
};

// `gallery` is null in self form.
template <class T>
Packed<T> pack(const Rows& query, const Rows* gallery, const Centres& centres, int64_t tile,
               Workers& workers);

}  // namespace fused_rank
