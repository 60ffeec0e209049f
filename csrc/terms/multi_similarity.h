// Multi-similarity loss (Wang et al., CVPR 2019), with s = 1 - d:
//   L = log(1 + sum_p exp(-alpha (s - base))) / alpha + log(1 + sum_n exp(beta (s - base))) / beta
//   dL/dd_p = exp(-alpha (s - base)) / (1 + sum_p ...),   dL/dd_n = -exp(beta (s - base)) / (1 + sum_n ...)
// Mined: over the positives with d > inputs[0] and the negatives with d < inputs[1] only.
#pragma once

#include "log_sum.h"

namespace fused_rank {

template <bool Online, bool Mined>
struct MultiSimilarity {
  static constexpr int kChannels = 1;
  static constexpr int kState = 4;  // log(1 + sum) of positives and of negatives; the two thresholds
  static constexpr int kInputs = 2;
  static constexpr bool kSeparable = false;

  template <class V>
  struct Row {
    LogSum<V, Online> positive{}, negative{};
    V beyond{}, within{};
  };
  template <class V>
  struct Scale {
    V pull, push, pull_peak, push_peak, beyond, within;
  };

  double alpha, beta, middle;  // logits are alpha (d - middle) and beta (middle - d)

  static MultiSimilarity from(const double* p) { return {p[0], p[1], 1.0 - p[2]}; }
  // Beside the 1 in the logarithm a logit far below 0 may vanish.
  bool is_bounded(double reach) const {
    return alpha * (reach - middle) <= kSafeLogit && beta * middle <= kSafeLogit;
  }

  template <class V>
  FR_TERM Row<V> start(const V* inputs) const {
    return {{}, {}, inputs[0], inputs[1]};
  }

  template <class V>
  FR_TERM V logit_positive(V d) const {
    return V(number<V>(alpha)) * (d - V(number<V>(middle)));
  }
  template <class V>
  FR_TERM V logit_negative(V d) const {
    return V(number<V>(beta)) * (V(number<V>(middle)) - d);
  }

  template <class V>
  FR_TERM void fold_positive(Row<V>& row, V d) const {
    if constexpr (Mined) row.positive.add_where(d > row.beyond, logit_positive(d));
    else row.positive.add(logit_positive(d));
  }
  template <class V>
  FR_TERM void fold_negative(Row<V>& row, V d) const {
    if constexpr (Mined) row.negative.add_where(d < row.within, logit_negative(d));
    else row.negative.add(logit_negative(d));
  }
  template <class V>
  FR_TERM void merge(Row<V>& into, const Row<V>& from) const {
    into.positive.merge(from.positive);
    into.negative.merge(from.negative);
  }

  template <class V>
  FR_TERM bool negative_is_dead(V) const {
    return false;
  }
  template <class T>
  FR_TERM bool alive(const Row<T>& row) const {
    return row.positive.total > T(0) || row.negative.total > T(0);
  }

  template <class T>
  FR_TERM void finish(const Row<T>& row, PairCounts, Channels<T>* out, T* state) const {
    const double pull = softplus(log_of(row.positive)), push = softplus(log_of(row.negative));
    state[0] = T(pull);
    state[1] = T(push);
    state[2] = row.beyond;
    state[3] = row.within;
    const T loss = T(pull / alpha + push / beta);
    out[0] = {loss, T(1), loss > T(0) ? T(1) : T(0)};
  }

  template <class T>
  FR_TERM Scale<T> scale(const T* state, const T* grad) const {
    const T g = grad[0];
    if constexpr (Online) return {g, g, state[0], state[1], state[2], state[3]};
    return {g * exp(-state[0]), g * exp(-state[1]), T(0), T(0), state[2], state[3]};
  }
  // The thresholds are constants.
  template <class T>
  FR_TERM void input_gradient(const T*, const T*, T* out) const {
    out[0] = out[1] = T(0);
  }

  template <class V>
  FR_TERM V slope_positive(V d, const Scale<V>& row) const {
    const V slope = row.pull * weight<Online>(logit_positive(d), row.pull_peak);
    if constexpr (Mined) return select(d > row.beyond, slope, V(number<V>(0)));
    else return slope;
  }
  template <class V>
  FR_TERM V slope_negative(V d, const Scale<V>& row) const {
    const V slope = -row.push * weight<Online>(logit_negative(d), row.push_peak);
    if constexpr (Mined) return select(d < row.within, slope, V(number<V>(0)));
    else return slope;
  }
};

template <bool Online>
using MultiSimilarityOfAll = MultiSimilarity<Online, false>;
template <bool Online>
using MinedMultiSimilarity = MultiSimilarity<Online, true>;

}  // namespace fused_rank
