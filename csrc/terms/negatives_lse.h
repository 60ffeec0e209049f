// The log-sum-exp of a query's negatives, log sum_n exp(scale * d_n + shift); kNothing for a query without any.
#pragma once

#include "log_sum.h"

namespace fused_rank {

template <bool Online>
struct NegativesLse {
  static constexpr int kChannels = 1;
  static constexpr int kState = 2;  // the sum, and the logit that it is relative to
  static constexpr bool kSeparable = false;

  template <class V>
  struct Row {
    LogSum<V, Online> negative{};
  };
  template <class V>
  struct Scale {
    V push, peak;
  };

  double scale_, shift;

  static NegativesLse from(const double* p) { return {p[0], p[1]}; }
  bool is_bounded(double reach) const {
    return ::fabs(shift) <= kSafeLogit && ::fabs(scale_ * reach + shift) <= kSafeLogit;
  }

  template <class V>
  FR_TERM V logit(V d) const {
    return V(number<V>(scale_)) * d + V(number<V>(shift));
  }

  template <class V>
  FR_TERM void fold_positive(Row<V>&, V) const {}
  template <class V>
  FR_TERM void fold_negative(Row<V>& row, V d) const {
    row.negative.add(logit(d));
  }
  template <class V>
  FR_TERM void merge(Row<V>& into, const Row<V>& from) const {
    into.negative.merge(from.negative);
  }

  template <class V>
  FR_TERM bool negative_is_dead(V) const {
    return false;
  }
  template <class T>
  FR_TERM bool alive(const Row<T>& row) const {
    return row.negative.total > T(0);
  }

  template <class T>
  void finish(const Row<T>& row, PairCounts n, Channels<T>* out, T* state) const {
    state[0] = row.negative.total;
    state[1] = row.negative.peak();
    const bool any = n.negative > 0;
    out[0] = {any ? T(log_of(row.negative)) : T(kNothing), T(any), T(any)};
  }

  template <class T>
  Scale<T> scale(const T* state, const T* grad) const {
    if (state[0] == T(0)) return {};
    return {T(scale_) * grad[0] / state[0], state[1]};
  }

  template <class V>
  FR_TERM V slope_positive(V, const Scale<V>&) const {
    return V(number<V>(0));
  }
  template <class V>
  FR_TERM V slope_negative(V d, const Scale<V>& row) const {
    return row.push * weight<Online>(logit(d), row.peak);
  }
};

}  // namespace fused_rank
