// Semi-hard negatives: for each (anchor, positive) the nearest negative strictly farther than the positive, else the farthest.
#include "../terms/triplet.h"
#include "best.h"
#include "metric.h"
#include "rank_row.h"

namespace fused_rank::cuda {

namespace {

constexpr int kWarps = kRankThreads / 32;

template <class T>
struct Losses {
  Sum<T> sum;
  int count, active;

  FR_DEVICE void add(T ap, T an, const TripletChoice& choice) {
    const T loss = choice.soft ? TripletMargin<true>{choice.margin, false}.loss(ap, an)
                               : TripletMargin<false>{choice.margin, false}.loss(ap, an);
    sum.add(loss);
    ++count;
    active += choice.soft || loss > T(0);
  }
};

// nearest[k]: the least of the negatives that are farther than positive k, for all of a chunk.
template <class T>
FR_DEVICE void find_nearest(const AnchorRow<T>& row, const Positives<T>& sorted, int size,
                            const int64_t* index, Best<T>* nearest) {
  for (int k = threadIdx.x; k < size; k += kRankThreads) nearest[k] = Best<T>::none();
  __syncthreads();
  for (int round = 0; round < kOfferRounds<T>; ++round) {
    for_each_negative(row, [&](int j, T d) {
      const int below = count_below(sorted.distance, size, d);
      if (below > 0) offer(nearest[below - 1], round, d, index + j);
    });
    __syncthreads();
  }
  scan<true>(nearest, size, [](const Best<T>& a, const Best<T>& b) { return better(a, b); });
}

// The farthest negative, with its distance negated, in every thread.
template <class T>
FR_DEVICE Best<T> find_farthest(const AnchorRow<T>& row, const int64_t* index, Best<T>* of_warps) {
  Best<T> mine = Best<T>::none();
  for_each_negative(row, [&](int j, T d) { mine = better(mine, Best<T>::of(-d, index[j])); });
  mine = best_of_warp(mine);
  __syncthreads();
  if (lane_of_warp() == 0) of_warps[warp_of_block()] = mine;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) mine = better(mine, of_warps[w]);
  return mine;
}

template <class T>
__global__ __launch_bounds__(kRankThreads, 6) void semihard_kernel(Anchors anchors, Strip strip,
                                                                   Semihard<T> io) {
  FR_SHARED(Positives<T>, sorted);
  FR_SHARED(Best<T>[kChunk], nearest);
  FR_SHARED(Best<T>[kWarps], of_warps);
  FR_SHARED(double[kWarps], scratch);
  const AnchorRow<T> row = anchor_row(anchors, strip, io.squares);
  int32_t* negative = io.negative + io.offset[row.anchor];
  Losses<T> losses{};
  Best<T> farthest = Best<T>::none();
  for (int first = 0; first < row.positives(); first += kChunk) {
    const Chunk chunk = sort_positives(row, first, sorted);
    find_nearest(row, sorted, chunk.finite, io.index, nearest);
    if (chunk.finite > 0 && !nearest[chunk.finite - 1].found() && !farthest.found())
      farthest = find_farthest(row, io.index, of_warps);
    for (int k = threadIdx.x; k < chunk.size; k += kRankThreads) {
      const bool farther = k < chunk.finite && nearest[k].found();
      const bool found = k < chunk.finite && (farther || farthest.found());
      const int64_t slot = sorted.slot[k];
      if (slot < io.slots)
        negative[slot * io.slot_stride] = found ? farther ? nearest[k].row() : farthest.row() : -1;
      if (found)
        losses.add(to_metric(anchors.metric, sorted.distance[k]),
                   to_metric(anchors.metric, farther ? nearest[k].value() : -farthest.value()), io.choice);
    }
  }
  if (!io.rows) return;
  const double sum = sum_of_block(losses.sum.value(), scratch);
  const double count = sum_of_block(static_cast<double>(losses.count), scratch);
  const double active = sum_of_block(static_cast<double>(losses.active), scratch);
  if (threadIdx.x != 0) return;
  io.rows[row.anchor] = static_cast<T>(sum);
  io.rows[anchors.size + row.anchor] = static_cast<T>(count);
  io.rows[2 * anchors.size + row.anchor] = static_cast<T>(active);
}

}  // namespace

template <class T>
void semihard(const Anchors& anchors, const Strip& strip, const Semihard<T>& io, Stream stream) {
  if (strip.rows == 0) return;
  launch(semihard_kernel<T>, dim3(static_cast<unsigned>(strip.rows)), dim3(kRankThreads), 0, stream, anchors,
         strip, io);
}

template void semihard<float>(const Anchors&, const Strip&, const Semihard<float>&, Stream);
template void semihard<double>(const Anchors&, const Strip&, const Semihard<double>&, Stream);

}  // namespace fused_rank::cuda
