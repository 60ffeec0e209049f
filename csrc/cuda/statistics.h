// The statistics sweep: every tile of the pair matrix into the accumulators of its rows and, where columns are queries as well (self
// form, symmetric), of its columns. Self form computes the upper triangle of tiles. See groups.h for who writes what.
#pragma once

#include "groups.h"
#include "staged_tile.h"
#include "term_access.h"

namespace fused_rank::cuda {

// Accumulators between the sweep and the merge: queries' [column_groups][members][M], then, if symmetric, the gallery's
// [row_groups][members][N].
template <class T, class Term>
struct Slots {
  using Row = typename Term::template Row<T>;
  static constexpr int kWidth = kMembers<T, Row>;

  T* memory;
  int64_t queries, gallery;
  int column_groups;

  FR_DEVICE T* of_queries(int group) const { return memory + group * kWidth * queries; }
  FR_DEVICE T* of_gallery(int group) const {
    return memory + kWidth * (column_groups * queries + group * gallery);
  }
};

// Where the block is. In shared memory, and written by one thread: registers are for the product.
struct Walk {
  int a, b;                                 // its groups
  int row_tile, column_tile;                // the tile
  int last_row, first_column, last_column;  // tiles of the groups
  Place at;
  bool mixed;    // may the tile hold positives?
  bool columns;  // are its columns folded too?
};

template <class T, class Term>
struct StatisticsSweep {
  using Row = typename Term::template Row<T>;
  static constexpr int kWidth = kMembers<T, Row>;
  static_assert(kWidth * (kPerColumn<T> - 1) * kTile<T> <= kStage<T>);

  const Pairs<T>& pairs;
  const Term& term;
  const Groups& groups;
  const Statistics<T>& io;
  T* stage;       // [kStage]
  Range* ranges;  // [kTile]: positives of the tile's rows
  Walk& walk;

  // Slots that the block alone writes: its rows' and its columns', [members][M] and [members][N].
  FR_DEVICE T* row_slot() const { return slots().of_queries(walk.b); }
  FR_DEVICE T* column_slot() const {
    return groups.self ? slots().of_queries(walk.a) : slots().of_gallery(walk.a);
  }
  FR_DEVICE Slots<T, Term> slots() const {
    return {io.workspace, pairs.query.size, pairs.gallery.size, groups.column_groups};
  }

  FR_DEVICE int64_t all_rows() const {
    return pairs.query.size + (groups.symmetric ? pairs.gallery.size : 0);
  }
  // Column j as a query: where its inputs are.
  FR_DEVICE int64_t as_query(int j) const { return groups.self ? j : pairs.query.size + j; }

  FR_DEVICE Row empty(int64_t query) const { return start_row<T>(term, io.inputs, all_rows(), query); }

  FR_DEVICE void fill(T* slot, int64_t size, int first_tile, int last_tile, bool columns) const {
    for (int i = first_tile * kTile<T> + static_cast<int>(threadIdx.x); i < last_tile * kTile<T> && i < size;
         i += kThreads)
      store_members<T>(empty(columns ? as_query(i) : i), slot, size, i);
  }
  FR_DEVICE void add(const Row& found, T* slot, int64_t size, int row) const {
    Row total = load_members<T, Row>(slot, size, row);
    term.merge(total, found);
    store_members<T>(total, slot, size, row);
  }

  template <bool Mixed>
  FR_DEVICE void fold(Row& row, T d, int i, int j, const Range& positives) const {
    if constexpr (Mixed) {
      if (pairs.self && i == j) return;
      if (positives.holds(j)) {
        term.fold_positive(row, d);
        return;
      }
    }
    term.fold_negative(row, d);
  }

  // The staged part into its rows: kPerRow threads a row, which then merge.
  template <bool Mixed>
  FR_DEVICE bool fold_rows(const Place& at, int part) const {
    const int own = static_cast<int>(threadIdx.x) / kPerRow<T>,
              share = static_cast<int>(threadIdx.x) % kPerRow<T>;
    const int i = part * kStagedRows<T> + own;
    const bool there = i < at.rows;
    Row row = empty(at.row + (there ? i : 0));
    if (there) {
      const T* values = stage + own * kPitch<T>;
      const Range positives = ranges[i];
#pragma unroll 2
      for (int j = share; j < at.columns; j += kPerRow<T>)
        fold<Mixed>(row, values[j], at.row + i, at.column + j, positives);
    }
#pragma unroll
    for (int step = kPerRow<T> / 2; step >= 1; step /= 2) {
      const Row other = shuffle_members<Row, T>(row, step);
      term.merge(row, other);
    }
    if (there && share == 0) add(row, row_slot(), pairs.query.size, at.row + i);
    return there && term.alive(row);
  }

  // The same into the columns: kPerColumn threads a column, which merge after the last part.
  template <bool Mixed>
  FR_DEVICE void fold_columns(const Place& at, int part, Row& column) const {
    constexpr int kShare = kStagedRows<T> / kPerColumn<T>;
    const int j = static_cast<int>(threadIdx.x) % kTile<T>,
              first = static_cast<int>(threadIdx.x) / kTile<T> * kShare;
    if (j >= at.columns) return;
#pragma unroll 2
    for (int own = first; own < first + kShare; ++own) {
      const int i = part * kStagedRows<T> + own;
      if (i >= at.rows) break;
      fold<Mixed>(column, stage[own * kPitch<T> + j], at.row + i, at.column + j, ranges[i]);
    }
  }
  FR_DEVICE bool finish_columns(const Place& at, Row column) const {
    const int j = static_cast<int>(threadIdx.x) % kTile<T>, share = static_cast<int>(threadIdx.x) / kTile<T>;
    __syncthreads();  // the last part has been read
    if (share > 0) store_members<T>(column, stage + (share - 1) * kWidth * kTile<T>, kTile<T>, j);
    __syncthreads();
    if (share > 0 || j >= at.columns) return false;
    for (int s = 1; s < kPerColumn<T>; ++s)
      term.merge(column, load_members<T, Row>(stage + (s - 1) * kWidth * kTile<T>, kTile<T>, j));
    add(column, column_slot(), pairs.gallery.size, at.column + j);
    return term.alive(column);
  }

  template <bool Mixed>
  FR_DEVICE bool fold_tile(const Tile<T>& tile) const {
    const Place& at = walk.at;
    const int j = static_cast<int>(threadIdx.x) % kTile<T>;
    Row column = empty(walk.columns ? as_query(at.column + (j < at.columns ? j : 0)) : at.row);
    bool alive = false;
#pragma unroll 1
    for (int part = 0; part < kParts<T>; ++part) {
      if (part > 0) __syncthreads();
      put_part(tile, part, stage);
      __syncthreads();
      alive |= fold_rows<Mixed>(at, part);
      if (walk.columns) fold_columns<Mixed>(at, part, column);
    }
    if (walk.columns) alive |= finish_columns(at, column);
    return __syncthreads_or(alive) != 0;
  }

  // A lower bound of what the thread's pairs have for a distance.
  FR_DEVICE T smallest(const Tile<T>& tile) const {
    T least = static_cast<T>(INFINITY);
#pragma unroll
    for (int r = 0; r < kMicro<T>; ++r)
#pragma unroll
      for (int c = 0; c < kMicro<T>; ++c)
        if (row_in_tile<T>(r) < walk.at.rows && column_in_tile<T>(c) < walk.at.columns)
          least = min(least, tile[r][c]);
    return least;
  }

  // Returns whether any pair of the tile contributes.
  FR_DEVICE bool visit() const {
    for (int i = static_cast<int>(threadIdx.x); i < walk.at.rows; i += kThreads)
      ranges[i] = positives_of(pairs, walk.at.row + i);
    Tile<T> tile;
    squared_distances(pairs, walk.at, stage, tile);
    to_metric(pairs.metric, tile);
    const bool dead = !walk.mixed && term.negative_is_dead(smallest(tile));
    if (__syncthreads_and(dead)) return false;
    return walk.mixed ? fold_tile<true>(tile) : fold_tile<false>(tile);
  }

  FR_DEVICE void record(bool live) const {
    const int64_t I = walk.row_tile, J = walk.column_tile;
    io.live[I * groups.column_tiles + J] = live;
    if (groups.self) io.live[J * groups.column_tiles + I] = live;
  }
  // To the next tile that can contribute, row by row; false after the last. One thread.
  FR_DEVICE bool advance() const {
    for (;;) {
      if (++walk.column_tile == walk.last_column) {
        if (++walk.row_tile == walk.last_row) return false;
        walk.column_tile = groups.self && walk.a == walk.b ? walk.row_tile : walk.first_column;
      }
      walk.at = place_of(pairs, walk.row_tile, walk.column_tile);
      walk.mixed = may_hold_positives(pairs, walk.at);
      walk.columns = groups.self ? walk.row_tile != walk.column_tile : groups.symmetric;
      if (walk.mixed || !kPositivesOnly<Term>) return true;
      record(false);
    }
  }

  FR_DEVICE void run() const {
    if (threadIdx.x == 0) {
      const int first_row = walk.a * groups.rows_per_group;
      walk.row_tile = first_row - 1;
      walk.last_row = min_of(first_row + groups.rows_per_group, groups.row_tiles);
      walk.first_column = walk.b * groups.columns_per_group;
      walk.last_column = min_of(walk.first_column + groups.columns_per_group, groups.column_tiles);
      walk.column_tile = walk.last_column - 1;
    }
    __syncthreads();
    fill(row_slot(), pairs.query.size, walk.row_tile + 1, walk.last_row, false);
    if (groups.symmetric || (groups.self && walk.a != walk.b))
      fill(column_slot(), pairs.gallery.size, walk.first_column, walk.last_column, true);
    __syncthreads();
    while (__syncthreads_or(threadIdx.x == 0 && advance())) {
      const bool live = visit();
      if (threadIdx.x == 0) record(live);
    }
  }
  FR_DEVICE static int min_of(int a, int b) { return a < b ? a : b; }
};

// The pair of groups of a block: in self form the upper triangle, row by row.
FR_DEVICE void find_groups(const Groups& groups, int block, Walk& walk) {
  if (!groups.self) {
    walk.a = block / groups.column_groups;
    walk.b = block % groups.column_groups;
    return;
  }
  int a = 0;
  while (block >= groups.row_groups - a) block -= groups.row_groups - a++;
  walk.a = a;
  walk.b = a + block;
}

template <class T, class Term>
__global__ void __launch_bounds__(kThreads, 2)
    statistics_kernel(Pairs<T> pairs, Term term, Groups groups, Statistics<T> io) {
  FR_SHARED(T[kStage<T>], stage);
  FR_SHARED(Range[kTile<T>], ranges);
  FR_SHARED(Walk, walk);
  if (threadIdx.x == 0) find_groups(groups, static_cast<int>(blockIdx.x), walk);
  __syncthreads();
  StatisticsSweep<T, Term>{pairs, term, groups, io, stage, ranges, walk}.run();
}

// One thread for each row: its slots in order, then the results.
template <class T, class Term>
__global__ void __launch_bounds__(kThreads, 2)
    finish_kernel(Pairs<T> pairs, Term term, Groups groups, Statistics<T> io, int64_t all_rows) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (query >= all_rows) return;
  const Slots<T, Term> slots{io.workspace, pairs.query.size, pairs.gallery.size, groups.column_groups};
  const bool is_query = query < pairs.query.size;
  const int64_t size = is_query ? pairs.query.size : pairs.gallery.size;
  const int64_t row = is_query ? query : query - pairs.query.size;
  const int count = is_query ? groups.column_groups : groups.row_groups;
  using Row = typename Term::template Row<T>;
  Row total = start_row<T>(term, io.inputs, all_rows, query);
  for (int s = 0; s < count; ++s)
    term.merge(total, load_members<T, Row>(is_query ? slots.of_queries(s) : slots.of_gallery(s), size, row));
  Channels<T> channels[Term::kChannels];
  T state[Term::kState + 1];
  term.finish(total, PairCounts{io.positives[query], io.negatives[query]}, channels, state);
#pragma unroll
  for (int c = 0; c < Term::kChannels; ++c) {
    io.rows[c * all_rows + query] = channels[c].sum;
    io.rows[(Term::kChannels + c) * all_rows + query] = channels[c].count;
    io.rows[(2 * Term::kChannels + c) * all_rows + query] = channels[c].active;
  }
#pragma unroll
  for (int k = 0; k < Term::kState; ++k) io.state[k * all_rows + query] = state[k];
}

}  // namespace fused_rank::cuda
