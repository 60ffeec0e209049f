// Close pairs of a strip: their share of the gradient by direct difference, and their coefficients taken out of the product.
//
// Who has none costs a look at the tiles' flags. A batch that has collapsed altogether takes a load and a multiply-add for each pair
// and feature, and no memory.
#include "strip.h"

namespace fused_rank::cuda {
namespace {

inline constexpr int kWarps = kThreads / 32;
inline constexpr int kFeatures = 4;  // of a lane

// A warp has an owner and a slice of 32 kFeatures features, in `sums`, and adds one close pair after another.
template <class T>
struct Pull {
  const Pairs<T>& pairs;
  int64_t first;  // feature of lane 0
  T sums[kFeatures];

  FR_DEVICE void add(T c, int i, int j) {
    const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
    for (int f = 0; f < kFeatures; ++f) {
      const int64_t k = first + 32 * f + lane;
      if (k < pairs.width) sums[f] = multiply_add(c, difference(pairs, i, j, k), sums[f]);
    }
  }
};

// Close pairs of row i of the strip, along its words.
template <class T>
FR_DEVICE void pull_row(const Strip& strip, const NearPull<T>& io, int64_t i, Pull<T>& pull) {
  const int64_t tiles = tiles_of(strip.columns, kTile<T>), words = near_words<T>(strip.columns);
  const uint8_t* flags = io.near.tiles + i / kTile<T> * tiles;
  for (int64_t word = 0; word < words; ++word) {
    if (flags[word / (kTile<T> / 32)] == 0) continue;
    for (unsigned bits = io.near.bits[i * words + word]; bits != 0; bits &= bits - 1) {
      const int64_t j = word * 32 + __ffs(static_cast<int>(bits)) - 1;
      pull.add(io.values[i * strip.stride + j], static_cast<int>(strip.first + i),
               static_cast<int>(strip.first_column + j));
    }
  }
}

// Close pairs of column j of the strip: a lane looks at each of 32 rows.
template <class T>
FR_DEVICE void pull_column(const Strip& strip, const NearPull<T>& io, int64_t j, Pull<T>& pull) {
  const int64_t tiles = tiles_of(strip.columns, kTile<T>), words = near_words<T>(strip.columns);
  for (int64_t first = 0; first < strip.rows; first += 32) {
    if (io.near.tiles[first / kTile<T> * tiles + j / kTile<T>] == 0) continue;
    const int64_t i = first + threadIdx.x % 32;
    const bool close = i < strip.rows && (io.near.bits[i * words + j / 32] >> (j % 32) & 1) != 0;
    for (unsigned rows = __ballot_sync(kWarp, close); rows != 0; rows &= rows - 1) {
      const int64_t row = first + __ffs(static_cast<int>(rows)) - 1;
      pull.add(-io.values[row * strip.stride + j], static_cast<int>(strip.first + row),
               static_cast<int>(strip.first_column + j));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) near_pull_kernel(Pairs<T> pairs, Strip strip, NearPull<T> io) {
  const bool by_query = io.owner == Owner::query;
  const int64_t owners = (by_query ? strip.rows : strip.columns) - io.first_owner;
  const int64_t own = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (own >= owners) return;
  Pull<T> pull{pairs, static_cast<int64_t>(blockIdx.y) * 32 * kFeatures, {}};
  if (by_query) pull_row(strip, io, io.first_owner + own, pull);
  else pull_column(strip, io, io.first_owner + own, pull);
#pragma unroll
  for (int f = 0; f < kFeatures; ++f) {
    const int64_t k = pull.first + 32 * f + threadIdx.x % 32;
    if (k < pairs.width && pull.sums[f] != T(0)) io.sums[own * pairs.width + k] += pull.sums[f];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) clear_near_kernel(Strip strip, T* values, Near near) {
  if (near.tiles[static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] == 0) return;
  const int64_t words = near_words<T>(strip.columns), row = static_cast<int64_t>(blockIdx.y) * kTile<T>;
  for (int at = static_cast<int>(threadIdx.x); at < kTile<T> * kTile<T>; at += kThreads) {
    const int64_t i = row + at / kTile<T>, j = static_cast<int64_t>(blockIdx.x) * kTile<T> + at % kTile<T>;
    if (i < strip.rows && j < strip.columns && (near.bits[i * words + j / 32] >> (j % 32) & 1))
      values[i * strip.stride + j] = T(0);
  }
}

}  // namespace

template <class T>
void near_pull(const Pairs<T>& pairs, const Strip& strip, const NearPull<T>& io, Stream stream) {
  const int64_t owners = (io.owner == Owner::query ? strip.rows : strip.columns) - io.first_owner;
  if (owners <= 0 || strip.rows == 0 || strip.columns == 0) return;
  const dim3 grid(static_cast<unsigned>(tiles_of(owners, kWarps)),
                  static_cast<unsigned>(tiles_of(pairs.width, 32 * kFeatures)));
  launch(near_pull_kernel<T>, grid, dim3(kThreads), 0, stream, pairs, strip, io);
}
template <class T>
void clear_near(const Strip& strip, T* values, const Near& near, Stream stream) {
  if (strip.rows == 0 || strip.columns == 0) return;
  launch(clear_near_kernel<T>, strip_grid<T>(strip), dim3(kThreads), 0, stream, strip, values, near);
}
template void near_pull(const Pairs<float>&, const Strip&, const NearPull<float>&, Stream);
template void near_pull(const Pairs<double>&, const Strip&, const NearPull<double>&, Stream);
template void clear_near(const Strip&, float*, const Near&, Stream);
template void clear_near(const Strip&, double*, const Near&, Stream);

}  // namespace fused_rank::cuda
