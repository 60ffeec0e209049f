// The operators' schemas and their CPU kernels, on LibTorch's stable ABI. Nothing else.
#include <torch/csrc/stable/library.h>

#include "ops/ops.h"

STABLE_TORCH_LIBRARY(fused_rank, m) {
  m.def(
      "pair_forward(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str term, float[] params, "
      "str metric, bool normalize, str fused) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "pair_backward(Tensor grad_sums, Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str term, "
      "float[] params, str metric, bool normalize, bool query_only, Tensor state, Tensor live, Tensor grad_x, "
      "Tensor grad_gallery, bool need_x, bool need_gallery) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(fused_rank, CPU, m) {
  m.impl("pair_forward", TORCH_BOX(&fused_rank::pair_forward));
  m.impl("pair_backward", TORCH_BOX(&fused_rank::pair_backward));
}
