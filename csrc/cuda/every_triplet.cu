// Losses of every triplet of an anchor, or of every one in the band 0 < d_an - d_ap <= margin.
//
// Under a hinge a negative violates the positives of one range of ranks, and prefix sums of their distances give the sum of
// its losses: O(N log P) a row. Softplus has no such sum: O(N P).
#include "../terms/triplet.h"
#include "triplet_ranges.h"

namespace fused_rank::cuda {

namespace {

constexpr int kWarps = kRankThreads / 32;

// sums[k]: of the chunk's first k + 1 distances, measured from its least, so that differences keep their digits.
template <class T>
FR_DEVICE void sum_distances(const Positives<T>& sorted, int size, Sum<T>* sums) {
  for (int k = threadIdx.x; k < size; k += kRankThreads)
    sums[k] = {sorted.distance[k] - sorted.distance[0], T(0)};
  __syncthreads();
  scan<false>(sums, size, [](const Sum<T>& own, const Sum<T>& before) { return own.merged(before); });
}

// Σ (d_ap - d + margin) over the ranks of a range, in the measure of `sums`.
template <class T>
FR_DEVICE T hinge_loss(const Sum<T>* sums, Ranks ranks, T d, T margin) {
  T total = sums[ranks.last - 1].high, rest = sums[ranks.last - 1].low;
  if (ranks.first > 0) {
    total -= sums[ranks.first - 1].high;
    rest -= sums[ranks.first - 1].low;
  }
  return multiply_add(static_cast<T>(ranks.first - ranks.last), d - margin, total + rest);
}

template <class T>
struct Losses {
  Sum<T> sum;
  int64_t active;
};

template <class T>
FR_DEVICE void add_losses(Losses<T>& losses, const Positives<T>& sorted, const Sum<T>* sums, int size, T d,
                          const TripletChoice& choice) {
  const Ranks ranks = ranks_of(sorted.distance, size, d, choice);
  if (ranks.first >= ranks.last) return;
  losses.active += ranks.last - ranks.first;
  if (choice.soft) {
    const TripletMargin<true> smooth{choice.margin, false};
    for (int k = ranks.first; k < ranks.last; ++k) losses.sum.add(smooth.loss(sorted.distance[k], d));
  } else {
    losses.sum.add(hinge_loss(sums, ranks, d - sorted.distance[0], static_cast<T>(choice.margin)));
  }
}

template <class T>
__global__ __launch_bounds__(kRankThreads, 6) void every_triplet_kernel(Anchors anchors, Strip strip,
                                                                        EveryTriplet<T> io) {
  FR_SHARED(Positives<T>, sorted);
  FR_SHARED(Sum<T>[kChunk], sums);
  FR_SHARED(double[kWarps], scratch);
  FR_SHARED(int64_t[kWarps], counts);
  const AnchorRow<T> row = anchor_row(anchors, strip, io.distances);
  Losses<T> losses{};
  for (int first = 0; first < row.positives(); first += kChunk) {
    const int size = sort_positives(row, first, sorted).finite;
    if (size == 0) continue;
    if (!io.choice.soft) sum_distances(sorted, size, sums);
    for_each_negative(row, [&](int, T d) { add_losses(losses, sorted, sums, size, d, io.choice); });
  }
  const double sum = sum_of_block(losses.sum.value(), scratch);
  const int64_t active = sum_of_block(losses.active, counts);
  if (threadIdx.x != 0) return;
  io.rows[row.anchor] = static_cast<T>(sum);
  io.rows[anchors.size + row.anchor] = static_cast<T>(static_cast<double>(row.positives()) * row.negatives());
  io.rows[2 * anchors.size + row.anchor] = static_cast<T>(active);
}

}  // namespace

template <class T>
void every_triplet(const Anchors& anchors, const Strip& strip, const EveryTriplet<T>& io, Stream stream) {
  if (strip.rows == 0) return;
  launch(every_triplet_kernel<T>, dim3(static_cast<unsigned>(strip.rows)), dim3(kRankThreads), 0, stream,
         anchors, strip, io);
}

template void every_triplet<float>(const Anchors&, const Strip&, const EveryTriplet<float>&, Stream);
template void every_triplet<double>(const Anchors&, const Strip&, const EveryTriplet<double>&, Stream);

}  // namespace fused_rank::cuda
