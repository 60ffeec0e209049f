// Tiles of a strip, and the record of its close pairs.
#pragma once

#include "distance_tile.h"

namespace fused_rank::cuda {

// One block for each tile: columns along x.
template <class T>
dim3 strip_grid(const Strip& strip) {
  return dim3(static_cast<unsigned>(tiles_of(strip.columns, kTile<T>)),
              static_cast<unsigned>(tiles_of(strip.rows, kTile<T>)));
}

// The tile of the strip that a block of that grid owns. `place`, its place in the pair matrix, is in shared memory: registers are
// for the product.
template <class T>
struct StripTile {
  Place& place;

  FR_DEVICE static int row_tile() { return static_cast<int>(blockIdx.y); }  // within the strip
  FR_DEVICE static int column_tile() { return static_cast<int>(blockIdx.x); }

  // All threads of the block.
  FR_DEVICE StripTile(const Pairs<T>& pairs, const Strip& strip, Place& shared) : place(shared) {
    if (threadIdx.x == 0) {
      place = place_of(pairs, static_cast<int>(strip.first / kTile<T>) + row_tile(),
                       static_cast<int>(strip.first_column / kTile<T>) + column_tile());
      const int rows = static_cast<int>(strip.rows) - row_tile() * kTile<T>;
      const int columns = static_cast<int>(strip.columns) - column_tile() * kTile<T>;
      if (place.rows > rows) place.rows = rows;
      if (place.columns > columns) place.columns = columns;
    }
    __syncthreads();
  }

  // Where the strip keeps entry (i, j) of the tile.
  FR_DEVICE int64_t entry(const Strip& strip, int i, int j) const {
    return static_cast<int64_t>(row_tile() * kTile<T> + i) * strip.stride + column_tile() * kTile<T> + j;
  }
  FR_DEVICE int64_t tile_in_strip() const {
    return static_cast<int64_t>(row_tile()) * gridDim.x + column_tile();
  }
  // Its place in a map of the whole pair matrix.
  FR_DEVICE int64_t tile_in_matrix(const Pairs<T>& pairs) const {
    return static_cast<int64_t>(place.row / kTile<T>) * tiles_of(pairs.gallery.size, kTile<T>) +
           place.column / kTile<T>;
  }

  // Records which pairs are close. All threads of the block.
  FR_DEVICE void mark_near(const Strip& strip, const Near& near, uint64_t close) const {
    const bool any = __syncthreads_or(close != 0) != 0;
    if (threadIdx.x == 0) near.tiles[tile_in_strip()] = any;
    if (!any) return;
    // A ballot holds 16 columns of two rows; two of them make a word of either row.
    const int64_t words = near_words<T>(strip.columns);
#pragma unroll 1
    for (int r = 0; r < kMicro<T>; ++r)
#pragma unroll 1
      for (int c = 0; c < kMicro<T>; c += 2) {
        const int bit = r * kMicro<T> + c;
        const unsigned low = __ballot_sync(kWarp, close >> bit & 1),
                       high = __ballot_sync(kWarp, close >> (bit + 1) & 1);
        const int odd = thread_y() % 2, i = row_in_tile<T>(r);
        const unsigned word = (low >> (16 * odd) & 0xffffu) | (high >> (16 * odd) & 0xffffu) << 16;
        if (thread_x() == 0 && i < place.rows)
          near.bits[static_cast<int64_t>(row_tile() * kTile<T> + i) * words +
                    column_tile() * (kTile<T> / 32) + c / 2] = word;
      }
  }
};

}  // namespace fused_rank::cuda
