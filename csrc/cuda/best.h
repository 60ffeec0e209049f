// A number and the row it leads to, so that equal numbers are ranked by their rows.
#pragma once

#include "device.h"

namespace fused_rank::cuda {

// A number's bits in the order of the numbers; zeros of both signs are one.
FR_DEVICE uint32_t ordered_bits(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
FR_DEVICE uint64_t ordered_bits(double x) {
  const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(x + 0.0));
  return bits >> 63 ? ~bits : bits | 0x8000000000000000u;
}
FR_DEVICE float from_ordered_bits(uint32_t bits) {
  return __uint_as_float(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}
FR_DEVICE double from_ordered_bits(uint64_t bits) {
  return __longlong_as_double(static_cast<long long>(bits >> 63 ? bits & 0x7fffffffffffffffu : ~bits));
}

// The least number and the lowest row it leads to. For float both fit one 64-bit word.
template <class T>
struct Best;

template <>
struct Best<float> {
  unsigned long long key;

  FR_DEVICE static Best none() { return {~0ull}; }
  FR_DEVICE static Best of(float value, int64_t row) {
    return {static_cast<unsigned long long>(ordered_bits(value)) << 32 | static_cast<uint32_t>(row)};
  }
  FR_DEVICE bool found() const { return key != ~0ull; }
  FR_DEVICE float value() const { return from_ordered_bits(static_cast<uint32_t>(key >> 32)); }
  FR_DEVICE int row() const { return static_cast<int>(key & 0xffffffffu); }
  FR_DEVICE bool before(const Best& other) const { return key < other.key; }
};

template <>
struct Best<double> {
  unsigned long long bits, number;

  FR_DEVICE static Best none() { return {~0ull, ~0ull}; }
  FR_DEVICE static Best of(double value, int64_t row) {
    return {ordered_bits(value), static_cast<unsigned long long>(row)};
  }
  FR_DEVICE bool found() const { return number != ~0ull; }
  FR_DEVICE double value() const { return from_ordered_bits(static_cast<uint64_t>(bits)); }
  FR_DEVICE int row() const { return static_cast<int>(number); }
  FR_DEVICE bool before(const Best& other) const {
    return bits < other.bits || (bits == other.bits && number < other.number);
  }
};

template <class T>
FR_DEVICE Best<T> better(const Best<T>& a, const Best<T>& b) {
  return b.before(a) ? b : a;
}

// The best of a warp's, in every lane.
FR_DEVICE Best<float> best_of_warp(Best<float> mine) {
  for (int lanes = 16; lanes > 0; lanes /= 2)
    mine = better(mine, Best<float>{__shfl_xor_sync(0xffffffffu, mine.key, lanes)});
  return mine;
}
FR_DEVICE Best<double> best_of_warp(Best<double> mine) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const Best<double> other{__shfl_xor_sync(0xffffffffu, mine.bits, lanes),
                             __shfl_xor_sync(0xffffffffu, mine.number, lanes)};
    mine = better(mine, other);
  }
  return mine;
}

// A look at what other threads lower by atomicMin meanwhile: perhaps not the latest, never torn.
FR_DEVICE unsigned long long glance(const unsigned long long* word) {
#if defined(__CUDA_ARCH__)
  return *static_cast<const volatile unsigned long long*>(word);
#else
  return __atomic_load_n(word, __ATOMIC_RELAXED);
#endif
}

// Offers to a Best in shared memory that other threads of the block offer to, in rounds: every thread offers all it has in round 0,
// then, after a barrier, all of it again in the next. Integer minima: the same in any order.
template <class T>
inline constexpr int kOfferRounds = sizeof(T) == 4 ? 1 : 2;

// `row` is read only where the number is no worse than the best: that soon gets rare.
FR_DEVICE void offer(Best<float>& best, int, float value, const int64_t* row) {
  if (ordered_bits(value) > glance(&best.key) >> 32) return;
  const unsigned long long key = Best<float>::of(value, *row).key;
  if (key < glance(&best.key)) atomicMin(&best.key, key);
}
FR_DEVICE void offer(Best<double>& best, int round, double value, const int64_t* row) {
  const unsigned long long bits = ordered_bits(value);
  if (round == 0) {
    if (bits < glance(&best.bits)) atomicMin(&best.bits, bits);
  } else if (bits == best.bits) {
    atomicMin(&best.number, static_cast<unsigned long long>(*row));
  }
}

}  // namespace fused_rank::cuda
