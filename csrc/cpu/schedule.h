// Which tile when. A round is a set of tiles in which no row block and no column block occurs twice, so whoever
// runs a tile may write to its rows and its columns without a lock, and every block is written in the same order each time.
#pragma once

#include <cstdint>

#include "parallel.h"

namespace fused_rank {

// The upper triangle of a self form: the diagonal, then a round-robin tournament (circle method) of the blocks.
template <class F>
void for_each_triangle_tile(Workers& workers, int64_t blocks, F&& tile) {
  workers.for_each(blocks, [&](int64_t b, int worker) { tile(b, b, worker); });
  const int64_t players = blocks + blocks % 2;  // with an odd number one block rests in each round
  for (int64_t round = 0; round + 1 < players; ++round) {
    workers.for_each(players / 2, [&](int64_t pair, int worker) {
      const int64_t wheel = players - 1;
      const int64_t a = pair == 0 ? wheel : (round + pair) % wheel;
      const int64_t b = pair == 0 ? round : (round + wheel - pair) % wheel;
      if (a < blocks && b < blocks) tile(a < b ? a : b, a < b ? b : a, worker);
    });
  }
}

// A rectangle whose tiles write to rows and columns: shifted diagonals.
template <class F>
void for_each_rectangle_tile(Workers& workers, int64_t row_blocks, int64_t col_blocks, F&& tile) {
  const int64_t size = row_blocks > col_blocks ? row_blocks : col_blocks;
  for (int64_t round = 0; round < size; ++round) {
    workers.for_each(row_blocks, [&](int64_t i, int worker) {
      const int64_t j = (i + round) % size;
      if (j < col_blocks) tile(i, j, worker);
    });
  }
}

// A rectangle whose tiles write to rows only: each row block has one owner and no rounds are needed.
template <class F>
void for_each_row_tile(Workers& workers, int64_t row_blocks, int64_t col_blocks, F&& tile) {
  workers.for_each(row_blocks, [&](int64_t i, int worker) {
    for (int64_t j = 0; j < col_blocks; ++j) tile(i, j, worker);
  });
}

}  // namespace fused_rank
