// Circle loss (Sun et al., CVPR 2020), with s = 1 - d and weights that are constants to the gradient:
//   L = softplus(A + B),   A = log sum_p exp(gamma [m + d]_+ (d - m)),   B = log sum_n exp(gamma [s + m]_+ (s - m))
//   dL/dd_p = sigmoid(A + B) gamma [m + d]_+ exp(a_p - A),   dL/dd_n = -sigmoid(A + B) gamma [s + m]_+ exp(b_n - B)
// Nothing for a query that lacks a kind.
//
// A positive's logit spans gamma (4 - m²) and is always summed online; a negative's spans gamma, around a centre.
#pragma once

#include "log_sum.h"

namespace fused_rank {

template <bool Online>
struct Circle {
  static constexpr int kChannels = 1;
  static constexpr int kState = 3;  // A, B less the centre, sigmoid(A + B)
  static constexpr bool kSeparable = false;
  static constexpr bool kWholeRows = true;

  template <class V>
  struct Row {
    LogSum<V, true> positive{};
    LogSum<V, Online> negative{};
  };
  template <class V>
  struct Scale {
    V pull, push, pull_peak, push_peak;
  };

  double m, gamma, centre;

  // For s in [-1, 1] a negative's logit is gamma (s² - m²), or 0 below s = -m.
  static Circle from(const double* p) { return {p[0], p[1], p[1] * (0.5 - p[0] * p[0])}; }
  bool is_bounded(double reach) const { return reach <= 2.0 && 0.5 * gamma <= kSafeLogit; }

  template <class V>
  FR_TERM V weight_positive(V d) const {
    return V(number<V>(gamma)) * max(d + V(number<V>(m)), V(number<V>(0)));
  }
  template <class V>
  FR_TERM V weight_negative(V d) const {
    return V(number<V>(gamma)) * max(V(number<V>(1.0 + m)) - d, V(number<V>(0)));
  }
  template <class V>
  FR_TERM V logit_positive(V d) const {
    return weight_positive(d) * (d - V(number<V>(m)));
  }
  template <class V>
  FR_TERM V logit_negative(V d) const {
    return weight_negative(d) * (V(number<V>(1.0 - m)) - d) - V(number<V>(centre));
  }

  template <class V>
  FR_TERM void fold_positive(Row<V>& row, V d) const {
    row.positive.add(logit_positive(d));
  }
  template <class V>
  FR_TERM void fold_negative(Row<V>& row, V d) const {
    row.negative.add(logit_negative(d));
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
  FR_TERM bool alive(const Row<T>&) const {
    return true;
  }

  template <class T>
  FR_TERM void finish(const Row<T>& row, PairCounts n, Channels<T>* out, T* state) const {
    state[0] = state[1] = state[2] = T(0);
    out[0] = {T(0), T(1), T(0)};
    if (n.positive == 0 || n.negative == 0) return;
    const double pull = log_of(row.positive), push = log_of(row.negative), both = pull + push + centre;
    state[0] = T(pull);
    state[1] = T(push);
    state[2] = T(sigmoid(both));
    const T loss = T(softplus(both));
    out[0] = {loss, T(1), loss > T(0) ? T(1) : T(0)};
  }

  template <class T>
  FR_TERM Scale<T> scale(const T* state, const T* grad) const {
    const T g = grad[0] * state[2];
    if (g == T(0)) return {T(0), T(0), T(-kNothing), T(-kNothing)};
    if constexpr (Online) return {g, -g, state[0], state[1]};
    return {g, -g * exp(-state[1]), state[0], T(0)};
  }

  template <class V>
  FR_TERM V slope_positive(V d, const Scale<V>& row) const {
    return row.pull * weight_positive(d) * weight<true>(logit_positive(d), row.pull_peak);
  }
  template <class V>
  FR_TERM V slope_negative(V d, const Scale<V>& row) const {
    return row.push * weight_negative(d) * weight<Online>(logit_negative(d), row.push_peak);
  }
};

}  // namespace fused_rank
