// A strip's coefficients times the rows at their other ends, passing over tiles that are not live.
//
// The tile product again, with another depth: the other ends. For the query's sums coefficients lie along that depth, for the
// gallery's across it; rows of features always across. A block has a tile of [owners][features] and every `parts`-th tile of the
// depth; partial sums are added up in order by the caller.
#include "distance_tile.h"

namespace fused_rank::cuda {
namespace {

// Tiles of a strip, seen from the side that owns the sums.
template <class T>
struct OwnerView {
  const uint8_t* live;
  int64_t matrix_columns;           // tiles
  int64_t first_row, first_column;  // tiles, of the strip in the matrix
  bool by_query;

  FR_DEVICE OwnerView(const Pairs<T>& pairs, const Strip& strip, const Product<T>& io)
      : live(io.live), matrix_columns(tiles_of(pairs.gallery.size, kTile<T>)),
        first_row(strip.first / kTile<T>), first_column(strip.first_column / kTile<T>),
        by_query(io.owner == Owner::query) {}

  FR_DEVICE bool is_live(int64_t owner, int64_t other) const {
    if (!live) return true;
    const int64_t row = first_row + (by_query ? owner : other),
                  column = first_column + (by_query ? other : owner);
    return live[row * matrix_columns + column] != 0;
  }
};

// The slabs of every parts-th tile of others that is live.
template <class T>
struct LiveSlabs {
  const OwnerView<T>& view;
  int64_t owner;
  int depth, part, parts;

  FR_DEVICE int after(int k) const {
    k += kDepth<T>;
    if (k > 0 && k % kTile<T> != 0) return k;
    int other = k <= 0 ? part : k / kTile<T> - 1 + parts;
    while (other * kTile<T> < depth && !view.is_live(owner, other)) other += parts;
    return other * kTile<T>;
  }
};

template <class T, Along along>
__global__ void __launch_bounds__(kThreads, 2) product_kernel(Pairs<T> pairs, Strip strip, Product<T> io) {
  FR_SHARED(T[kStage<T>], stage);
  constexpr bool kByQuery = along == Along::depth;
  const OwnerView<T> view(pairs, strip, io);
  const int owner = static_cast<int>(blockIdx.y) * kTile<T>,
            feature = static_cast<int>(blockIdx.x) * kTile<T>;
  const int64_t owners = (kByQuery ? strip.rows : strip.columns) - io.first_owner;
  const int depth = static_cast<int>(kByQuery ? strip.columns : strip.rows);
  const int rows = static_cast<int>(owners) - owner, width = static_cast<int>(pairs.width) - feature;
  const T* others = kByQuery ? pairs.gallery.rows + strip.first_column * pairs.width
                             : pairs.query.rows + strip.first * pairs.width;
  const int64_t first = io.first_owner + owner;
  const Source<T, along> c{io.values + (kByQuery ? first * strip.stride : first), strip.stride, rows, depth};
  const Source<T, Along::rows> y{others + feature, pairs.width, width, depth};
  const LiveSlabs<T> slabs{view, first / kTile<T>, depth, static_cast<int>(blockIdx.z), io.parts};
  Tile<T> sums;
  clear(sums);
  multiply(c, y, slabs, stage, sums);
  T* out = io.sums + blockIdx.z * owners * pairs.width;
  constexpr int V = kVector<T>;
#pragma unroll
  for (int r = 0; r < kMicro<T>; ++r)
#pragma unroll
    for (int g = 0; g < kMicro<T>; g += V) {
      const int i = element<T, along>(thread_y(), r), k = element<T, Along::rows>(thread_x(), g);
      if (i >= rows || k >= width) continue;
      Vector<T> line;
#pragma unroll
      for (int v = 0; v < V; ++v) line.v[v] = sums[r][g + v];
      *reinterpret_cast<Vector<T>*>(out + (owner + i) * pairs.width + feature + k) = line;
    }
}

inline constexpr int kMostCentres = 16;

// Sums of coefficients for each owner, apart for each centre of the other ends. Blocks of 32 owners: by_query a warp takes one owner
// after another, with lanes along its row; else lanes are owners and warps share the rows.
template <class T>
__global__ void __launch_bounds__(kThreads) mass_kernel(Pairs<T> pairs, Strip strip, Product<T> io) {
  constexpr int kWarps = kThreads / 32;
  using Partial = T[kWarps][32];
  FR_SHARED(Partial, partial);
  const OwnerView<T> view(pairs, strip, io);
  const bool by_query = io.owner == Owner::query;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int64_t owners = (by_query ? strip.rows : strip.columns) - io.first_owner;
  const int64_t others = by_query ? strip.columns : strip.rows;
  const uint8_t* centre = by_query ? pairs.gallery.centre : pairs.query.centre;
  const int64_t first_other = by_query ? strip.first_column : strip.first;
  for (int turn = 0; turn < (by_query ? 32 / kWarps : 1); ++turn) {
    const int64_t own = blockIdx.x * 32 + (by_query ? turn * kWarps + warp : lane), at = io.first_owner + own;
    T mass[kMostCentres] = {};
    for (int64_t tile = 0; own < owners && tile * kTile<T> < others; ++tile) {
      if (!view.is_live(at / kTile<T>, tile)) continue;
      const int64_t end = (tile + 1) * kTile<T> < others ? (tile + 1) * kTile<T> : others;
      for (int64_t o = tile * kTile<T> + (by_query ? lane : warp); o < end; o += by_query ? 32 : kWarps) {
        const T c = io.values[by_query ? at * strip.stride + o : o * strip.stride + at];
        if (!centre) {  // there is one: no choice among kMostCentres for each coefficient
          mass[0] += c;
          continue;
        }
        const int which = centre[first_other + o];
#pragma unroll
        for (int e = 0; e < kMostCentres; ++e) mass[e] += e == which ? c : T(0);
      }
    }
#pragma unroll
    for (int e = 0; e < kMostCentres; ++e) {
      if (e >= pairs.centres) break;
      if (by_query) {
        const T total = warp_sum(mass[e]);
        if (lane == 0 && own < owners) io.mass[e * owners + own] = total;
        continue;
      }
      __syncthreads();
      partial[warp][lane] = mass[e];
      __syncthreads();
      if (warp != 0 || own >= owners) continue;
      T total = T(0);
      for (int w = 0; w < kWarps; ++w) total += partial[w][lane];
      io.mass[e * owners + own] = total;
    }
  }
}

}  // namespace

int product_parts(int64_t owners, int64_t others, int64_t width) {
  constexpr int64_t kEnough = 512,
                    kMost = 8;  // blocks that fill a large device twice; partial sums cost memory
  const int64_t blocks = tiles_of(owners, 128) * tiles_of(width, 128), tiles = tiles_of(others, 128);
  int64_t parts = blocks == 0 ? 1 : kEnough / blocks;
  parts = parts < tiles / 4 ? parts : tiles / 4;  // each has some depth to work on
  return static_cast<int>(parts < 1 ? 1 : parts < kMost ? parts : kMost);
}

template <class T>
void product(const Pairs<T>& pairs, const Strip& strip, const Product<T>& io, Stream stream) {
  const bool by_query = io.owner == Owner::query;
  const int64_t owners = (by_query ? strip.rows : strip.columns) - io.first_owner;
  if (owners <= 0) return;
  const dim3 grid(static_cast<unsigned>(tiles_of(pairs.width, kTile<T>)),
                  static_cast<unsigned>(tiles_of(owners, kTile<T>)), static_cast<unsigned>(io.parts));
  launch(by_query ? product_kernel<T, Along::depth> : product_kernel<T, Along::rows>, grid, dim3(kThreads), 0,
         stream, pairs, strip, io);
  if (io.mass)
    launch(mass_kernel<T>, dim3(static_cast<unsigned>(tiles_of(owners, 32))), dim3(kThreads), 0, stream,
           pairs, strip, io);
}
template void product(const Pairs<float>&, const Strip&, const Product<float>&, Stream);
template void product(const Pairs<double>&, const Strip&, const Product<double>&, Stream);

}  // namespace fused_rank::cuda
