// A strip of distances in memory, for the sweeps that rank whole rows.
#include "strip.h"

namespace fused_rank::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) distances_kernel(Pairs<T> pairs, Strip strip, Distances<T> io) {
  FR_SHARED(T[kStage<T>], stage);
  FR_SHARED(Place, place);
  const StripTile<T> at(pairs, strip, place);
  Tile<T> tile;
  const uint64_t close = squared_distances(pairs, at.place, stage, tile);
  if (io.near.tiles) at.mark_near(strip, io.near, close);
  if (!io.square) to_metric(pairs.metric, tile);
  if (io.hide)
    hide_lost(pairs, at.place, static_cast<T>(pairs.metric == Metric::dot ? -INFINITY : INFINITY), tile);
#pragma unroll
  for (int r = 0; r < kMicro<T>; ++r)
#pragma unroll
    for (int c = 0; c < kMicro<T>; ++c) {
      const int i = row_in_tile<T>(r), j = column_in_tile<T>(c);
      if (i < at.place.rows && j < at.place.columns) io.values[at.entry(strip, i, j)] = tile[r][c];
    }
}

}  // namespace

template <class T>
void distances(const Pairs<T>& pairs, const Strip& strip, const Distances<T>& io, Stream stream) {
  if (strip.rows == 0 || strip.columns == 0) return;
  launch(distances_kernel<T>, strip_grid<T>(strip), dim3(kThreads), 0, stream, pairs, strip, io);
}
template void distances(const Pairs<float>&, const Strip&, const Distances<float>&, Stream);
template void distances(const Pairs<double>&, const Strip&, const Distances<double>&, Stream);

}  // namespace fused_rank::cuda
