// Hard mining: the farthest positive and the nearest negative of every query, on squared distances. Tiles are shared out as in the
// statistics sweep (groups.h): in self form the upper triangle, each tile into its rows and its columns.
#include "groups.h"
#include "staged_tile.h"

namespace fused_rank::cuda {

namespace {

// The hardest so far of one query. Rows are original ones, so that equals go to the lowest.
template <class T>
struct Found {
  static constexpr int kNobody = 0x7fffffff;
  T least = static_cast<T>(INFINITY), most = static_cast<T>(-INFINITY);
  int nearest = kNobody, farthest = kNobody;

  // `row` is read only where the distance is no worse than the best: that soon gets rare. A row that is not finite is negative.
  FR_DEVICE void offer_negative(T d, const int* row) {
    if (!(d <= least)) return;
    if (*row < 0 || (d == least && *row >= nearest)) return;
    least = d;
    nearest = *row;
  }
  FR_DEVICE void offer_positive(T d, const int* row) {
    if (!(d >= most)) return;
    if (*row < 0 || (d == most && *row >= farthest)) return;
    most = d;
    farthest = *row;
  }
  FR_DEVICE void merge(const Found& other) {
    offer_negative(other.least, &other.nearest);
    offer_positive(other.most, &other.farthest);
  }
};

// A slot holds the numbers of `size` queries, member by member.
template <class T>
struct Slot {
  T* values;
  int* rows;
  int64_t size;

  FR_DEVICE Slot(void* memory, int64_t size, int64_t slot, int64_t slots)
      : values(static_cast<T*>(memory) + 2 * size * slot),
        rows(reinterpret_cast<int*>(static_cast<T*>(memory) + 2 * size * slots) + 2 * size * slot),
        size(size) {}
  FR_DEVICE void store(const Found<T>& found, int64_t at) const {
    values[at] = found.least;
    values[size + at] = found.most;
    rows[at] = found.nearest;
    rows[size + at] = found.farthest;
  }
  FR_DEVICE Found<T> load(int64_t at) const {
    return {values[at], values[size + at], rows[at], rows[size + at]};
  }
  FR_DEVICE void add(Found<T> found, int64_t at) const {
    found.merge(load(at));
    store(found, at);
  }
};
template <class T>
int64_t slot_bytes(int64_t size) {
  return 2 * size * static_cast<int64_t>(sizeof(T) + sizeof(int));
}

struct Span {
  int begin, end;  // positives of a query
};

// What a block does: two groups, and their tiles. In shared memory, since the product leaves no registers to keep it in.
struct Work {
  int a, b;
  int first_row, last_row, first_column, last_column;
};
FR_DEVICE Work work_of(const Groups& groups, int block) {
  int a = groups.self ? 0 : block / groups.column_groups,
      b = groups.self ? block : block % groups.column_groups;
  if (groups.self) {
    int length = groups.row_groups;  // of row a of the triangle
    for (; b >= length; ++a) b -= length--;
    b += a;
  }
  const int row = a * groups.rows_per_group, column = b * groups.columns_per_group;
  const int last_row = row + groups.rows_per_group, last_column = column + groups.columns_per_group;
  return {a,      b,
          row,    last_row < groups.row_tiles ? last_row : groups.row_tiles,
          column, last_column < groups.column_tiles ? last_column : groups.column_tiles};
}

template <class T>
struct HardSweep {
  const Pairs<T>& pairs;
  const Groups& groups;
  const Hardest<T>& io;
  const Work& work;
  T* stage;      // [kStage]
  Span* spans;   // [kTile]: of the tile's rows
  int* numbers;  // [2][kTile]: original rows of the tile's rows and columns, -1 for one that is not finite

  FR_DEVICE Slot<T> row_slot() const { return slot(work.b); }
  FR_DEVICE Slot<T> column_slot() const { return slot(work.a); }
  FR_DEVICE Slot<T> slot(int group) const {
    return {io.workspace, pairs.query.size, group, groups.column_groups};
  }

  FR_DEVICE void clear(const Slot<T>& slot, int first_tile, int last_tile) const {
    for (int i = first_tile * kTile<T> + static_cast<int>(threadIdx.x);
         i < last_tile * kTile<T> && i < slot.size; i += kThreads)
      slot.store(Found<T>(), i);
  }

  FR_DEVICE static int number_of(const Side<T>& side, int row) {
    return side.finite && !side.finite[row] ? -1 : static_cast<int>(side.index[row]);
  }

  // Describes the tile's rows and columns; says whether it may hold positives.
  FR_DEVICE bool describe(const Place& at) const {
    bool mixed = false;
    for (int i = static_cast<int>(threadIdx.x); i < at.rows; i += kThreads) {
      spans[i] = {pairs.begin[at.row + i], pairs.end[at.row + i]};
      numbers[i] = number_of(pairs.query, at.row + i);
      mixed |= spans[i].begin < at.column + at.columns && spans[i].end > at.column;
    }
    for (int j = static_cast<int>(threadIdx.x); j < at.columns; j += kThreads)
      numbers[kTile<T> + j] = number_of(pairs.gallery, at.column + j);
    return __syncthreads_or(mixed) != 0;
  }

  // Pair (i, j) of the matrix, at distance d, to a query whose partner in it is `row`.
  template <bool Mixed>
  FR_DEVICE void offer(Found<T>& found, T d, int i, int j, const Span& span, const int* row) const {
    if (!(d < T(INFINITY))) return;
    if (Mixed && j >= span.begin && j < span.end) {
      if (!pairs.self || i != j) found.offer_positive(d, row);
    } else {
      found.offer_negative(d, row);
    }
  }

  // The staged part into its rows: kPerRow threads a row, which then merge.
  template <bool Mixed>
  FR_DEVICE void fold_rows(const Place& at, int part) const {
    const int own = static_cast<int>(threadIdx.x) / kPerRow<T>,
              share = static_cast<int>(threadIdx.x) % kPerRow<T>;
    const int i = part * kStagedRows<T> + own;
    Found<T> found;
    if (i < at.rows) {
      const T* values = stage + own * kPitch<T>;
      const Span span = spans[i];
#pragma unroll 2
      for (int j = share; j < at.columns; j += kPerRow<T>)
        offer<Mixed>(found, values[j], at.row + i, at.column + j, span, numbers + kTile<T> + j);
    }
#pragma unroll
    for (int step = kPerRow<T> / 2; step >= 1; step /= 2)
      found.merge({__shfl_xor_sync(kWarp, found.least, step), __shfl_xor_sync(kWarp, found.most, step),
                   __shfl_xor_sync(kWarp, found.nearest, step),
                   __shfl_xor_sync(kWarp, found.farthest, step)});
    if (i < at.rows && share == 0) row_slot().add(found, at.row + i);
  }

  // The same into its columns: kPerColumn threads a column, each of which has rows of its own.
  template <bool Mixed>
  FR_DEVICE void fold_columns(const Place& at, int part, Found<T>& found) const {
    constexpr int kShare = kStagedRows<T> / kPerColumn<T>;
    const int j = static_cast<int>(threadIdx.x) % kTile<T>,
              first = static_cast<int>(threadIdx.x) / kTile<T> * kShare;
    if (j >= at.columns) return;
#pragma unroll 2
    for (int own = first; own < first + kShare; ++own) {
      const int i = part * kStagedRows<T> + own;
      if (i >= at.rows) break;
      offer<Mixed>(found, stage[own * kPitch<T> + j], at.row + i, at.column + j, spans[i], numbers + i);
    }
  }
  FR_DEVICE void finish_columns(const Place& at, const Found<T>& found) const {
    const int j = static_cast<int>(threadIdx.x) % kTile<T>, share = static_cast<int>(threadIdx.x) / kTile<T>;
    for (int turn = 0; turn < kPerColumn<T>; ++turn) {
      if (share == turn && j < at.columns) column_slot().add(found, at.column + j);
      __syncthreads();
    }
  }

  template <bool Mixed>
  FR_DEVICE void fold_tile(const Place& at, const Tile<T>& tile, bool columns) const {
    Found<T> column;
#pragma unroll
    for (int part = 0; part < kParts<T>; ++part) {
      __syncthreads();
      put_part(tile, part, stage);
      __syncthreads();
      fold_rows<Mixed>(at, part);
      if (columns) fold_columns<Mixed>(at, part, column);
    }
    __syncthreads();
    if (columns) finish_columns(at, column);
  }

  FR_DEVICE void visit(int row_tile, int column_tile) const {
    const Place at = place_of(pairs, row_tile, column_tile);
    const bool mixed = describe(at), columns = groups.self && row_tile != column_tile;
    Tile<T> tile;
    squared_distances(pairs, at, stage, tile);
    if (mixed) fold_tile<true>(at, tile, columns);
    else fold_tile<false>(at, tile, columns);
  }

  FR_DEVICE void run() const {
    clear(row_slot(), work.first_row, work.last_row);
    if (groups.self && work.a != work.b) clear(column_slot(), work.first_column, work.last_column);
    __syncthreads();
    for (int I = work.first_row; I < work.last_row; ++I)
      for (int J = groups.self && work.a == work.b ? I : work.first_column; J < work.last_column; ++J)
        visit(I, J);
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 2) hard_kernel(Pairs<T> pairs, Groups groups, Hardest<T> io) {
  FR_SHARED(T[kStage<T>], stage);
  FR_SHARED(Span[kTile<T>], spans);
  FR_SHARED(int[2 * kTile<T>], numbers);
  FR_SHARED(Work, work);
  if (threadIdx.x == 0) work = work_of(groups, static_cast<int>(blockIdx.x));
  __syncthreads();
  HardSweep<T>{pairs, groups, io, work, stage, spans, numbers}.run();
}

template <class T>
__global__ void __launch_bounds__(kThreads) merge_kernel(Side<T> side, Groups groups, Hardest<T> io) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (query >= side.size) return;
  Found<T> found;
  for (int s = 0; s < groups.column_groups; ++s)
    found.merge(Slot<T>(io.workspace, side.size, s, groups.column_groups).load(query));
  const bool finite = !side.finite || side.finite[query];
  io.positive[query] = finite && found.farthest != Found<T>::kNobody ? found.farthest : -1;
  io.negative[query] = finite && found.nearest != Found<T>::kNobody ? found.nearest : -1;
}

}  // namespace

template <class T>
int64_t hard_workspace(int64_t queries, int64_t gallery, bool self) {
  return make_groups<T>(queries, gallery, self, false).column_groups * slot_bytes<T>(queries);
}

template <class T>
void hard(const Pairs<T>& pairs, const Hardest<T>& io, Stream stream) {
  const Groups groups = make_groups<T>(pairs.query.size, pairs.gallery.size, pairs.self, false);
  if (pairs.query.size == 0) return;
  if (groups.blocks() > 0)
    launch(hard_kernel<T>, dim3(static_cast<unsigned>(groups.blocks())), dim3(kThreads), 0, stream, pairs,
           groups, io);
  const auto blocks = static_cast<unsigned>((pairs.query.size + kThreads - 1) / kThreads);
  launch(merge_kernel<T>, dim3(blocks), dim3(kThreads), 0, stream, pairs.query, groups, io);
}

template int64_t hard_workspace<float>(int64_t, int64_t, bool);
template int64_t hard_workspace<double>(int64_t, int64_t, bool);
template void hard<float>(const Pairs<float>&, const Hardest<float>&, Stream);
template void hard<double>(const Pairs<double>&, const Hardest<double>&, Stream);

}  // namespace fused_rank::cuda
