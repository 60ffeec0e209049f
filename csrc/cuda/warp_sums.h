// Sums that keep their digits and have one order: the same bits every time.
#pragma once

#include "device.h"

namespace fused_rank::cuda {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

FR_DEVICE int lane_of_warp() { return static_cast<int>(threadIdx.x) % 32; }
FR_DEVICE int warp_of_block() { return static_cast<int>(threadIdx.x) / 32; }

// A running sum with what rounding took from it (Knuth's two-sum): twice the digits of T.
template <class T>
struct Sum {
  T high, low;

  FR_DEVICE void add(T value) {
    const T total = high + value, part = total - high;
    low += (high - (total - part)) + (value - part);
    high = total;
  }
  FR_DEVICE Sum merged(const Sum& other) const {
    Sum sum = *this;
    sum.add(other.high);
    sum.low += other.low;
    return sum;
  }
  FR_DEVICE double value() const { return static_cast<double>(high) + static_cast<double>(low); }
};

// The warp's sum, in every lane.
template <class T>
FR_DEVICE T sum_of_warp(T value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kWholeWarp, value, lanes);
  return value;
}

// The block's sum, in the first thread. `scratch`: a number for each warp.
template <class T>
FR_DEVICE T sum_of_block(T value, T* scratch) {
  value = sum_of_warp(value);
  if (lane_of_warp() == 0) scratch[warp_of_block()] = value;
  __syncthreads();
  T total = 0;
  if (threadIdx.x == 0)
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += scratch[w];
  __syncthreads();
  return total;
}

// counters[bin] += step for each lane whose bin is not negative; the whole warp comes. Lanes of one bin would wait for each other, so
// those of the first such lane's are counted together.
FR_DEVICE void count_together(int* counters, int bin, int step) {
  const unsigned wanting = __ballot_sync(kWholeWarp, bin >= 0);
  if (wanting == 0) return;
  const int leader = __ffs(static_cast<int>(wanting)) - 1;
  const int first = __shfl_sync(kWholeWarp, bin, leader);
  const unsigned alike = __ballot_sync(kWholeWarp, bin == first);
  if (lane_of_warp() == leader) atomicAdd(counters + first, step * __popc(alike));
  else if (bin >= 0 && bin != first) atomicAdd(counters + bin, step);
}

}  // namespace fused_rank::cuda
