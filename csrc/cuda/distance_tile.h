// One tile of the pair matrix, in registers: inner products, then squared distances right to the last digits, then the metric.
//
// With rows stored as p = x - c and q = y - e,
//   d² = (|p|² + 2 p · (c - e)) + (|q|² + 2 q · (e - c)) + |c - e|² - 2 p·q,
// where the brackets are each row's own (`Side::norm`). Where d² is small beside the terms it came from, it has lost its digits: the
// pair is close, and its square is taken again from the difference of the two rows, by a warp for each pair. Nothing is listed, so
// a batch that has collapsed costs time but no memory.
//
// Element (r, c) of a thread is row element(ty, r) and column element(tx, c) of the tile.
#pragma once

#include "tile_product.h"

namespace fused_rank::cuda {

template <class T>
inline constexpr T kClose =
    sizeof(T) == 4 ? T(0.01) : T(1e-5);  // d² below this share of its terms is recomputed

template <class T>
using Tile = T[kMicro<T>][kMicro<T>];

// Where a tile lies: its first row and column in the pair matrix, and how many of either exist.
struct Place {
  int row, column, rows, columns;
};
template <class T>
FR_DEVICE Place place_of(const Pairs<T>& pairs, int row_tile, int column_tile) {
  const int row = row_tile * kTile<T>, column = column_tile * kTile<T>;
  const int rows = static_cast<int>(pairs.query.size) - row,
            columns = static_cast<int>(pairs.gallery.size) - column;
  return {row, column, rows < kTile<T> ? rows : kTile<T>, columns < kTile<T> ? columns : kTile<T>};
}

template <class T>
FR_DEVICE int row_in_tile(int r) {
  return element<T, Along::depth>(thread_y(), r);
}
template <class T>
FR_DEVICE int column_in_tile(int c) {
  return element<T, Along::depth>(thread_x(), c);
}

template <class T>
FR_DEVICE void inner_products(const Pairs<T>& pairs, const Place& at, T* stage, Tile<T>& tile) {
  clear(tile);
  const int width = static_cast<int>(pairs.width);
  const Source<T, Along::depth> x{pairs.query.rows + at.row * pairs.width, pairs.width, at.rows, width};
  const Source<T, Along::depth> y{pairs.gallery.rows + at.column * pairs.width, pairs.width, at.columns,
                                  width};
  multiply(x, y, EverySlab<T>{}, stage, tile);
}

// Component k of x_i - y_j. Subtraction of stored numbers rounds relative to the difference, however small that is.
template <class T>
FR_DEVICE T difference(const Pairs<T>& pairs, int i, int j, int64_t k) {
  const Side<T>&x = pairs.query, &y = pairs.gallery;
  const int64_t a = i * pairs.width + k, b = j * pairs.width + k;
  const T low = x.low ? x.low[a] - y.low[b] : T(0);
  const int own = x.centre ? x.centre[i] : 0, other = y.centre ? y.centre[j] : 0;
  if (own == other) return (x.rows[a] - y.rows[b]) + low;
  const double apart = pairs.points[own * pairs.width + k] - pairs.points[other * pairs.width + k];
  return static_cast<T>(((static_cast<double>(x.rows[a]) - y.rows[b]) + low) + apart);
}

template <class T>
FR_DEVICE T warp_sum(T x) {
#pragma unroll
  for (int step = 16; step >= 1; step /= 2) x += __shfl_xor_sync(kWarp, x, step);
  return x;
}

// |x_i - y_j|², by a warp.
template <class T>
FR_DEVICE T square_of_difference(const Pairs<T>& pairs, int i, int j) {
  T sum = T(0);
  for (int64_t k = threadIdx.x % 32; k < pairs.width; k += 32) {
    const T d = difference(pairs, i, j, k);
    sum = multiply_add(d, d, sum);
  }
  return warp_sum(sum);
}

// The terms whose difference with 2 p·q is d²; the same bits for (j, i). At most 16 centres: offsets fit 32 bits.
template <class T>
FR_DEVICE T scale_across_centres(const Pairs<T>& pairs, int i, int j) {
  const unsigned own = pairs.query.centre[i], other = pairs.gallery.centre[j];
  const unsigned queries = static_cast<unsigned>(pairs.query.size),
                 gallery = static_cast<unsigned>(pairs.gallery.size);
  return (pairs.query.norm[other * queries + i] + pairs.gallery.norm[own * gallery + j]) +
         pairs.gap[own * pairs.centres + other];
}

// Inner products into squares. Bit r * kMicro + c of `close` says which were close; those are yet to be recomputed.
template <class T>
FR_DEVICE uint64_t squares_of_products(const Pairs<T>& pairs, const Place& at, Tile<T>& tile) {
  constexpr int M = kMicro<T>;
  uint64_t close = 0;
  // In a tile on the diagonal the pairs of a row with itself are elements (r, r) of threads with tx = ty.
  const bool diagonal = pairs.self && at.row == at.column && thread_x() == thread_y();
  const auto convert = [&](int r, int c, T scale) {
    const T square = scale - T(2) * tile[r][c];
    const bool itself = r == c && diagonal;
    tile[r][c] = square > T(0) && !itself ? square : T(0);
    if (square < kClose<T> * scale && !itself) close |= uint64_t{1} << (r * M + c);
  };
  if (pairs.centres > 1) {
#pragma unroll
    for (int r = 0; r < M; ++r) {
      __syncwarp();  // no loads ahead of their row of elements: there are no registers for them
#pragma unroll
      for (int c = 0; c < M; ++c) {
        const int i = row_in_tile<T>(r), j = column_in_tile<T>(c);
        if (i < at.rows && j < at.columns)
          convert(r, c, scale_across_centres(pairs, at.row + i, at.column + j));
      }
    }
    return close;
  }
  T other[M];
#pragma unroll
  for (int c = 0; c < M; ++c) {
    const int j = column_in_tile<T>(c);
    other[c] = j < at.columns ? pairs.gallery.norm[at.column + j] : T(0);
  }
#pragma unroll
  for (int r = 0; r < M; ++r) {
    const int i = row_in_tile<T>(r);
    const T own = i < at.rows ? pairs.query.norm[at.row + i] : T(0);
#pragma unroll
    for (int c = 0; c < M; ++c) convert(r, c, own + other[c]);
  }
  return close;
}

// Recomputes close pairs, one after the other, each by the whole warp.
template <class T>
FR_DEVICE void repair(const Pairs<T>& pairs, const Place& at, uint64_t close, Tile<T>& tile) {
  constexpr int M = kMicro<T>;
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (;;) {
    const unsigned waiting = __ballot_sync(kWarp, close != 0);
    if (waiting == 0) return;
    const int whose = __ffs(waiting) - 1;
    const int bit = __shfl_sync(kWarp, __ffsll(static_cast<long long>(close)) - 1, whose);
    const int i = __shfl_sync(kWarp, row_in_tile<T>(bit / M), whose);
    const int j = __shfl_sync(kWarp, column_in_tile<T>(bit % M), whose);
    const T square = square_of_difference(pairs, at.row + i, at.column + j);
    if (lane != whose) continue;
    close &= close - 1;
#pragma unroll
    for (int r = 0; r < M; ++r)
#pragma unroll
      for (int c = 0; c < M; ++c) tile[r][c] = bit == r * M + c ? square : tile[r][c];
  }
}

// Squared distances (metric dot: inner products) of a tile; padding is arbitrary. Returns which pairs are close.
template <class T>
FR_DEVICE uint64_t squared_distances(const Pairs<T>& pairs, const Place& at, T* stage, Tile<T>& tile) {
  inner_products(pairs, at, stage, tile);
  if (pairs.metric == Metric::dot) return 0;
  const uint64_t close = squares_of_products(pairs, at, tile);
  repair(pairs, at, close, tile);
  return close;
}

template <class T>
FR_DEVICE void to_metric(Metric metric, Tile<T>& tile) {
  if (metric != Metric::euclidean && metric != Metric::cosine) return;
#pragma unroll
  for (int r = 0; r < kMicro<T>; ++r)
#pragma unroll
    for (int c = 0; c < kMicro<T>; ++c)
      tile[r][c] = metric == Metric::euclidean ? sqrt(tile[r][c]) : T(0.5) * tile[r][c];
}

// d distance / d x_i = factor * (x_i - y_j), 0 at distance 0; for metric dot, factor * y_j.
template <class T>
FR_DEVICE T edge_factor(Metric metric, T distance) {
  if (metric == Metric::euclidean) return distance > T(0) ? T(1) / distance : T(0);
  return metric == Metric::squared ? T(2) : T(1);
}

// Pairs with a row that is not finite become `nowhere`.
template <class T>
FR_DEVICE void hide_lost(const Pairs<T>& pairs, const Place& at, T nowhere, Tile<T>& tile) {
  const uint8_t *x = pairs.query.finite, *y = pairs.gallery.finite;
  if (!x && !y) return;
#pragma unroll
  for (int r = 0; r < kMicro<T>; ++r)
#pragma unroll
    for (int c = 0; c < kMicro<T>; ++c) {
      const int i = row_in_tile<T>(r), j = column_in_tile<T>(c);
      if (i >= at.rows || j >= at.columns) continue;
      if ((x && !x[at.row + i]) || (y && !y[at.column + j])) tile[r][c] = nowhere;
    }
}

}  // namespace fused_rank::cuda
