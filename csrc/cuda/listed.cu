// Listed pairs: squared distances by direct difference, and the gradients of few pairs, row by row in the order of the list. All in
// double: O(pairs · D) work and no product, so it costs little, and no digit is lost between near-duplicates.
#include "kernels.h"
#include "warp_sums.h"

namespace fused_rank::cuda {

namespace {

constexpr int kListThreads = 128;
constexpr int kAtATime = kListThreads / 32;  // pairs or rows of a block: a warp for each

FR_DEVICE int64_t item_of_warp() { return static_cast<int64_t>(blockIdx.x) * kAtATime + warp_of_block(); }

__global__ __launch_bounds__(kListThreads) void listed_squares_kernel(Listed io) {
  const int64_t pair = item_of_warp();
  if (pair >= io.pairs) return;
  const double *x = io.x + io.i[pair] * io.width, *y = io.y + io.j[pair] * io.width;
  double square = 0.0;
  for (int64_t k = lane_of_warp(); k < io.width; k += 32) {
    const double difference = x[k] - y[k];
    square = multiply_add(difference, difference, square);
  }
  square = sum_of_warp(square);
  if (lane_of_warp() == 0) io.squares[pair] = square;
}

__global__ __launch_bounds__(kListThreads) void edge_sums_kernel(EdgeSums io) {
  const int64_t row = item_of_warp();
  if (row >= io.rows) return;
  const int64_t begin = io.start[row], end = io.start[row + 1];
  if (begin == end) return;
  for (int64_t k = lane_of_warp(); k < io.width; k += 32) {
    const double x = io.x[row * io.width + k];
    double total = io.total[row * io.width + k];
    for (int64_t edge = begin; edge < end; ++edge)
      total = multiply_add(io.coefficient[edge], x - io.y[io.other[edge] * io.width + k], total);
    io.total[row * io.width + k] = total;
  }
}

dim3 grid_of(int64_t items) { return dim3(static_cast<unsigned>((items + kAtATime - 1) / kAtATime)); }

}  // namespace

void listed_squares(const Listed& io, Stream stream) {
  if (io.pairs > 0) launch(listed_squares_kernel, grid_of(io.pairs), dim3(kListThreads), 0, stream, io);
}

void edge_sums(const EdgeSums& io, Stream stream) {
  if (io.rows > 0) launch(edge_sums_kernel, grid_of(io.rows), dim3(kListThreads), 0, stream, io);
}

}  // namespace fused_rank::cuda
