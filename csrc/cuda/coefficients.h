// Coefficients of a strip: for each pair of a live tile, d loss / d distance at the scales of one end or of both, times the edge
// factor.
#pragma once

#include "staged_tile.h"
#include "strip.h"
#include "term_access.h"

namespace fused_rank::cuda {

template <class T, class Term>
struct CoefficientTile {
  using Scale = typename Term::template Scale<T>;
  static_assert(sizeof(T) * kStage<T> + (sizeof(Scale) + sizeof(Range)) * kTile<T> <= 48 << 10);

  const Pairs<T>& pairs;
  const Term& term;
  const Strip& strip;
  const Coefficients<T>& io;
  const StripTile<T>& at;
  const T* stage;       // [kStagedRows][kPitch]
  const Scale* scales;  // [kTile]: of the tile's rows
  const Range* ranges;  // [kTile]

  FR_DEVICE T slope(T d, const Scale& scale, bool positive) const {
    return positive ? term.slope_positive(d, scale) : term.slope_negative(d, scale);
  }
  FR_DEVICE Scale scale_of_column(int j) const {
    if (io.ends == Ends::query) return {};
    return load_members<T, Scale>(io.scales, io.scale_rows,
                                  (pairs.self ? 0 : pairs.query.size) + at.place.column + j);
  }

  // Part of the tile's rows, a column for each thread, so that neighbours write neighbouring numbers. Up to the next multiple
  // of 4 after the last column there are zeros.
  FR_DEVICE void write(int part) const {
    constexpr int kShare = kStagedRows<T> / kPerColumn<T>;
    const int j = static_cast<int>(threadIdx.x) % kTile<T>,
              first = static_cast<int>(threadIdx.x) / kTile<T> * kShare;
    const bool inside = j < at.place.columns;
    if (j >= (at.place.columns + 3) / 4 * 4) return;
    const int column = at.place.column + j;
    const Scale other = inside ? scale_of_column(j) : Scale{};
#pragma unroll 2
    for (int own = first; own < first + kShare; ++own) {
      const int i = part * kStagedRows<T> + own;
      if (i >= at.place.rows) break;
      T value = T(0);
      if (inside && !(pairs.self && at.place.row + i == column)) {
        const T d = stage[own * kPitch<T> + j];
        const bool positive = ranges[i].holds(column);
        value = slope(d, scales[i], positive);
        if (io.ends == Ends::both) value += slope(d, other, positive);
        value *= edge_factor(pairs.metric, d);
      }
      io.values[at.entry(strip, i, j)] = value;
    }
  }
};

template <class T, class Term>
__global__ void __launch_bounds__(kThreads, 2)
    coefficients_kernel(Pairs<T> pairs, Term term, Strip strip, Coefficients<T> io) {
  using Scale = typename Term::template Scale<T>;
  FR_SHARED(T[kStage<T>], stage);
  FR_SHARED(Scale[kTile<T>], scales);
  FR_SHARED(Range[kTile<T>], ranges);
  FR_SHARED(Place, place);
  const StripTile<T> at(pairs, strip, place);
  if (io.live[at.tile_in_matrix(pairs)] == 0) {
    if (io.near.tiles && threadIdx.x == 0) io.near.tiles[at.tile_in_strip()] = 0;
    return;
  }
  for (int i = static_cast<int>(threadIdx.x); i < at.place.rows; i += kThreads) {
    scales[i] = load_members<T, Scale>(io.scales, io.scale_rows, at.place.row + i);
    ranges[i] = positives_of(pairs, at.place.row + i);
  }
  Tile<T> tile;
  const uint64_t close = squared_distances(pairs, at.place, stage, tile);
  if (io.near.tiles) at.mark_near(strip, io.near, close);
  to_metric(pairs.metric, tile);
  const CoefficientTile<T, Term> part_of{pairs, term, strip, io, at, stage, scales, ranges};
#pragma unroll 1
  for (int part = 0; part < kParts<T>; ++part) {
    __syncthreads();
    put_part(tile, part, stage);
    __syncthreads();
    part_of.write(part);
  }
}

}  // namespace fused_rank::cuda
