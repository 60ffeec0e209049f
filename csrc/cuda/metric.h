// What a distance is, of a squared difference, and how it moves its ends; cf. cpu/metric.h.
#pragma once

#include "device.h"
#include "kernels.h"

namespace fused_rank::cuda {

template <class T>
FR_DEVICE T to_metric(Metric metric, T square) {
  if (metric == Metric::euclidean) return sqrt(square);
  return metric == Metric::cosine ? T(0.5) * square : square;
}

// d distance / d x = factor · (x - y), 0 at distance 0.
template <class T>
FR_DEVICE T edge_factor(Metric metric, T distance) {
  if (metric == Metric::euclidean) return distance > T(0) ? T(1) / distance : T(0);
  return metric == Metric::squared ? T(2) : T(1);
}

}  // namespace fused_rank::cuda
