// A sum of exponentials of logits, kept relative to a shift so that it neither overflows nor vanishes.
//
// Online = false: logits are known to lie within kSafeLogit of 0, so the shift is none and terms add up in any order; the
// exponential of a pair is then the same for both of its ends and is computed once.
// Online = true: the shift is the largest logit so far, and the sum is rescaled to it, as a streaming softmax does.
#pragma once

#include "term.h"

namespace fused_rank {

inline constexpr double kSafeLogit = 60.0;  // exp(60) times 2^24 rows is far inside a float's range

// The logarithm of an empty sum, finite: softplus of it and its derivative are 0 to any precision.
inline constexpr double kNothing = -1e30;

template <class V, bool Online>
struct LogSum {
  V total{};

  FR_TERM void add(V logit) { total += exp(logit); }
  template <class Mask>
  FR_TERM void add_where(Mask member, V logit) {
    total += select(member, exp(logit), V(number<V>(0)));
  }
  FR_TERM void merge(const LogSum& from) { total += from.total; }
  FR_TERM V peak() const { return V{}; }
};

template <class V>
struct LogSum<V, true> {
  V total{}, largest{number<V>(kNothing)};

  FR_TERM void add(V logit) {
    const V peak = max(largest, logit);
    total = total * exp(largest - peak) + exp(logit - peak);
    largest = peak;
  }
  template <class Mask>
  FR_TERM void add_where(Mask member, V logit) {
    const V peak = select(member, max(largest, logit), largest);
    total = total * exp(largest - peak) + select(member, exp(logit - peak), V(number<V>(0)));
    largest = peak;
  }
  FR_TERM void merge(const LogSum& from) {
    const V peak = max(largest, from.largest);
    total = total * exp(largest - peak) + from.total * exp(from.largest - peak);
    largest = peak;
  }
  FR_TERM V peak() const { return largest; }
};

// Of a finished sum: its logarithm, -infinity if it is empty.
template <class T, bool Online>
double log_of(const LogSum<T, Online>& sum) {
  return ::log(static_cast<double>(sum.total)) + static_cast<double>(sum.peak());
}

// The factor of exp(logit) in a sum over members at least one of which is `peak`.
template <bool Online, class V>
FR_TERM V weight(V logit, V peak) {
  return exp(Online ? logit - peak : logit);
}

}  // namespace fused_rank
