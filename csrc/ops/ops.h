// The operators, as registration.cpp boxes them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace fused_rank {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> pair_forward(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                                                OptionalTensor gallery_labels, std::string term,
                                                                std::vector<double> params, std::string metric,
                                                                bool normalize, std::string fused);
std::tuple<Tensor, Tensor> pair_backward(Tensor grad_sums, Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                         OptionalTensor gallery_labels, std::string term, std::vector<double> params,
                                         std::string metric, bool normalize, bool query_only, Tensor state, Tensor live,
                                         Tensor grad_x, Tensor grad_gallery, bool need_x, bool need_gallery);

}  // namespace fused_rank
