// Atomics of 32 and 64 bits, relaxed as in CUDA.
#pragma once

#include <type_traits>

#include "emulator.h"
#include "warp.h"

namespace emulation {

// Puts f(old) where old was, and returns old.
template <class T, class F>
T exchange_atomically(T* address, F f) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  before_atomic(address);
  Bits* bits = reinterpret_cast<Bits*>(address);
  Bits old = __atomic_load_n(bits, __ATOMIC_RELAXED), fresh;
  do {
    fresh = static_cast<Bits>(to_bits<T>(f(from_bits<T>(old))));
  } while (!__atomic_compare_exchange_n(bits, &old, fresh, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return from_bits<T>(old);
}

}  // namespace emulation

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return emulation::exchange_atomically(address, [=](T old) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Unsigned>(old) + static_cast<Unsigned>(value));
    } else {
      return old + value;
    }
  });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return emulation::exchange_atomically(address, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return emulation::exchange_atomically(address, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return emulation::exchange_atomically(address, [=](T old) { return static_cast<T>(old | value); });
}
template <class T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return emulation::exchange_atomically(address, [=](T old) { return static_cast<T>(old & value); });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return emulation::exchange_atomically(address, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return emulation::exchange_atomically(address, [=](T old) { return old == expected ? value : old; });
}

inline void __threadfence() { emulation::fence(); }
inline void __threadfence_block() { emulation::fence(); }
