// log(1 + sum_n exp(scale * d_n - c)) over a query's negatives, with a number c of its own: where c is the logit of a positive, -log of
// its share among them and itself. 0 without negatives.
//   dL/dd_n = scale exp(scale d_n - c) / (1 + S),   dL/dc = -S / (1 + S),   S = sum_n exp(scale d_n - c)
#pragma once

#include "log_sum.h"

namespace fused_rank {

template <bool Online>
struct SoftplusNegatives {
  static constexpr int kChannels = 1;
  static constexpr int kState = 3;  // the sum without c, the logit that it is relative to, S / (1 + S)
  static constexpr int kInputs = 1;
  static constexpr bool kSeparable = false;
  static constexpr bool kWholeRows = true;

  template <class V>
  struct Row {
    LogSum<V, Online> negative{};
    V level{};
  };
  template <class V>
  struct Scale {
    V push, peak;
  };

  double scale_, reach_;  // the latter the largest |d| that the caller vouches for

  static SoftplusNegatives from(const double* p) { return {p[0], p[1]}; }
  bool is_bounded(double reach) const { return ::fabs(scale_ * min(reach, reach_)) <= kSafeLogit; }

  template <class V>
  FR_TERM Row<V> start(const V* inputs) const {
    return {{}, inputs[0]};
  }

  // Adding 0 keeps the product from being fused with what is subtracted from it: all see the rounded logit that the peak was chosen from.
  template <class V>
  FR_TERM V logit(V d) const {
    return V(number<V>(scale_)) * d + V(number<V>(0));
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
  FR_TERM void finish(const Row<T>& row, PairCounts n, Channels<T>* out, T* state) const {
    const bool any = n.negative > 0;
    const double excess = any ? log_of(row.negative) - static_cast<double>(row.level) : kNothing;  // log S
    const T loss = T(softplus(excess));
    state[0] = row.negative.total;
    state[1] = row.negative.peak();
    state[2] = T(sigmoid(excess));
    out[0] = {loss, T(any), T(loss > T(0))};
  }

  template <class T>
  FR_TERM Scale<T> scale(const T* state, const T* grad) const {
    if (state[0] == T(0)) return {};
    return {T(scale_) * grad[0] * state[2] / state[0], state[1]};
  }
  template <class T>
  FR_TERM void input_gradient(const T* state, const T* grad, T* out) const {
    out[0] = -grad[0] * state[2];
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
