// Between torch tensors and the engine's plain structs.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <string>
#include <vector>

#include "../cpu/pair_matrix.h"

namespace fused_rank {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// torch's own thread pool.
class TorchWorkers final : public Workers {
 public:
  TorchWorkers() : count_(static_cast<int>(torch::stable::get_num_threads())) {}
  int count() const override { return count_; }

 private:
  void run_all(const std::function<void(int)>& body) override {
    torch::stable::parallel_for(0, count_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) body(static_cast<int>(worker));
    });
  }
  int count_;
};

inline DType dtype_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return DType::f32;
    case ScalarType::Double:
      return DType::f64;
    case ScalarType::Half:
      return DType::f16;
    case ScalarType::BFloat16:
      return DType::bf16;
    default:
      break;
  }
  STD_TORCH_CHECK(false, "fused_rank: embeddings must be float32, float64, float16 or bfloat16");
}

inline Source source_of(const Tensor& t) {
  STD_TORCH_CHECK(t.dim() == 2, "fused_rank: embeddings must have 2 dimensions, got ", t.dim());
  STD_TORCH_CHECK(t.is_cpu(), "fused_rank: this op takes CPU tensors");
  STD_TORCH_CHECK(t.size(0) < (int64_t{1} << 24), "fused_rank: at most 2^24 rows, got ", t.size(0));
  return {t.const_data_ptr(), dtype_of(t), t.size(0), t.size(1), t.stride(0), t.stride(1)};
}

inline Metric metric_of(const std::string& name) {
  if (name == "euclidean") return Metric::euclidean;
  if (name == "sqeuclidean") return Metric::squared;
  if (name == "cosine") return Metric::cosine;
  if (name == "dot") return Metric::dot;
  STD_TORCH_CHECK(false, "fused_rank: unknown metric '", name, "'");
}

inline const int64_t* labels_of(const OptionalTensor& labels, int64_t rows, int64_t& stride) {
  if (!labels.has_value()) return nullptr;
  STD_TORCH_CHECK(labels->dim() == 1 && labels->size(0) == rows,
                  "fused_rank: labels must have one entry per row");
  STD_TORCH_CHECK(labels->scalar_type() == ScalarType::Long && labels->is_cpu(),
                  "fused_rank: labels must be int64 on the CPU");
  stride = labels->stride(0);
  return static_cast<const int64_t*>(labels->const_data_ptr());
}

inline Order order_of(const Tensor& x, const OptionalTensor& labels, const OptionalTensor& gallery,
                      const OptionalTensor& gallery_labels) {
  int64_t stride = 1, gallery_stride = 1;
  const int64_t* own = labels_of(labels, x.size(0), stride);
  if (!gallery.has_value()) {
    STD_TORCH_CHECK(own != nullptr, "fused_rank: labels are needed without a gallery");
    return order_by_label(own, stride, x.size(0), nullptr, 1, 0, true);
  }
  const int64_t* other = labels_of(gallery_labels, gallery->size(0), gallery_stride);
  STD_TORCH_CHECK((own == nullptr) == (other == nullptr),
                  "fused_rank: labels and gallery_labels go together");
  STD_TORCH_CHECK(own != nullptr || x.size(0) == gallery->size(0),
                  "fused_rank: plain pairing needs as many gallery rows as queries");
  STD_TORCH_CHECK(gallery->scalar_type() == x.scalar_type() && gallery->size(1) == x.size(1),
                  "fused_rank: gallery must match the queries' dtype and width");
  return order_by_label(own, stride, x.size(0), other, gallery_stride, gallery->size(0), false);
}

inline PairInput input_of(const Tensor& x, const OptionalTensor& labels, const OptionalTensor& gallery,
                          const OptionalTensor& gallery_labels, const std::string& metric, bool normalize,
                          bool symmetric = false) {
  STD_TORCH_CHECK(!symmetric || gallery.has_value(), "fused_rank: the self form is symmetric already");
  PairInput input;
  input.query = source_of(x);
  if (gallery.has_value()) input.gallery = source_of(*gallery);
  input.order = order_of(x, labels, gallery, gallery_labels);
  input.metric = metric_of(metric);
  input.normalize = normalize;
  input.symmetric = symmetric;
  return input;
}

inline ScalarType accumulation_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline Tensor empty(std::vector<int64_t> sizes, ScalarType dtype) {
  return torch::stable::empty(torch::headeronly::IntHeaderOnlyArrayRef(sizes.data(), sizes.size()), dtype);
}
inline Tensor empty_rows(const Tensor& like, bool wanted) {
  return wanted ? empty({like.size(0), like.size(1)}, like.scalar_type()) : empty({0}, like.scalar_type());
}

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}
template <class T>
const T* const_data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

// f.template operator()<T>() with the accumulation type of x.
template <class F>
auto with_accumulation_type(const Tensor& x, F&& f) {
  return x.scalar_type() == ScalarType::Double ? f.template operator()<double>()
                                               : f.template operator()<float>();
}

// The bytes of a live map: an upper bound over all tile sizes, and one to spare, so that its length is never 1
// (torch.compile makes a graph of its own for that).
inline int64_t tile_count(int64_t m, int64_t n) { return ((m + 63) / 64) * ((n + 63) / 64) + 1; }

}  // namespace fused_rank
