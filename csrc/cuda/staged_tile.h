// A tile on its way from the registers of the product to threads that own whole rows or columns.
//
// Terms are folded and sloped by rolled loops over shared memory, some rows of the tile at a time: that takes few registers, no
// shuffle for each element and little code, whatever the term. The pitch lets kPerRow threads a row read without bank conflicts.
#pragma once

#include "distance_tile.h"

namespace fused_rank::cuda {

template <class T>
inline constexpr int kStagedRows = sizeof(T) == 4 ? 64 : 32;
template <class T>
inline constexpr int kParts = kTile<T> / kStagedRows<T>;  // of a tile
template <class T>
inline constexpr int kPerRow = kThreads / kStagedRows<T>;  // threads that share a row
template <class T>
inline constexpr int kPerColumn = kThreads / kTile<T>;
template <class T>
inline constexpr int kPitch = kTile<T> + kPerRow<T>;

// Rows [part * kStagedRows, ...) of a tile, in the memory that staged the product.
template <class T>
FR_DEVICE void put_part(const Tile<T>& tile, int part, T* stage) {
  static_assert(kStagedRows<T> * kPitch<T> <= kStage<T>);
  constexpr int kShare = kMicro<T> / kParts<T>;  // elements of a thread that lie in one part
#pragma unroll
  for (int r = 0; r < kMicro<T>; ++r) {
    if (r / kShare != part) continue;
#pragma unroll
    for (int c = 0; c < kMicro<T>; ++c)
      stage[(row_in_tile<T>(r) - part * kStagedRows<T>)*kPitch<T> + column_in_tile<T>(c)] = tile[r][c];
  }
}

}  // namespace fused_rank::cuda
