// exp, log, softplus and sigmoid on vectors, accurate to a few units in the last place over the range where they matter.
#pragma once

#include "simd.h"

namespace fused_rank {

namespace detail {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float lowest = -87.0f,
                         highest = 88.0f;  // below: a denormal or 0; above: near the largest float
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float shifter =
      12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
  static constexpr int mantissa = 23, terms = 8;
};

template <>
struct ExpConstants<double> {
  static constexpr double lowest = -708.0, highest = 709.0;
  static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
  static constexpr double shifter = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int mantissa = 52, terms = 14;
};

inline constexpr double kInverseFactorial[] = {1.0,
                                               1.0,
                                               1.0 / 2,
                                               1.0 / 6,
                                               1.0 / 24,
                                               1.0 / 120,
                                               1.0 / 720,
                                               1.0 / 5040,
                                               1.0 / 40320,
                                               1.0 / 362880,
                                               1.0 / 3628800,
                                               1.0 / 39916800,
                                               1.0 / 479001600,
                                               1.0 / 6227020800.0};

}  // namespace detail

// e^x = 2^n e^r with |r| <= ln2 / 2; a Taylor polynomial in r is enough at that width. Clamped, so never inf.
template <class T>
FR_INLINE Vec<T> exp(Vec<T> x) {
  using C = detail::ExpConstants<T>;
  x = min(max(x, Vec<T>(C::lowest)), Vec<T>(C::highest));
  const Vec<T> shifted = x * Vec<T>(T(1.44269504088896340736)) + Vec<T>(C::shifter);
  const Vec<T> n = shifted - Vec<T>(C::shifter);
  const Vec<T> r = (x - n * Vec<T>(C::ln2_high)) - n * Vec<T>(C::ln2_low);
  Vec<T> p = Vec<T>(T(detail::kInverseFactorial[C::terms - 1]));
#pragma GCC unroll 16
  for (int k = C::terms - 2; k >= 0; --k) p = p * r + Vec<T>(T(detail::kInverseFactorial[k]));
  using Int = typename Mask<T>::Native;
  const Int exponent = (Int)shifted.v << C::mantissa;  // the low bits of `shifted` hold n
  return Vec<T>((typename Vec<T>::Native)((Int)p.v + exponent));
}

// log(1 + y) for 0 <= y <= 1, as 2 artanh(y / (2 + y)): the series in s² <= 1/9 converges fast and needs no table.
template <class T>
FR_INLINE Vec<T> log1p_unit(Vec<T> y) {
  constexpr int terms = sizeof(T) == 4 ? 8 : 17;
  const Vec<T> s = y / (y + Vec<T>(T(2)));
  const Vec<T> q = s * s;
  Vec<T> p = Vec<T>(T(2.0 / (2 * terms - 1)));
#pragma GCC unroll 17
  for (int k = terms - 1; k >= 1; --k) p = p * q + Vec<T>(T(2.0 / (2 * k - 1)));
  return s * p;
}

// log(x) for positive normal x = 2^n m, m in [sqrt(1/2), sqrt(2)): n ln 2 + 2 artanh((m - 1) / (m + 1)).
template <class T>
FR_INLINE Vec<T> log(Vec<T> x) {
  using C = detail::ExpConstants<T>;
  using Int = typename Mask<T>::Native;
  constexpr int terms = sizeof(T) == 4 ? 5 : 11;
  const Int bits = (Int)x.v, exponent = (bits - (Int)Vec<T>(T(0.70710678118654752440)).v) >> C::mantissa;
  const Vec<T> m = Vec<T>((typename Vec<T>::Native)(bits - (exponent << C::mantissa)));
  const Vec<T> n = Vec<T>(__builtin_convertvector(exponent, typename Vec<T>::Native));
  const Vec<T> s = (m - Vec<T>(T(1))) / (m + Vec<T>(T(1))), q = s * s;
  Vec<T> p = Vec<T>(T(2.0 / (2 * terms - 1)));
#pragma GCC unroll 11
  for (int k = terms - 1; k >= 1; --k) p = p * q + Vec<T>(T(2.0 / (2 * k - 1)));
  return n * Vec<T>(C::ln2_high) + (s * p + n * Vec<T>(C::ln2_low));
}

// log(1 + e^a) without overflow.
template <class T>
FR_INLINE Vec<T> softplus(Vec<T> a) {
  return max(a, Vec<T>(T(0))) + log1p_unit(exp(-abs(a)));
}

template <class T>
FR_INLINE Vec<T> sigmoid(Vec<T> a) {
  return Vec<T>(T(1)) / (Vec<T>(T(1)) + exp(-a));
}

}  // namespace fused_rank
