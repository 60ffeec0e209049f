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

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> pair_forward(
    Tensor x, OptionalTensor labels, OptionalTensor gallery, OptionalTensor gallery_labels,
    OptionalTensor inputs, std::string term, std::vector<double> params, std::string metric, bool normalize,
    std::string fused, bool symmetric);
std::tuple<Tensor, Tensor, Tensor> pair_backward(
    Tensor grad_sums, Tensor x, OptionalTensor labels, OptionalTensor gallery, OptionalTensor gallery_labels,
    OptionalTensor inputs, std::string term, std::vector<double> params, std::string metric, bool normalize,
    bool query_only, bool symmetric, Tensor state, Tensor live, Tensor grad_x, Tensor grad_gallery,
    bool need_x, bool need_gallery, bool need_inputs);
std::tuple<Tensor, Tensor, Tensor> triplet_forward(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                                   OptionalTensor gallery_labels, std::string mining,
                                                   double margin, bool soft_margin, std::string metric,
                                                   bool normalize, bool symmetric);
std::tuple<Tensor, Tensor> triplet_backward(Tensor grad_sums, Tensor x, OptionalTensor labels,
                                            OptionalTensor gallery, OptionalTensor gallery_labels,
                                            std::string mining, double margin, bool soft_margin,
                                            std::string metric, bool normalize, Tensor state, Tensor live,
                                            Tensor rows, bool need_x, bool need_gallery, bool symmetric);
std::tuple<Tensor, Tensor> mine_hard(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                     OptionalTensor gallery_labels, std::string metric, bool normalize,
                                     bool symmetric);
std::tuple<Tensor, Tensor, Tensor> mine_semihard(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                                 OptionalTensor gallery_labels, std::string metric,
                                                 bool normalize, bool symmetric);
std::tuple<Tensor, Tensor> topk(Tensor queries, OptionalTensor gallery, int64_t k, std::string metric,
                                bool normalize, bool exclude_self);
Tensor indexed_distance(Tensor x, OptionalTensor gallery, OptionalTensor i, OptionalTensor j,
                        std::string metric, bool normalize);
std::tuple<Tensor, Tensor> indexed_distance_backward(Tensor grad, Tensor x, OptionalTensor gallery,
                                                     OptionalTensor i, OptionalTensor j, std::string metric,
                                                     bool normalize, bool need_x, bool need_gallery);
Tensor rank_positives(Tensor x, OptionalTensor labels, OptionalTensor gallery, OptionalTensor gallery_labels,
                      std::vector<int64_t> cutoffs, std::string metric, bool normalize);
std::tuple<Tensor, Tensor> find_partner(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                                        OptionalTensor gallery_labels, bool positives, bool farthest,
                                        OptionalTensor above, OptionalTensor below, std::string metric,
                                        bool normalize);
Tensor sample_negatives(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                        OptionalTensor gallery_labels, Tensor draws, double cutoff, double limit);
Tensor triplet_counts(Tensor x, OptionalTensor labels, OptionalTensor gallery, OptionalTensor gallery_labels,
                      double margin, std::string metric, bool normalize);
Tensor distance_histogram(Tensor x, OptionalTensor labels, OptionalTensor gallery,
                          OptionalTensor gallery_labels, std::vector<double> edges, std::string metric,
                          bool normalize);
std::string runtime_info();

}  // namespace fused_rank
