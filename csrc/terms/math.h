// The few functions that terms need, for one number (host and device) and, in CPU sweeps, for a SIMD vector.
// A term is written once against these names: V is float or double in CUDA and in scalar tails, Vec<T> in the CPU sweeps.
#pragma once

#include <cmath>

#if defined(__CUDACC__)
#define FR_TERM __host__ __device__ __forceinline__
#else
#define FR_TERM inline __attribute__((always_inline))
#endif

namespace fused_rank {

FR_TERM float select(bool c, float a, float b) { return c ? a : b; }
FR_TERM double select(bool c, double a, double b) { return c ? a : b; }
FR_TERM float max(float a, float b) { return a > b ? a : b; }
FR_TERM double max(double a, double b) { return a > b ? a : b; }
FR_TERM float min(float a, float b) { return a < b ? a : b; }
FR_TERM double min(double a, double b) { return a < b ? a : b; }
FR_TERM float exp(float a) { return ::expf(a); }
FR_TERM double exp(double a) { return ::exp(a); }
FR_TERM float softplus(float a) { return max(a, 0.0f) + ::log1pf(::expf(-::fabsf(a))); }
FR_TERM double softplus(double a) { return max(a, 0.0) + ::log1p(::exp(-::fabs(a))); }
FR_TERM float sigmoid(float a) { return 1.0f / (1.0f + ::expf(-a)); }
FR_TERM double sigmoid(double a) { return 1.0 / (1.0 + ::exp(-a)); }

// The number type behind V: float for float and Vec<float>, double for double and Vec<double>.
template <class V>
struct ScalarOf {
  using type = typename V::Scalar;
};
template <>
struct ScalarOf<float> {
  using type = float;
};
template <>
struct ScalarOf<double> {
  using type = double;
};

}  // namespace fused_rank

#if !defined(__CUDACC__)
#include "../cpu/simd_math.h"
#endif
