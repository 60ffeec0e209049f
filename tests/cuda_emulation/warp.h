// Barriers and warp operations. Values travel as 64 bits.
#pragma once

#include <bit>
#include <cstring>

#include "emulator.h"

namespace emulation {

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// From lane `source` of the segment of `width` lanes that the caller is in, or from itself outside of it.
template <class T>
T shuffle(unsigned mask, T value, int source, int width, Where where) {
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width)))
    fail("the width of a shuffle is a power of two up to 32", where);
  const int self = static_cast<int>(lane()), first = self & ~(width - 1);
  const int from = source >= first && source < first + width ? source : self;
  const Exchange pick = [](const uint64_t* values, unsigned, unsigned from) { return values[from]; };
  return from_bits<T>(warp_exchange(pick, mask, to_bits(value), static_cast<unsigned>(from), where));
}

template <class T, class F>
T reduce(unsigned mask, T value, Where where, F) {
  static_assert(std::is_integral_v<T> && sizeof(T) == 4, "__reduce_*_sync takes 32-bit integers");
  const Exchange fold = [](const uint64_t* values, unsigned mask, unsigned) {
    T total = from_bits<T>(values[std::countr_zero(mask)]);
    for (unsigned rest = mask & (mask - 1); rest; rest &= rest - 1)
      total = F{}(total, from_bits<T>(values[std::countr_zero(rest)]));
    return to_bits(total);
  };
  return from_bits<T>(warp_exchange(fold, mask, to_bits(value), 0, where));
}

}  // namespace emulation

inline void __syncthreads(EMULATION_HERE) { emulation::block_barrier(emulation::Vote::none, false, where); }
inline int __syncthreads_count(int predicate, EMULATION_HERE) {
  return emulation::block_barrier(emulation::Vote::count, predicate != 0, where);
}
inline int __syncthreads_and(int predicate, EMULATION_HERE) {
  return emulation::block_barrier(emulation::Vote::all, predicate != 0, where);
}
inline int __syncthreads_or(int predicate, EMULATION_HERE) {
  return emulation::block_barrier(emulation::Vote::any, predicate != 0, where);
}
inline void __syncwarp(unsigned mask = ~0u, EMULATION_HERE) { emulation::warp_barrier(mask, where); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATION_HERE) {
  const int first = static_cast<int>(emulation::lane()) & ~(width - 1);
  return emulation::shuffle(mask, value, first + (source & (width - 1)), width, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flipped, int width = 32, EMULATION_HERE) {
  return emulation::shuffle(mask, value, static_cast<int>(emulation::lane()) ^ flipped, width, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATION_HERE) {
  return emulation::shuffle(mask, value, static_cast<int>(emulation::lane() + by), width, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATION_HERE) {
  return emulation::shuffle(mask, value, static_cast<int>(emulation::lane()) - static_cast<int>(by), width,
                            where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATION_HERE) {
  const emulation::Exchange collect = [](const uint64_t* values, unsigned mask, unsigned) {
    uint64_t found = 0;
    for (unsigned rest = mask; rest; rest &= rest - 1)
      found |= values[std::countr_zero(rest)] << std::countr_zero(rest);
    return found;
  };
  return static_cast<unsigned>(emulation::warp_exchange(collect, mask, predicate != 0, 0, where));
}
inline int __any_sync(unsigned mask, int predicate, EMULATION_HERE) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATION_HERE) {
  return __ballot_sync(mask, predicate, where) == mask;
}

template <class T>
T __reduce_add_sync(unsigned mask, T value, EMULATION_HERE) {
  return emulation::reduce(mask, value, where,
                           [](T a, T b) { return static_cast<T>(uint64_t(a) + uint64_t(b)); });
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, EMULATION_HERE) {
  return emulation::reduce(mask, value, where, [](T a, T b) { return a < b ? b : a; });
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, EMULATION_HERE) {
  return emulation::reduce(mask, value, where, [](T a, T b) { return b < a ? b : a; });
}
template <class T>
T __reduce_or_sync(unsigned mask, T value, EMULATION_HERE) {
  return emulation::reduce(mask, value, where, [](T a, T b) { return static_cast<T>(a | b); });
}
template <class T>
T __reduce_and_sync(unsigned mask, T value, EMULATION_HERE) {
  return emulation::reduce(mask, value, where, [](T a, T b) { return static_cast<T>(a & b); });
}
