// Every kernel, and every number that a host must ask for before it calls one, by name. A new entry point of kernels.h gets
// its line here and its function in `calls_*.cu`.
#pragma once

#include <vector>

#include "calls.h"

namespace fused_rank {

namespace calls {
void statistics(const Arguments& a, Stream stream);
void scales(const Arguments& a, Stream stream);
void distances(const Arguments& a, Stream stream);
void coefficients(const Arguments& a, Stream stream);
void product(const Arguments& a, Stream stream);
void near_pull(const Arguments& a, Stream stream);
void clear_near(const Arguments& a, Stream stream);
void hard(const Arguments& a, Stream stream);
void topk(const Arguments& a, Stream stream);
void semihard(const Arguments& a, Stream stream);
void every_triplet(const Arguments& a, Stream stream);
void every_triplet_slopes(const Arguments& a, Stream stream);
void live_tiles(const Arguments& a, Stream stream);
void listed_squares(const Arguments& a, Stream stream);
void edge_sums(const Arguments& a, Stream stream);

std::vector<int64_t> tile(const Arguments& a);
std::vector<int64_t> term_layout(const Arguments& a);
std::vector<int64_t> statistics_workspace(const Arguments& a);
std::vector<int64_t> product_parts(const Arguments& a);
std::vector<int64_t> hard_workspace(const Arguments& a);
}  // namespace calls

struct Entry {
  const char* name;
  void (*run)(const Arguments&, Stream);
};
inline constexpr Entry kEntries[] = {
    {"statistics", calls::statistics},
    {"scales", calls::scales},
    {"distances", calls::distances},
    {"coefficients", calls::coefficients},
    {"product", calls::product},
    {"near_pull", calls::near_pull},
    {"clear_near", calls::clear_near},
    {"hard", calls::hard},
    {"topk", calls::topk},
    {"semihard", calls::semihard},
    {"every_triplet", calls::every_triplet},
    {"every_triplet_slopes", calls::every_triplet_slopes},
    {"live_tiles", calls::live_tiles},
    {"listed_squares", calls::listed_squares},
    {"edge_sums", calls::edge_sums},
};

// Numbers that depend on shapes and terms. The first of the sizes is the width of an element in bytes: 4 or 8.
struct Question {
  const char* name;
  std::vector<int64_t> (*answer)(const Arguments&);
};
inline constexpr Question kQuestions[] = {
    {"tile", calls::tile},
    {"term_layout", calls::term_layout},
    {"statistics_workspace", calls::statistics_workspace},
    {"product_parts", calls::product_parts},
    {"hard_workspace", calls::hard_workspace},
};

}  // namespace fused_rank
