#include "../cpu/selection.h"

#include "../cpu/indexed.h"
#include "../cpu/triplet.h"
#include "ops.h"
#include "tensors.h"

namespace fused_rank {

std::tuple<Tensor, Tensor> mine_hard(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                     OptionalTensor gallery_labels, std::string metric, bool normalize,
                                     bool symmetric) {
  const PairInput input = input_of(x, labels, gallery, gallery_labels, metric, normalize, symmetric);
  const int64_t choosers = x.size(0) + (symmetric ? gallery->size(0) : 0);
  Tensor positive = empty({choosers}, ScalarType::Long), negative = empty({choosers}, ScalarType::Long);
  with_accumulation_type(x, [&]<class T>() {
    TorchWorkers workers;
    mine_hard<T>(input, data<int64_t>(positive), data<int64_t>(negative), workers);
  });
  return {positive, negative};
}

std::tuple<Tensor, Tensor, Tensor> mine_semihard(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                                 OptionalTensor gallery_labels, std::string metric,
                                                 bool normalize, bool symmetric) {
  const PairInput input = input_of(x, labels, gallery, gallery_labels, metric, normalize, symmetric);
  const std::vector<MinedTriplet> mined = with_accumulation_type(x, [&]<class T>() {
    TorchWorkers workers;
    return mine_semihard<T>(input, workers);
  });
  const int64_t count = static_cast<int64_t>(mined.size());
  Tensor anchor = empty({count}, ScalarType::Long), positive = empty({count}, ScalarType::Long),
         negative = empty({count}, ScalarType::Long);
  for (int64_t l = 0; l < count; ++l) {
    data<int64_t>(anchor)[l] = mined[l].anchor;
    data<int64_t>(positive)[l] = mined[l].positive;
    data<int64_t>(negative)[l] = mined[l].negative;
  }
  return {anchor, positive, negative};
}

std::tuple<Tensor, Tensor> topk(Tensor queries, OptionalTensor gallery, int64_t k, std::string metric,
                                bool normalize, bool exclude_self) {
  PairInput input;
  input.query = source_of(queries);
  if (gallery.has_value()) input.gallery = source_of(*gallery);
  const int64_t n = gallery.has_value() ? gallery->size(0) : queries.size(0);
  STD_TORCH_CHECK(!gallery.has_value() || (gallery->scalar_type() == queries.scalar_type() &&
                                           gallery->size(1) == queries.size(1)),
                  "fused_rank: gallery must match the queries' dtype and width");
  STD_TORCH_CHECK(k >= 1 && k <= n - (exclude_self ? 1 : 0),
                  "fused_rank: k must be between 1 and the number of gallery rows");
  input.order = order_as_given(queries.size(0), n, !gallery.has_value());
  input.metric = metric_of(metric);
  input.normalize = normalize;
  const ScalarType type = accumulation_type(queries);
  Tensor values = empty({queries.size(0), k}, type), indices = empty({queries.size(0), k}, ScalarType::Long);
  with_accumulation_type(queries, [&]<class T>() {
    TorchWorkers workers;
    top_k<T>(input, k, exclude_self, data<T>(values), data<int64_t>(indices), workers);
  });
  return {values, indices};
}

namespace {

struct IndexedPairs {
  Embeddings query, gallery;
  const int64_t* i = nullptr;
  const int64_t* j = nullptr;
  int64_t count = 0;
  bool self = false, unit_rows = false;
  Metric metric = Metric::euclidean;
  const Embeddings& others() const { return self ? query : gallery; }
};

const int64_t* index_of(const OptionalTensor& index, int64_t rows) {
  if (!index.has_value()) return nullptr;
  STD_TORCH_CHECK(index->scalar_type() == ScalarType::Long && index->is_contiguous() && index->is_cpu(),
                  "fused_rank: indices must be contiguous int64");
  const int64_t* p = const_data<int64_t>(*index);
  for (int64_t l = 0; l < index->numel(); ++l)
    STD_TORCH_CHECK(p[l] >= 0 && p[l] < rows, "fused_rank: index ", p[l], " is out of range for ", rows,
                    " rows");
  return p;
}

void pairs_of(IndexedPairs& pairs, const Tensor& x, const OptionalTensor& gallery, const OptionalTensor& i,
              const OptionalTensor& j, const std::string& metric, bool normalize, Workers& workers) {
  pairs.self = !gallery.has_value();
  pairs.metric = metric_of(metric);
  pairs.unit_rows = normalize || pairs.metric == Metric::cosine;
  STD_TORCH_CHECK(
      !gallery.has_value() || (gallery->scalar_type() == x.scalar_type() && gallery->size(1) == x.size(1)),
      "fused_rank: gallery must match the queries' dtype and width");
  const int64_t n = pairs.self ? x.size(0) : gallery->size(0);
  pairs.i = index_of(i, x.size(0));
  pairs.j = index_of(j, n);
  pairs.count = i.has_value() ? i->numel() : j.has_value() ? j->numel() : x.size(0);
  STD_TORCH_CHECK(!i.has_value() || !j.has_value() || i->numel() == j->numel(),
                  "fused_rank: i and j must be equally long");
  STD_TORCH_CHECK((i.has_value() || pairs.count <= x.size(0)) && (j.has_value() || pairs.count <= n),
                  "fused_rank: more pairs than rows");
  describe(pairs.query, source_of(x), pairs.unit_rows, workers);
  if (!pairs.self) describe(pairs.gallery, source_of(*gallery), pairs.unit_rows, workers);
}

}  // namespace

Tensor indexed_distance(Tensor x, OptionalTensor gallery, OptionalTensor i, OptionalTensor j,
                        std::string metric, bool normalize) {
  TorchWorkers workers;
  IndexedPairs pairs;
  pairs_of(pairs, x, gallery, i, j, metric, normalize, workers);
  Tensor out = empty({pairs.count}, accumulation_type(x));
  with_accumulation_type(x, [&]<class T>() {
    indexed_distance<T>(pairs.query, pairs.others(), pairs.i, pairs.j, pairs.count, pairs.metric,
                        data<T>(out), workers);
  });
  return out;
}

std::tuple<Tensor, Tensor> indexed_distance_backward(Tensor grad, Tensor x, OptionalTensor gallery,
                                                     OptionalTensor i, OptionalTensor j, std::string metric,
                                                     bool normalize, bool need_x, bool need_gallery) {
  TorchWorkers workers;
  IndexedPairs pairs;
  pairs_of(pairs, x, gallery, i, j, metric, normalize, workers);
  need_gallery = need_gallery && gallery.has_value();
  STD_TORCH_CHECK(
      grad.is_contiguous() && grad.numel() == pairs.count && grad.scalar_type() == accumulation_type(x),
      "fused_rank: bad grad");
  std::vector<double> distance(pairs.count);
  indexed_distance<double>(pairs.query, pairs.others(), pairs.i, pairs.j, pairs.count, pairs.metric,
                           distance.data(), workers);
  std::vector<Edge> edges(pairs.count);
  with_accumulation_type(x, [&]<class T>() {
    for (int64_t l = 0; l < pairs.count; ++l)
      edges[l] = {static_cast<int32_t>(pairs.i ? pairs.i[l] : l),
                  static_cast<int32_t>(pairs.j ? pairs.j[l] : l),
                  static_cast<double>(const_data<T>(grad)[l]) * edge_factor(pairs.metric, distance[l])};
  });
  Tensor out_x = empty_rows(x, need_x),
         out_gallery = empty_rows(gallery.has_value() ? *gallery : x, need_gallery);
  edge_gradient(pairs.query, pairs.others(), pairs.self, pairs.unit_rows, edges,
                need_x ? out_x.mutable_data_ptr() : nullptr,
                need_gallery ? out_gallery.mutable_data_ptr() : nullptr, workers);
  return {out_x, out_gallery};
}

// What this binary is: instruction set, vector and panel widths, compiler.
std::string runtime_info() {
  return "isa=" FUSED_RANK_ISA " vector_bytes=" + std::to_string(kVectorBytes) +
         " micro_kernel=" + std::to_string(kMicroRows) + "x" + std::to_string(kPanel<float>) +
         " compiler=" __VERSION__;
}

}  // namespace fused_rank
