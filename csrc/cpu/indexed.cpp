#include "indexed.h"

#include <cmath>
#include <numeric>

namespace fused_rank {

void describe(Embeddings& out, const Source& source, bool unit_rows, Workers& workers) {
  out.source = source;
  out.order.resize(source.rows);
  std::iota(out.order.begin(), out.order.end(), 0);
  out.rows = describe_rows(source, out.order, unit_rows, workers);
}

template <class T>
void indexed_distance(const Embeddings& query, const Embeddings& gallery, const int64_t* i, const int64_t* j,
                      int64_t count, Metric metric, T* out, Workers& workers) {
  const int64_t width = query.source.width;
  workers.for_ranges(count, 256, [&](int64_t begin, int64_t end) {
    std::vector<double> a(width), b(width);
    int64_t held = -1;
    for (int64_t l = begin; l < end; ++l) {
      const int64_t row = i ? i[l] : l;
      if (row != held) query.rows.read(held = row, a.data());
      gallery.rows.read(j ? j[l] : l, b.data());
      out[l] = static_cast<T>(metric_of_square(metric, squared_difference(a.data(), b.data(), width)));
    }
  });
}

namespace {

// For each row, the edges it is an end of, in order.
struct Incidence {
  std::vector<int64_t> start;
  std::vector<int64_t> edge;  // 2 * edge + (1 if the row is the gallery end)
};

Incidence incidence(const std::vector<Edge>& edges, int64_t rows, bool queries, bool galleries) {
  Incidence in;
  in.start.assign(rows + 1, 0);
  for (const Edge& e : edges) {
    if (queries) ++in.start[e.query + 1];
    if (galleries) ++in.start[e.gallery + 1];
  }
  std::partial_sum(in.start.begin(), in.start.end(), in.start.begin());
  in.edge.resize(in.start[rows]);
  std::vector<int64_t> next(in.start.begin(), in.start.end() - 1);
  for (size_t l = 0; l < edges.size(); ++l) {
    if (queries) in.edge[next[edges[l].query]++] = static_cast<int64_t>(2 * l);
    if (galleries) in.edge[next[edges[l].gallery]++] = static_cast<int64_t>(2 * l + 1);
  }
  return in;
}

void sum_rows(const Embeddings& own, const Embeddings& query, const Embeddings& gallery,
              const std::vector<Edge>& edges, const Incidence& in, bool unit_rows, void* out,
              Workers& workers) {
  const int64_t width = own.source.width;
  workers.for_ranges(own.source.rows, 64, [&](int64_t begin, int64_t end) {
    std::vector<double> x(width), y(width), g(width);
    for (int64_t r = begin; r < end; ++r) {
      std::fill(g.begin(), g.end(), 0.0);
      if (in.start[r] < in.start[r + 1]) own.rows.read(r, x.data());
      for (int64_t l = in.start[r]; l < in.start[r + 1]; ++l) {
        const Edge& e = edges[in.edge[l] / 2];
        const bool gallery_end = in.edge[l] % 2;
        (gallery_end ? query.rows.read(e.query, y.data()) : gallery.rows.read(e.gallery, y.data()));
        for (int64_t k = 0; k < width; ++k) g[k] += e.coefficient * (x[k] - y[k]);
      }
      if (unit_rows && in.start[r] < in.start[r + 1]) through_normalization(own.rows, r, g.data(), y.data());
      narrow(g.data(), width, own.source.dtype, out, r);
    }
  });
}

}  // namespace

void edge_gradient(const Embeddings& query, const Embeddings& gallery, bool self, bool unit_rows,
                   const std::vector<Edge>& edges, void* grad_query, void* grad_gallery, Workers& workers) {
  if (grad_query) {
    const Incidence in = incidence(edges, query.source.rows, true, self);
    sum_rows(query, query, gallery, edges, in, unit_rows, grad_query, workers);
  }
  if (grad_gallery) {
    const Incidence in = incidence(edges, gallery.source.rows, false, true);
    sum_rows(gallery, query, gallery, edges, in, unit_rows, grad_gallery, workers);
  }
}

template void indexed_distance<float>(const Embeddings&, const Embeddings&, const int64_t*, const int64_t*,
                                      int64_t, Metric, float*, Workers&);
template void indexed_distance<double>(const Embeddings&, const Embeddings&, const int64_t*, const int64_t*,
                                       int64_t, Metric, double*, Workers&);

}  // namespace fused_rank
