#include "histogram.h"

#include "rank_table.h"

namespace fused_rank {

template <class T>
void distance_histogram(const PairInput& input, const std::vector<double>& edges, int64_t* counts,
                        Workers& workers) {
  const std::vector<T> rounded(edges.begin(), edges.end());
  const int64_t bins = static_cast<int64_t>(edges.size()) + 1;
  RankTable<T> table;
  table.assign(rounded, 32);
  PairMatrix<T> matrix(input, workers);
  auto scratch = matrix.make_scratch(input.metric);
  std::vector<std::vector<int64_t>> found(workers.count(), std::vector<int64_t>(2 * bins, 0));
  matrix.walk(
      [&](int64_t I, int64_t J, int worker) {
        DistanceTile<T>& t = scratch[worker].tile;
        t.compute(I, J);
        int64_t* positive = found[worker].data();
        int64_t* negative = positive + bins;
        for (int i = 0; i < t.rows(); ++i) {
          const T* d = t.row(i);
          const TilePositives p = matrix.positives(I, i, J, t.cols());
          const int start = input.self() && I == J ? i + 1 : 0;
          const int begin = std::clamp(p.begin, start, t.cols()), end = std::clamp(p.end, begin, t.cols());
          for (int j = start; j < begin; ++j) ++negative[table.below(d[j])];
          for (int j = begin; j < end; ++j) ++positive[table.below(d[j])];
          for (int j = end; j < t.cols(); ++j) ++negative[table.below(d[j])];
        }
      },
      false);
  std::fill(counts, counts + 2 * bins, int64_t{0});
  for (const std::vector<int64_t>& own : found)
    for (int64_t b = 0; b < 2 * bins; ++b) counts[b] += own[b];
}

template void distance_histogram<float>(const PairInput&, const std::vector<double>&, int64_t*, Workers&);
template void distance_histogram<double>(const PairInput&, const std::vector<double>&, int64_t*, Workers&);

}  // namespace fused_rank
