#include "../cpu/triplet.h"

#include "ops.h"
#include "tensors.h"

namespace fused_rank {

namespace {

Mining mining_of(const std::string& name) {
  if (name == "hard") return Mining::hard;
  if (name == "semihard") return Mining::semihard;
  if (name == "all") return Mining::all;
  STD_TORCH_CHECK(name == "semihard_all", "fused_rank: unknown mining '", name, "'");
  return Mining::semihard_all;
}

TripletProblem problem_of(const Tensor& x, const OptionalTensor& labels, const OptionalTensor& gallery,
                          const OptionalTensor& gallery_labels, const std::string& mining, double margin,
                          bool soft_margin, const std::string& metric, bool normalize, bool symmetric) {
  return {input_of(x, labels, gallery, gallery_labels, metric, normalize, symmetric), mining_of(mining),
          margin, soft_margin};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> triplet_forward(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                                   OptionalTensor gallery_labels, std::string mining,
                                                   double margin, bool soft_margin, std::string metric,
                                                   bool normalize, bool symmetric) {
  const TripletProblem problem = problem_of(x, labels, gallery, gallery_labels, mining, margin, soft_margin,
                                            metric, normalize, symmetric);
  const int64_t m = x.size(0), n = gallery.has_value() ? gallery->size(0) : m, r = problem.rows();
  const ScalarType type = accumulation_type(x);
  Tensor rows = empty({3, r}, type), state = empty({triplet_state_rows(problem.mining), r}, type);
  Tensor live = empty({tile_count(m, n)}, ScalarType::Byte);
  with_accumulation_type(x, [&]<class T>() {
    TorchWorkers workers;
    triplet_forward<T>(problem, {data<T>(rows), data<T>(state), data<uint8_t>(live)}, workers);
  });
  return {rows, state, live};
}

std::tuple<Tensor, Tensor> triplet_backward(Tensor grad_sums, Tensor x, OptionalTensor labels,
                                            OptionalTensor gallery, OptionalTensor gallery_labels,
                                            std::string mining, double margin, bool soft_margin,
                                            std::string metric, bool normalize, Tensor state, Tensor live,
                                            Tensor rows, bool need_x, bool need_gallery, bool symmetric) {
  const TripletProblem problem = problem_of(x, labels, gallery, gallery_labels, mining, margin, soft_margin,
                                            metric, normalize, symmetric);
  need_gallery = need_gallery && gallery.has_value();
  STD_TORCH_CHECK(grad_sums.is_contiguous() && grad_sums.scalar_type() == accumulation_type(x) &&
                      grad_sums.numel() == problem.rows(),
                  "fused_rank: bad grad_sums");
  Tensor out_x = empty_rows(x, need_x),
         out_gallery = empty_rows(gallery.has_value() ? *gallery : x, need_gallery);
  with_accumulation_type(x, [&]<class T>() {
    TripletBackward<T> io{const_data<T>(grad_sums), const_data<T>(state), const_data<uint8_t>(live),
                          const_data<T>(rows) + 2 * problem.rows()};
    if (need_x) io.grad_query = out_x.mutable_data_ptr();
    if (need_gallery) io.grad_gallery = out_gallery.mutable_data_ptr();
    TorchWorkers workers;
    triplet_backward<T>(problem, io, workers);
  });
  return {out_x, out_gallery};
}

}  // namespace fused_rank
