// One anchor's row of a strip of distances, by a block of threads. Its positives are sorted in shared memory, a chunk of them
// at a time; a negative finds its place among them by binary search.
#pragma once

#include "kernels.h"
#include "warp_sums.h"

namespace fused_rank::cuda {

inline constexpr int kRankThreads = 128;
inline constexpr int kChunk = 512;  // positives in shared memory at a time
inline constexpr int kPerThread = kChunk / kRankThreads;

template <class T>
struct AnchorRow {
  const T* values;  // [columns]: distances, infinite to rows that are not finite
  int anchor, begin, end, columns;
  bool self;

  FR_DEVICE int positives() const { return end - begin - (self ? 1 : 0); }
  FR_DEVICE int negatives() const { return columns - (end - begin); }
  FR_DEVICE int position(int slot) const {
    const int at = begin + slot;
    return at + (self && at >= anchor ? 1 : 0);
  }
  FR_DEVICE int negative_position(int n) const { return n < begin ? n : n + (end - begin); }
};

// The block's anchor, by its row of the strip.
template <class T>
FR_DEVICE AnchorRow<T> anchor_row(const Anchors& anchors, const Strip& strip, const T* values) {
  const int64_t row = blockIdx.x, anchor = strip.first + row;
  return {values + row * strip.stride, static_cast<int>(anchor),        anchors.begin[anchor],
          anchors.end[anchor],         static_cast<int>(strip.columns), anchors.self};
}

// Calls f(position, distance) for each of this thread's negatives that is not infinitely far.
template <class T, class F>
FR_DEVICE void for_each_negative(const AnchorRow<T>& row, F&& f) {
  for (int n = threadIdx.x; n < row.negatives(); n += kRankThreads) {
    const int j = row.negative_position(n);
    const T d = row.values[j];
    if (d < T(INFINITY)) f(j, d);
  }
}

template <class T>
struct Positives {
  T distance[kChunk];
  int slot[kChunk];
};

// How many of the ascending values are below d.
template <class T>
FR_DEVICE int count_below(const T* ascending, int count, T d) {
  int low = 0;
  while (low < count) {
    const int middle = (low + count) / 2;
    if (ascending[middle] < d) low = middle + 1;
    else count = middle;
  }
  return low;
}

template <class T>
FR_DEVICE void order_pair(Positives<T>& p, int pair, int step, int run) {
  const int low = 2 * pair - (pair & (step - 1)), high = low + step;
  const bool less = p.distance[high] < p.distance[low] ||
                    (p.distance[high] == p.distance[low] && p.slot[high] < p.slot[low]);
  if (less != ((low & run) == 0)) return;
  const T distance = p.distance[low];
  const int slot = p.slot[low];
  p.distance[low] = p.distance[high];
  p.slot[low] = p.slot[high];
  p.distance[high] = distance;
  p.slot[high] = slot;
}

// The positives of slots from `first` on, ascending (a bitonic sort): how many there are, and how many not infinitely far.
struct Chunk {
  int size, finite;
};
template <class T>
FR_DEVICE Chunk sort_positives(const AnchorRow<T>& row, int first, Positives<T>& sorted) {
  const int rest = row.positives() - first, size = rest < kChunk ? rest : kChunk;
  int width = 1;
  while (width < size) width *= 2;
  __syncthreads();  // the last chunk may still be read
  for (int k = threadIdx.x; k < width; k += kRankThreads) {
    sorted.distance[k] = k < size ? row.values[row.position(first + k)] : T(INFINITY);
    sorted.slot[k] = first + k;
  }
  __syncthreads();
  for (int run = 2; run <= width; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      for (int pair = threadIdx.x; pair < width / 2; pair += kRankThreads)
        order_pair(sorted, pair, step, run);
      __syncthreads();
    }
  }
  return {size, count_below(sorted.distance, size, T(INFINITY))};
}

// values[k] = merge of values[0 … k] (or, Suffix, of values[k … size - 1]), for size <= kChunk.
template <bool Suffix, class V, class Merge>
FR_DEVICE void scan(V* values, int size, Merge merge) {
  for (int step = 1; step < size; step *= 2) {
    V mine[kPerThread];
#pragma unroll
    for (int r = 0; r < kPerThread; ++r) {
      const int k = r * kRankThreads + static_cast<int>(threadIdx.x), other = Suffix ? k + step : k - step;
      if (k >= size) continue;
      mine[r] = other >= 0 && other < size ? merge(values[k], values[other]) : values[k];
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kPerThread; ++r) {
      const int k = r * kRankThreads + static_cast<int>(threadIdx.x);
      if (k < size) values[k] = mine[r];
    }
    __syncthreads();
  }
}

}  // namespace fused_rank::cuda
