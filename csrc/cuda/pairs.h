// What kernels are told of the pair matrix. Conventions are those of kernels.h.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FR_BOTH __host__ __device__
#else
#define FR_BOTH
#endif

namespace fused_rank {
using Stream = void*;  // a cudaStream_t
}

namespace fused_rank::cuda {

// Rows and columns of a tile of the pair matrix: the grain of live maps and of the tile flags of strips.
template <class T>
inline constexpr int kTile = sizeof(T) == 4 ? 128 : 64;

FR_BOTH constexpr int64_t tiles_of(int64_t rows, int64_t tile) { return (rows + tile - 1) / tile; }

enum class Metric : int { euclidean, squared, cosine, dot };

// One side of the pair matrix, R rows. With the row's centre c, x = c + rows + low.
template <class T>
struct Side {
  const T* rows;  // [R][width], 16-byte aligned; a row that is not finite is zero
  const T* low;   // [R][width]: what `rows` lost to rounding; null: nothing (double, and metric dot)
  // [centres][R]: |p|² + 2 p · (own centre - centre), for the stored row p; unused by metric dot
  const T* norm;
  const uint8_t* centre;  // [R]; null where there is one centre
  const uint8_t* finite;  // [R]; null where all are finite
  const int64_t* index;   // [R]: original row
  int64_t size;           // R
};

// The pair matrix. In self form `gallery` equals `query`, and a pair of a row with itself is no pair.
template <class T>
struct Pairs {
  Side<T> query, gallery;
  const int32_t* begin;  // [M]: a query's positives are the gallery rows [begin, end)
  const int32_t* end;    // [M]
  const T* gap;          // [centres][centres]: squared distances of centres; null where there is one
  const double* points;  // [centres][width]: the centres; null where there is one
  int centres;
  int64_t width;  // of stored rows: a multiple of 4, padded with zeros
  Metric metric;
  bool self;
};

// A part of the pair matrix in memory: queries [first, first + rows) against gallery rows [first_column, first_column + columns),
// entry (i, j) at i * stride + j. `first` and `first_column` are multiples of the tile; `stride` is a multiple of
// 4, at least `columns`.
struct Strip {
  int64_t first, rows, first_column, columns, stride;
};

// Which pairs of a strip are so close that their difference must be taken directly.
struct Near {
  uint8_t* tiles;  // [tiles_of(rows)][tiles_of(columns)]: has the tile any?
  uint32_t* bits;  // [rows][near_words(columns)]: bit j % 32 of word j / 32; valid in tiles that have any
};
template <class T>
FR_BOTH constexpr int64_t near_words(int64_t columns) {
  return tiles_of(columns, kTile<T>) * kTile<T> / 32;
}

}  // namespace fused_rank::cuda
