#include "../cpu/pair.h"

#include "ops.h"
#include "tensors.h"

namespace fused_rank {

namespace {

PairProblem problem_of(const Tensor& x, const OptionalTensor& labels, const OptionalTensor& gallery,
                       const OptionalTensor& gallery_labels, const std::string& term,
                       const std::vector<double>& params, const std::string& metric, bool normalize,
                       bool symmetric) {
  return {input_of(x, labels, gallery, gallery_labels, metric, normalize, symmetric), term, params};
}

void check_inputs(const OptionalTensor& inputs, const TermLayout& layout, int64_t rows, ScalarType type) {
  STD_TORCH_CHECK(inputs.has_value() == (layout.inputs > 0), "fused_rank: this term takes ", layout.inputs,
                  " inputs for each row");
  if (!inputs.has_value()) return;
  STD_TORCH_CHECK(inputs->dim() == 2 && inputs->size(0) == layout.inputs && inputs->size(1) == rows &&
                      inputs->is_contiguous() && inputs->scalar_type() == type,
                  "fused_rank: inputs must be contiguous [", layout.inputs, ", ", rows,
                  "] in the accumulation dtype");
}

Fused fused_of(const std::string& name) {
  if (name == "none") return Fused::none;
  if (name == "query") return Fused::query;
  if (name == "gallery") return Fused::gallery;
  STD_TORCH_CHECK(name == "both", "fused_rank: fused must be none, query, gallery or both");
  return Fused::both;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> pair_forward(
    Tensor x, OptionalTensor labels, OptionalTensor gallery, OptionalTensor gallery_labels,
    OptionalTensor inputs, std::string term, std::vector<double> params, std::string metric, bool normalize,
    std::string fused, bool symmetric) {
  const PairProblem problem =
      problem_of(x, labels, gallery, gallery_labels, term, params, metric, normalize, symmetric);
  const int64_t m = x.size(0), n = gallery.has_value() ? gallery->size(0) : m, width = x.size(1);
  const int64_t reported = problem.rows();
  const ScalarType type = accumulation_type(x);
  const TermLayout layout = term_layout(term);
  check_inputs(inputs, layout, reported, type);
  const Fused mode = fused_of(fused);
  Tensor rows = empty({3 * layout.channels, reported}, type), state = empty({layout.state, reported}, type);
  Tensor live = empty({tile_count(m, n)}, ScalarType::Byte);
  const bool of_x = mode == Fused::query || mode == Fused::both,
             of_gallery = (mode == Fused::gallery || mode == Fused::both) && gallery.has_value();
  Tensor grad_x = of_x ? empty({layout.parts, m, width}, type) : empty({0}, type);
  Tensor grad_gallery = of_gallery ? empty({layout.parts, n, width}, type) : empty({0}, type);
  with_accumulation_type(x, [&]<class T>() {
    PairForward<T> out{data<T>(rows), data<T>(state), data<uint8_t>(live), mode, nullptr, nullptr, nullptr};
    if (of_x) out.grad_query = data<T>(grad_x);
    if (of_gallery) out.grad_gallery = data<T>(grad_gallery);
    if (inputs.has_value()) out.inputs = const_data<T>(*inputs);
    TorchWorkers workers;
    pair_forward<T>(problem, out, workers);
  });
  return {rows, state, live, grad_x, grad_gallery};
}

std::tuple<Tensor, Tensor, Tensor> pair_backward(
    Tensor grad_sums, Tensor x, OptionalTensor labels, OptionalTensor gallery, OptionalTensor gallery_labels,
    OptionalTensor inputs, std::string term, std::vector<double> params, std::string metric, bool normalize,
    bool query_only, bool symmetric, Tensor state, Tensor live, Tensor grad_x, Tensor grad_gallery,
    bool need_x, bool need_gallery, bool need_inputs) {
  const PairProblem problem =
      problem_of(x, labels, gallery, gallery_labels, term, params, metric, normalize, symmetric);
  const ScalarType type = accumulation_type(x);
  const TermLayout layout = term_layout(term);
  need_gallery = need_gallery && gallery.has_value();
  need_inputs = need_inputs && inputs.has_value();
  STD_TORCH_CHECK(grad_sums.is_contiguous() && grad_sums.scalar_type() == type &&
                      grad_sums.numel() == layout.channels * problem.rows(),
                  "fused_rank: bad grad_sums");
  Tensor out_x = empty_rows(x, need_x),
         out_gallery = empty_rows(gallery.has_value() ? *gallery : x, need_gallery),
         out_inputs = need_inputs ? empty({layout.inputs, problem.rows()}, type) : empty({0}, type);
  with_accumulation_type(x, [&]<class T>() {
    PairBackward<T> io{const_data<T>(grad_sums), const_data<T>(state), const_data<uint8_t>(live)};
    io.query_only = query_only;
    if (need_x) io.grad_query = out_x.mutable_data_ptr();
    if (need_gallery) io.grad_gallery = out_gallery.mutable_data_ptr();
    if (need_inputs) io.grad_inputs = data<T>(out_inputs);
    if (grad_x.numel() > 0 || grad_gallery.numel() > 0) {
      io.fused = query_only ? Fused::query : Fused::both;
      if (grad_x.numel() > 0) io.unit_query = const_data<T>(grad_x);
      if (grad_gallery.numel() > 0) io.unit_gallery = const_data<T>(grad_gallery);
    }
    TorchWorkers workers;
    pair_backward<T>(problem, io, workers);
  });
  return {out_x, out_gallery, out_inputs};
}

}  // namespace fused_rank
