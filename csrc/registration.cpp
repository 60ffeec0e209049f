// The operators' schemas and their CPU kernels, on LibTorch's stable ABI. Nothing else.
#include <torch/csrc/stable/library.h>

#include "ops/ops.h"

STABLE_TORCH_LIBRARY(fused_rank, m) {
  m.def(
      "pair_forward(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, Tensor? inputs, "
      "str term, float[] params, str metric, bool normalize, str fused, bool symmetric) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "pair_backward(Tensor grad_sums, Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, "
      "Tensor? inputs, str term, float[] params, str metric, bool normalize, bool query_only, "
      "bool symmetric, Tensor state, Tensor live, Tensor grad_x, Tensor grad_gallery, bool need_x, "
      "bool need_gallery, bool need_inputs) -> (Tensor, Tensor, Tensor)");
  m.def(
      "triplet_forward(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str mining, float "
      "margin, "
      "bool soft_margin, str metric, bool normalize, bool symmetric=False) -> (Tensor, Tensor, Tensor)");
  m.def(
      "triplet_backward(Tensor grad_sums, Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, "
      "str mining, float margin, bool soft_margin, str metric, bool normalize, Tensor state, Tensor live, "
      "Tensor rows, "
      "bool need_x, bool need_gallery, bool symmetric=False) -> (Tensor, Tensor)");
  m.def(
      "mine_hard(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str metric, bool "
      "normalize, bool symmetric=False) "
      "-> (Tensor, Tensor)");
  m.def(
      "mine_semihard(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str metric, bool "
      "normalize, bool symmetric=False) "
      "-> (Tensor, Tensor, Tensor)");
  m.def(
      "topk(Tensor queries, Tensor? gallery, int k, str metric, bool normalize, bool exclude_self) -> "
      "(Tensor, Tensor)");
  m.def(
      "indexed_distance(Tensor x, Tensor? gallery, Tensor? i, Tensor? j, str metric, bool normalize) -> "
      "Tensor");
  m.def(
      "indexed_distance_backward(Tensor grad, Tensor x, Tensor? gallery, Tensor? i, Tensor? j, str metric, "
      "bool normalize, bool need_x, bool need_gallery) -> (Tensor, Tensor)");
  m.def(
      "rank_positives(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, int[] cutoffs, str "
      "metric, bool normalize) -> Tensor");
  m.def(
      "find_partner(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, bool positives, bool "
      "farthest, Tensor? above, Tensor? below, str metric, bool normalize) -> (Tensor, Tensor)");
  m.def(
      "sample_negatives(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, Tensor draws, "
      "float cutoff, float limit) -> Tensor");
  m.def(
      "triplet_counts(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, float margin, str "
      "metric, bool normalize) -> Tensor");
  m.def(
      "distance_histogram(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, float[] edges, "
      "str metric, bool normalize) -> Tensor");
  m.def("runtime_info() -> str");
}

STABLE_TORCH_LIBRARY_IMPL(fused_rank, CPU, m) {
  m.impl("pair_forward", TORCH_BOX(&fused_rank::pair_forward));
  m.impl("pair_backward", TORCH_BOX(&fused_rank::pair_backward));
  m.impl("triplet_forward", TORCH_BOX(&fused_rank::triplet_forward));
  m.impl("triplet_backward", TORCH_BOX(&fused_rank::triplet_backward));
  m.impl("mine_hard", TORCH_BOX(&fused_rank::mine_hard));
  m.impl("mine_semihard", TORCH_BOX(&fused_rank::mine_semihard));
  m.impl("topk", TORCH_BOX(&fused_rank::topk));
  m.impl("indexed_distance", TORCH_BOX(&fused_rank::indexed_distance));
  m.impl("indexed_distance_backward", TORCH_BOX(&fused_rank::indexed_distance_backward));
  m.impl("rank_positives", TORCH_BOX(&fused_rank::rank_positives));
  m.impl("find_partner", TORCH_BOX(&fused_rank::find_partner));
  m.impl("sample_negatives", TORCH_BOX(&fused_rank::sample_negatives));
  m.impl("triplet_counts", TORCH_BOX(&fused_rank::triplet_counts));
  m.impl("distance_histogram", TORCH_BOX(&fused_rank::distance_histogram));
}

STABLE_TORCH_LIBRARY_IMPL(fused_rank, CompositeExplicitAutograd, m) {
  m.impl("runtime_info", TORCH_BOX(&fused_rank::runtime_info));
}
