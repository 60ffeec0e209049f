// Which tiles of a strip hold a coefficient that is not zero: products pass over the others. Once a hinge is satisfied by most
// triplets, many tiles have none.
#include "device.h"
#include "kernels.h"

namespace fused_rank::cuda {

namespace {

constexpr int kScanThreads = 256;

// A block for each tile: columns along x.
template <class T>
__global__ __launch_bounds__(kScanThreads) void live_tiles_kernel(Strip strip, LiveTiles<T> io) {
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kTile<T>,
                column = static_cast<int64_t>(blockIdx.x) * kTile<T>;
  bool any = false;
  for (int e = threadIdx.x; e < kTile<T> * kTile<T>; e += kScanThreads) {
    const int64_t i = row + e / kTile<T>, j = column + e % kTile<T>;
    if (i < strip.rows && j < strip.columns) any |= io.values[i * strip.stride + j] != T(0);
  }
  any = __syncthreads_or(any) != 0;
  if (threadIdx.x == 0) io.live[(strip.first / kTile<T> + blockIdx.y) * gridDim.x + blockIdx.x] = any;
}

}  // namespace

template <class T>
void live_tiles(const Strip& strip, const LiveTiles<T>& io, Stream stream) {
  if (strip.rows == 0 || strip.columns == 0) return;
  const dim3 grid(static_cast<unsigned>(tiles_of(strip.columns, kTile<T>)),
                  static_cast<unsigned>(tiles_of(strip.rows, kTile<T>)));
  launch(live_tiles_kernel<T>, grid, dim3(kScanThreads), 0, stream, strip, io);
}

template void live_tiles<float>(const Strip&, const LiveTiles<float>&, Stream);
template void live_tiles<double>(const Strip&, const LiveTiles<double>&, Stream);

}  // namespace fused_rank::cuda
