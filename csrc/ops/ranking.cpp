// Operators that look at embeddings without a gradient: evaluation, sampling, statistics.
#include <cmath>

#include "../cpu/histogram.h"
#include "../cpu/partner.h"
#include "../cpu/rank_positives.h"
#include "../cpu/sampling.h"
#include "../cpu/triplet_counts.h"
#include "ops.h"
#include "tensors.h"

namespace fused_rank {

Tensor rank_positives(Tensor x, OptionalTensor labels, OptionalTensor gallery, OptionalTensor gallery_labels,
                      std::vector<int64_t> cutoffs, std::string metric, bool normalize) {
  const PairInput input = input_of(x, labels, gallery, gallery_labels, metric, normalize);
  for (const int64_t k : cutoffs) STD_TORCH_CHECK(k >= 1, "fused_rank: cutoffs must be positive, got ", k);
  const int64_t rows = kRankMeasures + 2 * static_cast<int64_t>(cutoffs.size());
  Tensor measures = empty({rows, x.size(0)}, ScalarType::Double);
  with_accumulation_type(x, [&]<class T>() {
    TorchWorkers workers;
    rank_positives<T>(input, cutoffs, data<double>(measures), workers);
  });
  return measures;
}

namespace {

template <class T>
const T* limits_of(const OptionalTensor& limits, const Tensor& x) {
  if (!limits.has_value()) return nullptr;
  STD_TORCH_CHECK(limits->is_cpu() && limits->is_contiguous() && limits->dim() == 1 &&
                      limits->size(0) == x.size(0) && limits->scalar_type() == accumulation_type(x),
                  "fused_rank: limits must be contiguous, one per query, in the accumulation dtype");
  return const_data<T>(*limits);
}

}  // namespace

std::tuple<Tensor, Tensor> find_partner(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                        OptionalTensor gallery_labels, bool positives, bool farthest,
                                        OptionalTensor above, OptionalTensor below, std::string metric,
                                        bool normalize) {
  const PairInput input = input_of(x, labels, gallery, gallery_labels, metric, normalize);
  Tensor values = empty({x.size(0)}, accumulation_type(x)), rows = empty({x.size(0)}, ScalarType::Long);
  with_accumulation_type(x, [&]<class T>() {
    TorchWorkers workers;
    find_partner<T>(input, {positives, farthest}, limits_of<T>(above, x), limits_of<T>(below, x),
                    data<T>(values), data<int64_t>(rows), workers);
  });
  return {rows, values};
}

Tensor sample_negatives(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                        OptionalTensor gallery_labels, Tensor draws, double cutoff, double limit) {
  const PairInput input = input_of(x, labels, gallery, gallery_labels, "euclidean", true);
  int64_t pairs = 0;
  for (int64_t i = 0; i < x.size(0); ++i) pairs += input.order.positive_count(i);
  STD_TORCH_CHECK(draws.is_cpu() && draws.is_contiguous() && draws.scalar_type() == ScalarType::Double &&
                      draws.numel() == pairs,
                  "fused_rank: draws must be contiguous float64, one for each of ", pairs,
                  " (anchor, positive) pairs");
  Tensor negatives = empty({pairs}, ScalarType::Long);
  with_accumulation_type(x, [&]<class T>() {
    TorchWorkers workers;
    sample_negatives<T>(input, const_data<double>(draws), cutoff, limit, data<int64_t>(negatives), workers);
  });
  return negatives;
}

Tensor triplet_counts(Tensor x, OptionalTensor labels, OptionalTensor gallery, OptionalTensor gallery_labels,
                      double margin, std::string metric, bool normalize) {
  const PairInput input = input_of(x, labels, gallery, gallery_labels, metric, normalize);
  Tensor counts = empty({kTripletCounts, x.size(0)}, ScalarType::Double);
  with_accumulation_type(x, [&]<class T>() {
    TorchWorkers workers;
    triplet_counts<T>(input, margin, data<double>(counts), workers);
  });
  return counts;
}

Tensor distance_histogram(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                          OptionalTensor gallery_labels, std::vector<double> edges, std::string metric,
                          bool normalize) {
  const PairInput input = input_of(x, labels, gallery, gallery_labels, metric, normalize);
  for (size_t e = 0; e < edges.size(); ++e)
    STD_TORCH_CHECK(std::isfinite(edges[e]) && (e == 0 || edges[e - 1] < edges[e]),
                    "fused_rank: edges must be finite and ascend");
  Tensor counts = empty({2, static_cast<int64_t>(edges.size()) + 1}, ScalarType::Long);
  with_accumulation_type(x, [&]<class T>() {
    TorchWorkers workers;
    distance_histogram<T>(input, edges, data<int64_t>(counts), workers);
  });
  return counts;
}

}  // namespace fused_rank
