// What a distance is, of a squared difference, and how it moves its ends.
#pragma once

#include <cmath>

namespace fused_rank {

enum class Metric { euclidean, squared, cosine, dot };

inline double metric_of_square(Metric metric, double square) {
  return metric == Metric::euclidean ? std::sqrt(square) : metric == Metric::cosine ? 0.5 * square : square;
}

// d distance / d x = factor * (x - y), 0 at distance 0.
inline double edge_factor(Metric metric, double distance) {
  if (metric == Metric::euclidean) return distance > 0.0 ? 1.0 / distance : 0.0;
  return metric == Metric::squared ? 2.0 : 1.0;
}

}  // namespace fused_rank
