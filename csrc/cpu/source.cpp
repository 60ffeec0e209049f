#include "source.h"

#include <bit>
#include <cstring>

#include "simd.h"

namespace fused_rank {

namespace {

struct BFloat16 {
  uint16_t bits;
  explicit operator double() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

uint16_t round_to_bfloat16(double value) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <class T>
void widen_as(const Source& x, int64_t row, double scale, double* out) {
  const T* p = static_cast<const T*>(x.data) + row * x.row_stride;
  if (x.col_stride == 1) {
    for (int64_t k = 0; k < x.width; ++k) out[k] = scale * static_cast<double>(p[k]);
  } else {
    for (int64_t k = 0; k < x.width; ++k) out[k] = scale * static_cast<double>(p[k * x.col_stride]);
  }
}

}  // namespace

void widen(const Source& x, int64_t row, double scale, double* out) {
  switch (x.dtype) {
    case DType::f32:
      return widen_as<float>(x, row, scale, out);
    case DType::f64:
      return widen_as<double>(x, row, scale, out);
    case DType::f16:
      return widen_as<Float16>(x, row, scale, out);
    case DType::bf16:
      return widen_as<BFloat16>(x, row, scale, out);
  }
}

void narrow(const double* values, int64_t width, DType dtype, void* out, int64_t row) {
  switch (dtype) {
    case DType::f32: {
      float* p = static_cast<float*>(out) + row * width;
      for (int64_t k = 0; k < width; ++k) p[k] = static_cast<float>(values[k]);
      return;
    }
    case DType::f64:
      std::memcpy(static_cast<double*>(out) + row * width, values, sizeof(double) * width);
      return;
    case DType::f16: {
      Float16* p = static_cast<Float16*>(out) + row * width;
      for (int64_t k = 0; k < width; ++k) p[k] = static_cast<Float16>(values[k]);
      return;
    }
    case DType::bf16: {
      uint16_t* p = static_cast<uint16_t*>(out) + row * width;
      for (int64_t k = 0; k < width; ++k) p[k] = round_to_bfloat16(values[k]);
      return;
    }
  }
}

double squared_difference(const double* a, const double* b, int64_t width) {
  using V = Vec<double>;
  V s0(0.0), s1(0.0);
  int64_t k = 0;
  for (; k + 2 * V::width <= width; k += 2 * V::width) {
    const V d0 = V::load(a + k) - V::load(b + k), d1 = V::load(a + k + V::width) - V::load(b + k + V::width);
    s0 += d0 * d0;
    s1 += d1 * d1;
  }
  double sum = horizontal_sum(s0 + s1);
  for (; k < width; ++k) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return sum;
}

double dot(const double* a, const double* b, int64_t width) {
  using V = Vec<double>;
  V s0(0.0), s1(0.0);
  int64_t k = 0;
  for (; k + 2 * V::width <= width; k += 2 * V::width) {
    s0 += V::load(a + k) * V::load(b + k);
    s1 += V::load(a + k + V::width) * V::load(b + k + V::width);
  }
  double sum = horizontal_sum(s0 + s1);
  for (; k < width; ++k) sum += a[k] * b[k];
  return sum;
}

}  // namespace fused_rank
