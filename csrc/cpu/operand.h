// One side of the pair matrix, packed for the tile product: rows in sorted order, optionally normalised, centred, and
// stored twice: as the broadcast operand (`rows`) and, transposed, as the panel operand (`panels`).
//
// Both are cut into blocks of `tile` rows:
//   rows    [block][depth / kPanel][tile][kPanel]     also the panel operand of the gradient product C · X
//   panels  [block][tile / kPanel][depth][kPanel]
//
// Centring. Distances do not move under translation, but |x|² + |y|² - 2 x·y loses its digits when x and y are close
// compared with their norms, so every row is stored relative to a centre: the mean of all rows, or, for a block that is
// much tighter than the whole batch (a collapsed cluster), the mean of that block. Two blocks with different centres meet
// through `shift` (see DistanceTile).
#pragma once

#include <cstdint>
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
  Buffer<double> inverse_norm;                  // by sorted position; 1 without normalisation, 0 for a zero row
  Buffer<uint8_t> finite;                       // by sorted position
  bool all_finite = true;

  int64_t size() const { return source.rows; }
  void read(int64_t i, double* out) const { widen(source, (*order)[i], inverse_norm[i], out); }
};

// Where the rows of each block lie: their mean, and the sum of their squared norms.
struct Blocks {
  int64_t tile = 0;
  Buffer<double> mean;               // [blocks][depth]
  std::vector<double> square_sum;    // [blocks]
};

Rows describe_rows(const Source& source, const std::vector<int32_t>& order, bool normalize, Workers& workers, Blocks* blocks = nullptr);

template <class T>
struct Operand {
  int64_t size = 0, depth = 0, tile = 0;
  Buffer<T> rows, panels, norm;  // norm: squared, of the centred rows, zero in the padding
  Buffer<double> centres;        // [1 + blocks][depth]: the common centre, then one for each block
  std::vector<uint8_t> tight;    // does the block use its own centre?
  const Rows* exact = nullptr;

  int64_t blocks() const { return (size + tile - 1) / tile; }
  int64_t block_size(int64_t b) const { return std::min(tile, size - b * tile); }
  int64_t chunks() const { return (depth + kPanel<T> - 1) / kPanel<T>; }
  int64_t row_block_stride() const { return chunks() * tile * kPanel<T>; }
  int64_t panel_block_stride() const { return tile * depth; }
  const T* block_rows(int64_t b) const { return rows.data() + b * row_block_stride(); }
  const T* block_panels(int64_t b) const { return panels.data() + b * panel_block_stride(); }
  const double* centre(int64_t b) const { return centres.data() + (tight[b] ? 1 + b : 0) * depth; }
  // Block b from row `first` and column `depth` (a multiple of kPanel) on, as a left operand.
  PackedRows<T> broadcast(int64_t b, int64_t first, int64_t depth) const {
    return {block_rows(b) + depth * tile + first * kPanel<T>, tile * kPanel<T>};
  }
};

// Rows per tile: large enough to amortise the epilogue, small enough that a small batch still fills the machine.
// Depends on the shape alone, never on the number of threads.
int64_t tile_rows(int64_t queries, int64_t gallery);

// none: inner products. common: one centre for all. mean: tight blocks have their own.
enum class Centre { none, common, mean };

template <class T>
struct Packed {
  Operand<T> query, gallery;  // gallery stays empty in self form
  bool self = false;
  const Operand<T>& other() const { return self ? query : gallery; }
};

// `gallery` and its blocks are null in self form. Both sides share the common centre.
template <class T>
Packed<T> pack(const Rows& query, const Blocks& query_blocks, const Rows* gallery, const Blocks* gallery_blocks, Centre centre,
               Workers& workers);

}  // namespace fused_rank
