// Arrays of accumulators and scales by member, [member][position], so that a vector of columns is one load each.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../terms/term.h"
#include "buffer.h"
#include "simd.h"

namespace fused_rank {

// An array of structs with V members, stored by member.
template <class T, template <class> class Struct>
class Members {
 public:
  static constexpr int count = kMembers<T, Struct<T>>;
  explicit Members(int64_t rows = 0) : rows_(rows), data_(rows * count) {}

  void fill(const Struct<T>& value) {
    for (int64_t i = 0; i < rows_; ++i) set(i, value);
  }
  template <class V>
  FR_INLINE Struct<V> load(int64_t i) const {
    Struct<V> s;
    V* members = reinterpret_cast<V*>(&s);
#pragma GCC unroll 8
    for (int m = 0; m < count; ++m) {
      if constexpr (std::is_same_v<V, T>) members[m] = data_[m * rows_ + i];
      else members[m] = V::load(data_.data() + m * rows_ + i);
    }
    return s;
  }
  template <class V>
  FR_INLINE void store(int64_t i, const Struct<V>& s) {
    const V* members = reinterpret_cast<const V*>(&s);
#pragma GCC unroll 8
    for (int m = 0; m < count; ++m) {
      if constexpr (std::is_same_v<V, T>) data_[m * rows_ + i] = members[m];
      else members[m].store(data_.data() + m * rows_ + i);
    }
  }
  Struct<T> get(int64_t i) const { return load<T>(i); }
  void set(int64_t i, const Struct<T>& s) { store<T>(i, s); }

 private:
  int64_t rows_;
  Buffer<T> data_;
};

}  // namespace fused_rank
