// Backward of every_triplet: a strip of distances becomes coefficients c_ij, the factors of x_i - y_j in the gradient.
//
// Under a hinge a slope is a number of triplets: a negative's is the length of its range of ranks, a positive's is counted by marks
// at the ends of the ranges. Under soft margin a thread sums a negative's slopes, a warp those of some positives.
#include "../terms/triplet.h"
#include "metric.h"
#include "triplet_ranges.h"

namespace fused_rank::cuda {

namespace {

constexpr int kWarps = kRankThreads / 32;
constexpr int kTogether = 4;  // positives that a warp sums at a time

template <class T>
struct Slopes {
  TripletChoice choice;
  Metric metric;
  T upstream;
  T* coefficients;  // [columns]

  FR_DEVICE T coefficient(T slope, T distance) const {
    return upstream * slope * edge_factor(metric, distance);
  }
};

// What a negative at d takes from the triplets with a chunk's positives.
template <class T>
FR_DEVICE T negative_slope(const Positives<T>& sorted, Ranks ranks, T d, const TripletChoice& choice) {
  if (!choice.soft) return static_cast<T>(ranks.last - ranks.first);
  const TripletMargin<true> smooth{choice.margin, false};
  T slope = 0;
  for (int k = ranks.first; k < ranks.last; ++k) slope += smooth.slope(sorted.distance[k], d);
  return slope;
}

// Adds the negatives' coefficients; under a hinge, marks[k] becomes the number of ranges that begin at rank k less those that end.
template <class T>
FR_DEVICE void pull_negatives(const AnchorRow<T>& row, const Positives<T>& sorted, int size,
                              const Slopes<T>& slopes, int* marks) {
  const int first = static_cast<int>(threadIdx.x) - lane_of_warp();  // of the warp: its lanes stay together
  for (int from = first; from < row.negatives(); from += kRankThreads) {
    Ranks ranks{0, 0};
    if (from + lane_of_warp() < row.negatives()) {
      const int j = row.negative_position(from + lane_of_warp());
      const T d = row.values[j];
      if (d < T(INFINITY)) ranks = ranks_of(sorted.distance, size, d, slopes.choice);
      if (ranks.first < ranks.last)
        slopes.coefficients[j] -= slopes.coefficient(negative_slope(sorted, ranks, d, slopes.choice), d);
    }
    if (slopes.choice.soft) continue;
    const bool any = ranks.first < ranks.last;
    count_together(marks, any ? ranks.first : -1, 1);
    count_together(marks, any && ranks.last < size ? ranks.last : -1, -1);
  }
}

// The soft slopes of positives [k, k + kTogether), each summed over all negatives, in every lane.
template <class T>
FR_DEVICE void positive_slopes(const AnchorRow<T>& row, const Positives<T>& sorted, int k, int size,
                               const TripletChoice& choice, T (&total)[kTogether]) {
  const TripletMargin<true> smooth{choice.margin, choice.band};
  Sum<T> sums[kTogether]{};
  for (int n = lane_of_warp(); n < row.negatives(); n += 32) {
    const T d = row.values[row.negative_position(n)];
    if (!(d < T(INFINITY))) continue;
#pragma unroll
    for (int r = 0; r < kTogether; ++r)
      if (k + r < size) sums[r].add(smooth.slope(sorted.distance[k + r], d));
  }
#pragma unroll
  for (int r = 0; r < kTogether; ++r) total[r] = sum_of_warp(sums[r].high + sums[r].low);
}

template <class T>
FR_DEVICE void pull_soft_positives(const AnchorRow<T>& row, const Positives<T>& sorted, int size,
                                   const Slopes<T>& slopes) {
  for (int k = warp_of_block() * kTogether; k < size; k += kWarps * kTogether) {
    T total[kTogether];
    positive_slopes(row, sorted, k, size, slopes.choice, total);
#pragma unroll
    for (int r = 0; r < kTogether; ++r)
      if (lane_of_warp() == r && k + r < size)
        slopes.coefficients[row.position(sorted.slot[k + r])] =
            slopes.coefficient(total[r], sorted.distance[k + r]);
  }
}

template <class T>
__global__ __launch_bounds__(kRankThreads, 6) void every_triplet_slopes_kernel(Anchors anchors, Strip strip,
                                                                               EveryTripletSlopes<T> io) {
  FR_SHARED(Positives<T>, sorted);
  FR_SHARED(int[kChunk], marks);
  const AnchorRow<T> row = anchor_row(anchors, strip, io.distances);
  const Slopes<T> slopes{io.choice, anchors.metric, io.upstream[row.anchor],
                         io.coefficients + static_cast<int64_t>(blockIdx.x) * strip.stride};
  for (int64_t j = threadIdx.x; j < strip.stride; j += kRankThreads) slopes.coefficients[j] = T(0);
  for (int first = 0; first < row.positives(); first += kChunk) {
    const int size = sort_positives(row, first, sorted).finite;
    for (int k = threadIdx.x; k < size; k += kRankThreads) marks[k] = 0;
    __syncthreads();
    pull_negatives(row, sorted, size, slopes, marks);
    if (io.choice.soft) {
      pull_soft_positives(row, sorted, size, slopes);
      continue;
    }
    __syncthreads();
    scan<false>(marks, size, [](int own, int before) { return own + before; });
    for (int k = threadIdx.x; k < size; k += kRankThreads)
      slopes.coefficients[row.position(sorted.slot[k])] =
          slopes.coefficient(static_cast<T>(marks[k]), sorted.distance[k]);
  }
}

}  // namespace

template <class T>
void every_triplet_slopes(const Anchors& anchors, const Strip& strip, const EveryTripletSlopes<T>& io,
                          Stream stream) {
  if (strip.rows == 0) return;
  launch(every_triplet_slopes_kernel<T>, dim3(static_cast<unsigned>(strip.rows)), dim3(kRankThreads), 0,
         stream, anchors, strip, io);
}

template void every_triplet_slopes<float>(const Anchors&, const Strip&, const EveryTripletSlopes<float>&,
                                          Stream);
template void every_triplet_slopes<double>(const Anchors&, const Strip&, const EveryTripletSlopes<double>&,
                                           Stream);

}  // namespace fused_rank::cuda
