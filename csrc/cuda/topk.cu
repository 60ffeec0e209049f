// The k best columns of every row of a strip: a radix selection, eight bits of the number at a time, finds the worst number that is
// kept and how many of its equals are; then every warp writes those of its share of the columns. Ties go to the lowest column.
#include "best.h"
#include "kernels.h"
#include "warp_sums.h"

namespace fused_rank::cuda {

namespace {

constexpr int kTopThreads = 256;
constexpr int kWarps = kTopThreads / 32;
constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
static_assert(kDigits == kTopThreads);

template <class T>
using Bits = decltype(ordered_bits(T(0)));

template <class T>
struct Row {
  const T* values;
  int columns, excluded;  // the column that is left out, or -1
  bool largest;

  // Bits whose order is that of the columns, the best first.
  FR_DEVICE Bits<T> bits(int j) const {
    const Bits<T> ascending = ordered_bits(values[j]);
    return largest ? static_cast<Bits<T>>(~ascending) : ascending;
  }
};

// Columns whose bits under `mask` are below `prefix` are kept, and of those that equal it the first `ties`.
template <class T>
struct Selection {
  Bits<T> prefix, mask;
  int ties;
};

// counts[digit] of the columns that agree with the selection so far. All threads of the block.
template <class T>
FR_DEVICE void count_digits(const Row<T>& row, const Selection<T>& kept, int shift, int* counts) {
  counts[threadIdx.x] = 0;
  __syncthreads();
  const int first = static_cast<int>(threadIdx.x) - lane_of_warp();  // of the warp: its lanes stay together
  for (int from = first; from < row.columns; from += kTopThreads) {
    const int j = from + lane_of_warp();
    int digit = -1;
    if (j < row.columns && j != row.excluded) {
      const Bits<T> bits = row.bits(j);
      if ((bits & kept.mask) == kept.prefix) digit = static_cast<int>(bits >> shift & (kDigits - 1));
    }
    count_together(counts, digit, 1);
  }
  __syncthreads();
}

// Inclusive prefix sums of the digits' counts, one for each thread.
FR_DEVICE int count_up_to(int count, int* of_warps) {
  for (int step = 1; step < 32; step *= 2) {
    const int before = __shfl_up_sync(kWholeWarp, count, step);
    if (lane_of_warp() >= step) count += before;
  }
  if (lane_of_warp() == 31) of_warps[warp_of_block()] = count;
  __syncthreads();
  for (int w = 0; w < warp_of_block(); ++w) count += of_warps[w];
  return count;
}

template <class T>
FR_DEVICE Selection<T> select(const Row<T>& row, int k, int* counts, int* of_warps) {
  FR_SHARED(int[3],
            found);  // the digit of the worst number that is kept, how many are kept with it, and of how many
  Selection<T> kept{0, 0, k};
  int candidates = row.columns - (row.excluded >= 0 ? 1 : 0);
  for (int shift = 8 * sizeof(T) - kDigitBits; shift >= 0 && candidates > kept.ties; shift -= kDigitBits) {
    count_digits(row, kept, shift, counts);
    const int own = counts[threadIdx.x], to = count_up_to(own, of_warps);
    if (to - own < kept.ties && kept.ties <= to) {
      found[0] = static_cast<int>(threadIdx.x);
      found[1] = kept.ties - (to - own);
      found[2] = own;
    }
    __syncthreads();
    kept.prefix |= static_cast<Bits<T>>(found[0]) << shift;
    kept.mask |= static_cast<Bits<T>>(kDigits - 1) << shift;
    kept.ties = found[1];
    candidates = found[2];
    __syncthreads();
  }
  return kept;
}

// Of a warp's columns from `from` on, those below the selection's prefix and those that equal it, as bits of lanes.
struct Lanes {
  unsigned below, equal;
};
template <class T>
FR_DEVICE Lanes compare(const Row<T>& row, const Selection<T>& kept, int from, int to) {
  const int j = from + lane_of_warp();
  const bool there = j < to && j != row.excluded;
  const Bits<T> bits = there ? row.bits(j) & kept.mask : 0;
  return {__ballot_sync(kWholeWarp, there && bits < kept.prefix),
          __ballot_sync(kWholeWarp, there && bits == kept.prefix)};
}

// Writes the columns that are kept, in their order. Each warp has a share of them.
template <class T>
FR_DEVICE void write(const Row<T>& row, const Selection<T>& kept, int* below_of, int* equal_of, T* best,
                     int64_t* found) {
  const int share = (row.columns + kTopThreads - 1) / kTopThreads * 32;
  const int begin = warp_of_block() * share, end = begin + share < row.columns ? begin + share : row.columns;
  int below = 0, equal = 0;
  for (int from = begin; from < end; from += 32) {
    const Lanes lanes = compare(row, kept, from, end);
    below += __popc(lanes.below);
    equal += __popc(lanes.equal);
  }
  if (lane_of_warp() == 0) {
    below_of[warp_of_block()] = below;
    equal_of[warp_of_block()] = equal;
  }
  __syncthreads();
  below = equal = 0;
  for (int w = 0; w < warp_of_block(); ++w) {
    below += below_of[w];
    equal += equal_of[w];
  }
  const unsigned earlier = (1u << lane_of_warp()) - 1;
  for (int from = begin; from < end; from += 32) {
    const Lanes lanes = compare(row, kept, from, end);
    const int below_here = below + __popc(lanes.below & earlier),
              equal_here = equal + __popc(lanes.equal & earlier);
    const bool tie = lanes.equal >> lane_of_warp() & 1;
    if ((lanes.below >> lane_of_warp() & 1) || (tie && equal_here < kept.ties)) {
      const int at = below_here + (equal_here < kept.ties ? equal_here : kept.ties),
                j = from + lane_of_warp();
      best[at] = row.values[j];
      found[at] = j;
    }
    below += __popc(lanes.below);
    equal += __popc(lanes.equal);
  }
}

template <class T>
__global__ __launch_bounds__(kTopThreads, 4) void topk_kernel(Strip strip, TopK<T> io) {
  FR_SHARED(int[kDigits], counts);
  FR_SHARED(int[kWarps], of_warps);
  FR_SHARED(int[kWarps], others_of_warps);
  const int64_t at = blockIdx.x;
  const int own = static_cast<int>(strip.first + at - strip.first_column);
  const Row<T> row{io.values + at * strip.stride, static_cast<int>(strip.columns), io.exclude_self ? own : -1,
                   io.largest};
  const Selection<T> kept = select(row, static_cast<int>(io.k), counts, of_warps);
  write(row, kept, of_warps, others_of_warps, io.best + at * io.k, io.found + at * io.k);
}

}  // namespace

template <class T>
void topk(const Strip& strip, const TopK<T>& io, Stream stream) {
  if (strip.rows == 0 || io.k == 0) return;
  launch(topk_kernel<T>, dim3(static_cast<unsigned>(strip.rows)), dim3(kTopThreads), 0, stream, strip, io);
}

template void topk<float>(const Strip&, const TopK<float>&, Stream);
template void topk<double>(const Strip&, const TopK<double>&, Stream);

}  // namespace fused_rank::cuda
