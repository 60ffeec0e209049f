// The tile product: C (+)= A · B for one tile, the only place where O(B²D) arithmetic happens.
//
// A is read one number at a time (broadcast), so any row and column stride will do: a packed operand, a tile of
// coefficients, or that tile transposed. B is a panel: kPanel<T> columns wide, its rows contiguous. Every element is one chain
// of fused multiply-adds in the order of k, whatever its position: equal inputs give equal bits anywhere in any tile,
// and the transposed product gives the transposed bits. Ties, symmetry and thread-independence rest on that.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace fused_rank {

inline constexpr int kPanelVectors = 2;
template <class T>
inline constexpr int kPanel = kPanelVectors * Vec<T>::width;

#if defined(__AVX512F__)
inline constexpr int kMicroRows = 12;  // 12 x 2 accumulators of the 32 registers
#else
inline constexpr int kMicroRows = 6;  // 6 x 2 of 16
#endif

inline constexpr int64_t kDepthBlock = 128;  // a panel of this depth stays in the first-level cache

// Where A's element (i, k) is: data[i * Row + (k / Segment) * jump + (k % Segment) * Step]. The strides are compile-time
// constants: with them in registers the twelve row addresses of the kernel would not fit.
template <class T, int Row, int Step, int Segment>
struct Strided {
  const T* data;
  int64_t jump;
  static constexpr bool kSegmented = Segment <= kDepthBlock;
  Strided from(int64_t k) const { return {data + (k / Segment) * jump + (k % Segment) * Step, jump}; }
};

// Rows of a tile of values or coefficients are this far apart, in tiles of any size: odd in cache lines, so that walking down
// a column does not fall into a few cache sets.
inline constexpr int kTileStride = 256 + 16;

template <class T>
using PackedRows = Strided<T, kPanel<T>, 1, kPanel<T>>;
template <class T>
using Coefficients = Strided<T, kTileStride, 1, 1 << 30>;
template <class T>
using TransposedCoefficients = Strided<T, 1, kTileStride, 1 << 30>;

namespace detail {

// What is read or written next lies in a farther cache, in pieces too short for the hardware to foresee.
FR_INLINE void fetch_ahead(const void* begin, int64_t bytes) {
  const char* p = static_cast<const char*>(begin);
  for (const char* const end = p + bytes; p < end; p += 64) __builtin_prefetch(p, 0, 3);
}

template <int Rows, class T, int Row, int Step, int Segment>
FR_INLINE void micro_kernel(const Strided<T, Row, Step, Segment>& a, int64_t i, int64_t depth, const T* panel,
                            T* c, int64_t ldc, bool accumulate) {
  using V = Vec<T>;
  V sum[Rows][kPanelVectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v)
      sum[r][v] = accumulate ? V::load(c + r * ldc + v * V::width) : V(T(0));

  if (ldc == kPanel<T>) fetch_ahead(c + Rows * ldc, Rows * kPanel<T> * sizeof(T));
  const T* start = a.data + i * Row;
  for (int64_t k0 = 0; k0 < depth; k0 += Segment, start += a.jump) {
    const T* p = start;
    const int64_t length = std::min<int64_t>(Segment, depth - k0);
    if constexpr (Strided<T, Row, Step, Segment>::kSegmented)  // its rows follow one another
      fetch_ahead(k0 + Segment < depth ? start + a.jump : a.data + (i + Rows) * Row, Rows * Row * sizeof(T));
#pragma GCC unroll 1
    for (int64_t k = 0; k < length; ++k, p += Step, panel += kPanel<T>) {
      const V b0 = V::load(panel), b1 = V::load(panel + V::width);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        const V x = V(p[r * Row]);
        sum[r][0] += x * b0;
        sum[r][1] += x * b1;
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) sum[r][v].store(c + r * ldc + v * V::width);
}

// One block of the depth.
template <class T, int Row, int Step, int Segment>
void multiply_block(const Strided<T, Row, Step, Segment>& a, int64_t rows, int64_t depth, const T* panel,
                    T* c, int64_t ldc, bool accumulate) {
  const T* const next = panel + depth * kPanel<T>;  // the block after this one is fetched in equal shares
  const int64_t share = (depth * kPanel<T> * kMicroRows + rows - 1) / rows;
  int64_t i = 0;
  for (; i + kMicroRows <= rows; i += kMicroRows) {
    for (int64_t b = 0; b < share; b += 64 / sizeof(T))
      __builtin_prefetch(next + i / kMicroRows * share + b, 0, 2);
    micro_kernel<kMicroRows>(a, i, depth, panel, c + i * ldc, ldc, accumulate);
  }
  for (; i + 4 <= rows; i += 4) micro_kernel<4>(a, i, depth, panel, c + i * ldc, ldc, accumulate);
  for (; i < rows; ++i) micro_kernel<1>(a, i, depth, panel, c + i * ldc, ldc, accumulate);
}

}  // namespace detail

// C[rows, kPanel] (+)= A[rows, depth] · panel[depth, kPanel]
template <class T, int Row, int Step, int Segment>
void multiply_panel(const Strided<T, Row, Step, Segment>& a, int64_t rows, int64_t depth, const T* panel,
                    T* c, int64_t ldc, bool accumulate) {
  for (int64_t k = 0; k < depth; k += kDepthBlock)
    detail::multiply_block(a.from(k), rows, std::min(kDepthBlock, depth - k), panel + k * kPanel<T>, c, ldc,
                           accumulate || k > 0);
}

}  // namespace fused_rank
