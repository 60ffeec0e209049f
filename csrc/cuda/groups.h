// How the statistics sweep is shared out: tiles in groups, and a block for each pair of groups.
//
// The block of groups (a, b) walks their tiles and is the only writer of two slots: what a's rows get from b, and what b's columns
// get from a. Slots are merged afterwards in a fixed order: no atomics, the same bits every time, and memory of O(groups * rows).
#pragma once

#include "kernels.h"

namespace fused_rank::cuda {

struct Groups {
  int row_tiles, column_tiles;            // of the pair matrix
  int rows_per_group, columns_per_group;  // tiles
  int row_groups, column_groups;
  bool self, symmetric;

  bool folds_columns() const { return self || symmetric; }
  // In self form the groups of rows and columns are one, and a pair (a, b) serves both ways.
  int64_t blocks() const {
    return self ? static_cast<int64_t>(row_groups) * (row_groups + 1) / 2
                : static_cast<int64_t>(row_groups) * column_groups;
  }
};

template <class T>
Groups make_groups(int64_t queries, int64_t gallery, bool self, bool symmetric) {
  constexpr int kMost = 32, kEnough = 512;  // slots of a row; blocks that fill a large device some times over
  const auto divide = [](int a, int b) { return b == 0 ? 0 : (a + b - 1) / b; };
  const auto at_least_one = [](int a) { return a < 1 ? 1 : a; };
  Groups g{};
  g.self = self;
  g.symmetric = symmetric;
  g.row_tiles = static_cast<int>(tiles_of(queries, kTile<T>));
  g.column_tiles = static_cast<int>(tiles_of(gallery, kTile<T>));
  if (g.folds_columns()) {
    g.rows_per_group = at_least_one(divide(g.row_tiles, kMost));
    g.columns_per_group = at_least_one(divide(g.column_tiles, kMost));
  } else {
    const int wanted = divide(kEnough, at_least_one(g.row_tiles));
    g.rows_per_group = 1;
    g.columns_per_group = at_least_one(divide(g.column_tiles, wanted < kMost ? wanted : kMost));
  }
  g.row_groups = divide(g.row_tiles, g.rows_per_group);
  g.column_groups = divide(g.column_tiles, g.columns_per_group);
  return g;
}

}  // namespace fused_rank::cuda
