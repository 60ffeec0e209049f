// One SIMD vector type, Vec<T>, as wide as the instruction set this file is compiled for.
//
// The whole extension is compiled once per instruction set (see csrc/README.md), so the width is a compile-time fact.
// GCC and Clang vector extensions give arithmetic, comparison and selection; the few operations they lack (square root,
// one-instruction min and max) are intrinsics where there are any and lane loops elsewhere.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define FR_INLINE inline __attribute__((always_inline))
#define FR_LAMBDA __attribute__((always_inline))

namespace fused_rank {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

typedef float NativeFloat __attribute__((vector_size(kVectorBytes)));
typedef double NativeDouble __attribute__((vector_size(kVectorBytes)));
typedef int32_t NativeInt32 __attribute__((vector_size(kVectorBytes)));
typedef int64_t NativeInt64 __attribute__((vector_size(kVectorBytes)));

template <class T>
struct Mask;

template <class T>
struct Vec {
  static_assert(std::is_floating_point_v<T>);
  static constexpr int width = kVectorBytes / static_cast<int>(sizeof(T));
  using Native = std::conditional_t<sizeof(T) == 4, NativeFloat, NativeDouble>;
  using Scalar = T;

  Native v;

  Vec() = default;
  FR_INLINE Vec(Native n) : v(n) {}
  FR_INLINE Vec(T x) : v(x - Native{}) {}  // not x + 0, which a compiler must compute for the sake of -0

  FR_INLINE static Vec load(const T* p) {
    Vec r;
    std::memcpy(&r.v, p, sizeof(Native));
    return r;
  }
  FR_INLINE void store(T* p) const { std::memcpy(p, &v, sizeof(Native)); }
  FR_INLINE T operator[](int lane) const { return v[lane]; }

  // {0, 1, 2, …}
  FR_INLINE static Vec iota() {
    Vec r;
    for (int l = 0; l < width; ++l) r.v[l] = static_cast<T>(l);
    return r;
  }

  friend FR_INLINE Vec operator+(Vec a, Vec b) { return Vec(a.v + b.v); }
  friend FR_INLINE Vec operator-(Vec a, Vec b) { return Vec(a.v - b.v); }
  friend FR_INLINE Vec operator*(Vec a, Vec b) { return Vec(a.v * b.v); }
  friend FR_INLINE Vec operator/(Vec a, Vec b) { return Vec(a.v / b.v); }
  friend FR_INLINE Vec operator-(Vec a) { return Vec(-a.v); }
  FR_INLINE Vec& operator+=(Vec b) {
    v += b.v;
    return *this;
  }
  FR_INLINE Vec& operator-=(Vec b) {
    v -= b.v;
    return *this;
  }
  FR_INLINE Vec& operator*=(Vec b) {
    v *= b.v;
    return *this;
  }

  friend FR_INLINE Mask<T> operator<(Vec a, Vec b) { return Mask<T>{a.v < b.v}; }
  friend FR_INLINE Mask<T> operator<=(Vec a, Vec b) { return Mask<T>{a.v <= b.v}; }
  friend FR_INLINE Mask<T> operator>(Vec a, Vec b) { return Mask<T>{a.v > b.v}; }
  friend FR_INLINE Mask<T> operator>=(Vec a, Vec b) { return Mask<T>{a.v >= b.v}; }
  friend FR_INLINE Mask<T> operator==(Vec a, Vec b) { return Mask<T>{a.v == b.v}; }
  friend FR_INLINE Mask<T> operator!=(Vec a, Vec b) { return Mask<T>{a.v != b.v}; }
};

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

template <class T>
struct Mask {
  using Native = std::conditional_t<sizeof(T) == 4, NativeInt32, NativeInt64>;
  Native v;  // all ones where true

  friend FR_INLINE Mask operator&(Mask a, Mask b) { return Mask{a.v & b.v}; }
  friend FR_INLINE Mask operator|(Mask a, Mask b) { return Mask{a.v | b.v}; }
  FR_INLINE Mask operator~() const { return Mask{~v}; }
  FR_INLINE bool operator[](int lane) const { return v[lane] != 0; }
};

template <class T>
FR_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) {
  return Vec<T>(m.v ? a.v : b.v);
}

template <class T>
FR_INLINE bool any(Mask<T> m) {
#if defined(__AVX512F__)
  const __m512i bits = reinterpret_cast<__m512i>(m.v);
  return _mm512_test_epi64_mask(bits, bits) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8(reinterpret_cast<__m256i>(m.v)) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_epi8(reinterpret_cast<__m128i>(m.v)) != 0;
#else
  Bits<T> r = 0;
  for (int l = 0; l < Vec<T>::width; ++l) r |= m.v[l];
  return r != 0;
#endif
}

// min and max return the second argument when a lane is NaN, on every instruction set.
#if defined(__AVX512F__)
FR_INLINE Vec<float> max(Vec<float> a, Vec<float> b) {
  return Vec<float>((Vec<float>::Native)_mm512_max_ps((__m512)a.v, (__m512)b.v));
}
FR_INLINE Vec<float> min(Vec<float> a, Vec<float> b) {
  return Vec<float>((Vec<float>::Native)_mm512_min_ps((__m512)a.v, (__m512)b.v));
}
FR_INLINE Vec<double> max(Vec<double> a, Vec<double> b) {
  return Vec<double>((Vec<double>::Native)_mm512_max_pd((__m512d)a.v, (__m512d)b.v));
}
FR_INLINE Vec<double> min(Vec<double> a, Vec<double> b) {
  return Vec<double>((Vec<double>::Native)_mm512_min_pd((__m512d)a.v, (__m512d)b.v));
}
FR_INLINE Vec<float> sqrt(Vec<float> a) {
  return Vec<float>((Vec<float>::Native)_mm512_sqrt_ps((__m512)a.v));
}
FR_INLINE Vec<double> sqrt(Vec<double> a) {
  return Vec<double>((Vec<double>::Native)_mm512_sqrt_pd((__m512d)a.v));
}
#elif defined(__AVX2__)
FR_INLINE Vec<float> max(Vec<float> a, Vec<float> b) {
  return Vec<float>((Vec<float>::Native)_mm256_max_ps((__m256)a.v, (__m256)b.v));
}
FR_INLINE Vec<float> min(Vec<float> a, Vec<float> b) {
  return Vec<float>((Vec<float>::Native)_mm256_min_ps((__m256)a.v, (__m256)b.v));
}
FR_INLINE Vec<double> max(Vec<double> a, Vec<double> b) {
  return Vec<double>((Vec<double>::Native)_mm256_max_pd((__m256d)a.v, (__m256d)b.v));
}
FR_INLINE Vec<double> min(Vec<double> a, Vec<double> b) {
  return Vec<double>((Vec<double>::Native)_mm256_min_pd((__m256d)a.v, (__m256d)b.v));
}
FR_INLINE Vec<float> sqrt(Vec<float> a) {
  return Vec<float>((Vec<float>::Native)_mm256_sqrt_ps((__m256)a.v));
}
FR_INLINE Vec<double> sqrt(Vec<double> a) {
  return Vec<double>((Vec<double>::Native)_mm256_sqrt_pd((__m256d)a.v));
}
#else
template <class T>
FR_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
  return select(a > b, a, b);
}
template <class T>
FR_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
  return select(a < b, a, b);
}
#if defined(__SSE2__)
FR_INLINE Vec<float> sqrt(Vec<float> a) { return Vec<float>((Vec<float>::Native)_mm_sqrt_ps((__m128)a.v)); }
FR_INLINE Vec<double> sqrt(Vec<double> a) {
  return Vec<double>((Vec<double>::Native)_mm_sqrt_pd((__m128d)a.v));
}
#else
template <class T>
FR_INLINE Vec<T> sqrt(Vec<T> a) {
  for (int l = 0; l < Vec<T>::width; ++l) a.v[l] = __builtin_sqrt(a.v[l]);
  return a;
}
#endif
#endif

// Lanes rotated down by `step`: result[l] = a[(l + step) % width]. Used to merge the lanes of an accumulator.
template <class T>
FR_INLINE Vec<T> rotate(Vec<T> a, int step) {
  typename Mask<T>::Native index;
  for (int l = 0; l < Vec<T>::width; ++l) index[l] = static_cast<Bits<T>>((l + step) % Vec<T>::width);
#if defined(__clang__)
  Vec<T> r;
  for (int l = 0; l < Vec<T>::width; ++l) r.v[l] = a.v[index[l]];
  return r;
#else
  return Vec<T>(__builtin_shuffle(a.v, index));
#endif
}

template <class T>
FR_INLINE T horizontal_sum(Vec<T> a) {
  for (int step = Vec<T>::width / 2; step >= 1; step /= 2) a += rotate(a, step);
  return a[0];
}

template <class T>
FR_INLINE Vec<T> abs(Vec<T> a) {
  return max(a, -a);
}

}  // namespace fused_rank
