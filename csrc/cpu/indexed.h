// Distances of listed pairs, by direct difference in double, and gradients of losses that involve few pairs.
#pragma once

#include <vector>

#include "pair_matrix.h"

namespace fused_rank {

// One listed pair: query row i, gallery row j (original rows).
struct Edge {
  int32_t query, gallery;
  double coefficient;  // d loss / d distance * edge_factor
};

// Rows as they stand, without any order: what listed pairs index.
struct Embeddings {
  Source source;
  std::vector<int32_t> order;
  Rows rows;
};
void describe(Embeddings& out, const Source& source, bool unit_rows, Workers& workers);

// distance(l) = metric(query row i[l], gallery row j[l]) for all l; a null index list means row by row.
template <class T>
void indexed_distance(const Embeddings& query, const Embeddings& gallery, const int64_t* i, const int64_t* j,
                      int64_t count, Metric metric, T* out, Workers& workers);

// Gradients of sum over edges of the losses whose slopes they carry. In self form both ends belong to the query rows.
// Every row sums its own edges in the order given, so the result does not depend on threads.
void edge_gradient(const Embeddings& query, const Embeddings& gallery, bool self, bool unit_rows,
                   const std::vector<Edge>& edges, void* grad_query, void* grad_gallery, Workers& workers);

}  // namespace fused_rank
