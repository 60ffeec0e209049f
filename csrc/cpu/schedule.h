// Which tile when. Tiles are listed in rounds in which no row block and no column block occurs twice, and each knows how many
// listed tiles come before it at either of its blocks: it starts when those are done. So whoever runs a tile writes to its rows
// and its columns without a lock, every block is written in the order of the list, and nobody waits at the end of a round.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "parallel.h"

namespace fused_rank {

// Blocks that several tasks write to, each block in the order of the tasks' turns there.
class Turns {
 public:
  explicit Turns(int64_t blocks) : done_(blocks) {}

  // Waits for the turn; false if it will never come.
  bool reached(int64_t block, int32_t turn) const {
    for (int tries = 0; done_[block].load(std::memory_order_acquire) != turn; ++tries) {
      if (failed_) return false;
      if (tries > 256) std::this_thread::yield();
    }
    return true;
  }
  void finish(int64_t block, int32_t turn) { done_[block].store(turn + 1, std::memory_order_release); }
  // f(), whose failure ends everybody's waiting.
  template <class F>
  void guard(F&& f) {
    try {
      f();
    } catch (...) {
      failed_ = true;
      throw;
    }
  }

 private:
  std::vector<std::atomic<int32_t>> done_;
  std::atomic<bool> failed_{false};
};

class Schedule {
 public:
  // The upper triangle of a self form: the diagonal, then a round-robin tournament (circle method) of the blocks.
  static Schedule triangle(int64_t blocks) {
    Schedule s(blocks, 0);
    for (int64_t b = 0; b < blocks; ++b) s.list(b, b);
    const int64_t players = blocks + blocks % 2, wheel = players - 1;  // with an odd number one block rests
    for (int64_t round = 0; round < wheel; ++round) {
      for (int64_t pair = 0; pair < players / 2; ++pair) {
        const int64_t a = pair == 0 ? wheel : (round + pair) % wheel;
        const int64_t b = pair == 0 ? round : (round + wheel - pair) % wheel;
        if (a < blocks && b < blocks) s.list(a < b ? a : b, a < b ? b : a);
      }
    }
    return s;
  }

  // A rectangle whose tiles write to rows and columns: shifted diagonals.
  static Schedule rectangle(int64_t row_blocks, int64_t col_blocks) {
    Schedule s(row_blocks + col_blocks, row_blocks);
    const int64_t size = row_blocks > col_blocks ? row_blocks : col_blocks;
    for (int64_t round = 0; round < size; ++round)
      for (int64_t i = 0; i < row_blocks; ++i)
        if ((i + round) % size < col_blocks) s.list(i, (i + round) % size);
    return s;
  }

  // tile(I, J, worker) for every listed tile. Tasks are drawn in the order of the list, so the first that is not done can run.
  template <class F>
  void run(Workers& workers, F&& tile) const {
    Turns turns(static_cast<int64_t>(listed_.size()));
    workers.for_each(static_cast<int64_t>(tiles_.size()), [&](int64_t t, int worker) {
      const Tile& at = tiles_[t];
      const int64_t row = at.row, col = first_col_ + at.col;
      if (!turns.reached(row, at.row_turn) || !turns.reached(col, at.col_turn)) return;
      turns.guard([&] { tile(at.row, at.col, worker); });
      turns.finish(row, at.row_turn);
      if (col != row) turns.finish(col, at.col_turn);
    });
  }

 private:
  struct Tile {
    int32_t row, col;
    int32_t row_turn, col_turn;  // how many tiles come before it there
  };

  Schedule(int64_t blocks, int64_t first_col) : first_col_(first_col), listed_(blocks, 0) {}

  void list(int64_t row, int64_t col) {
    int32_t &at_row = listed_[row], &at_col = listed_[first_col_ + col];
    tiles_.push_back({static_cast<int32_t>(row), static_cast<int32_t>(col), at_row, at_col});
    ++at_row;
    if (&at_col != &at_row) ++at_col;
  }

  int64_t first_col_;            // columns of a self form are its rows
  std::vector<int32_t> listed_;  // tiles so far, by block
  std::vector<Tile> tiles_;
};

// A rectangle whose tiles write to rows only: each row block has one owner and no order is needed.
template <class F>
void for_each_row_tile(Workers& workers, int64_t row_blocks, int64_t col_blocks, F&& tile) {
  workers.for_each(row_blocks, [&](int64_t i, int worker) {
    for (int64_t j = 0; j < col_blocks; ++j) tile(i, j, worker);
  });
}

}  // namespace fused_rank
