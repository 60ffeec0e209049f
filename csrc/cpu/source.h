// A caller's matrix of embeddings, any supported dtype and strides, read row by row in double.
#pragma once

#include <cstdint>

namespace fused_rank {

#if defined(__aarch64__)
using Float16 = __fp16;  // GCC has _Float16 in C++ there only since 13
#else
using Float16 = _Float16;
#endif

enum class DType { f32, f64, f16, bf16 };

inline int64_t bytes_of(DType dtype) { return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2; }

struct Source {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, width = 0, row_stride = 0, col_stride = 0;
};

// out[k] = scale * x[row][k]
void widen(const Source& x, int64_t row, double scale, double* out);

// One contiguous row of a result, rounded to its dtype.
void narrow(const double* values, int64_t width, DType dtype, void* out, int64_t row);

// sum over k of (a[k] - b[k])²
double squared_difference(const double* a, const double* b, int64_t width);
double dot(const double* a, const double* b, int64_t width);

}  // namespace fused_rank
