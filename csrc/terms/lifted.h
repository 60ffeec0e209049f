// Generalised lifted structure loss (Hermans, Beyer, Leibe 2017), where the logarithm of an empty sum is taken as 0:
//   L = max(0, log sum_p exp(d - pos_margin) + log sum_n exp(neg_margin - d))
// Where that is positive dL/dd is a pair's share in its sum, positive or negative.
#pragma once

#include "log_sum.h"

namespace fused_rank {

template <bool Online>
struct Lifted {
  static constexpr int kChannels = 1;
  static constexpr int kState = 3;  // log sum_p exp(d), log sum_n exp(-d), 1 where the loss is positive
  static constexpr bool kSeparable = false;
  static constexpr bool kWholeRows = true;

  template <class V>
  struct Row {
    LogSum<V, Online> positive{}, negative{};
  };
  template <class V>
  struct Scale {
    V pull, push, pull_peak, push_peak;
  };

  double pos_margin, neg_margin;

  static Lifted from(const double* p) { return {p[0], p[1]}; }
  bool is_bounded(double reach) const { return reach <= kSafeLogit; }

  template <class V>
  FR_TERM void fold_positive(Row<V>& row, V d) const {
    row.positive.add(d);
  }
  template <class V>
  FR_TERM void fold_negative(Row<V>& row, V d) const {
    row.negative.add(-d);
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
    const double pull = n.positive > 0 ? log_of(row.positive) : pos_margin;
    const double push = n.negative > 0 ? log_of(row.negative) : -neg_margin;
    const T loss = T(::fmax(0.0, (pull - pos_margin) + (push + neg_margin)));
    state[0] = T(pull);
    state[1] = T(push);
    state[2] = loss > T(0) ? T(1) : T(0);
    out[0] = {loss, T(1), state[2]};
  }

  template <class T>
  FR_TERM Scale<T> scale(const T* state, const T* grad) const {
    const T g = grad[0] * state[2];
    if constexpr (Online) {
      const T peak = T(-kNothing);
      return {g, -g, g == T(0) ? peak : state[0], g == T(0) ? peak : state[1]};
    } else {
      const T pull = exp(-state[0]), push = exp(-state[1]);
      return {g * pull, -g * push, T(0), T(0)};
    }
  }

  template <class V>
  FR_TERM V slope_positive(V d, const Scale<V>& row) const {
    return row.pull * weight<Online>(d, row.pull_peak);
  }
  template <class V>
  FR_TERM V slope_negative(V d, const Scale<V>& row) const {
    return row.push * weight<Online>(-d, row.push_peak);
  }
};

}  // namespace fused_rank
