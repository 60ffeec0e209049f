// sum_p softplus(c - (scale * d_p + shift)) over a query's positives, with a number c of its own: where c is the log-sum-exp of its
// negatives, -log of each positive's share among them and itself. Nothing where c is kNothing.
#pragma once

#include "log_sum.h"

namespace fused_rank {

struct SoftplusPositives {
  static constexpr int kChannels = 1;
  static constexpr int kState = 2;  // c, d loss / d c
  static constexpr int kInputs = 1;
  static constexpr bool kSeparable = false;
  static constexpr bool kPositivesOnly = true;

  template <class V>
  struct Row {
    V sum{}, slope{}, level{};
  };
  template <class V>
  struct Scale {
    V pull, level;
  };

  double scale_, shift;

  static SoftplusPositives from(const double* p) { return {p[0], p[1]}; }

  template <class V>
  FR_TERM Row<V> start(const V* inputs) const {
    return {V{}, V{}, inputs[0]};
  }

  template <class V>
  FR_TERM V excess(V d, V level) const {
    return level - (V(number<V>(scale_)) * d + V(number<V>(shift)));
  }

  template <class V>
  FR_TERM void fold_positive(Row<V>& row, V d) const {
    const V a = excess(d, row.level);
    row.sum += softplus(a);
    row.slope += sigmoid(a);
  }
  template <class V>
  FR_TERM void fold_negative(Row<V>&, V) const {}
  template <class V>
  FR_TERM void merge(Row<V>& into, const Row<V>& from) const {
    into.sum += from.sum;
    into.slope += from.slope;
  }

  template <class V>
  FR_TERM bool negative_is_dead(V) const {
    return true;
  }
  template <class T>
  FR_TERM bool alive(const Row<T>& row) const {
    return row.slope > T(0);
  }

  template <class T>
  void finish(const Row<T>& row, PairCounts n, Channels<T>* out, T* state) const {
    const bool any = !is_nothing(row.level);
    const T count = any ? T(n.positive) : T(0);
    state[0] = row.level;
    state[1] = any ? row.slope : T(0);
    out[0] = {any ? row.sum : T(0), count, count};
  }

  template <class T>
  Scale<T> scale(const T* state, const T* grad) const {
    if (is_nothing(state[0])) return {};
    return {-T(scale_) * grad[0], state[0]};
  }
  template <class T>
  void input_gradient(const T* state, const T* grad, T* out) const {
    out[0] = grad[0] * state[1];
  }

  template <class V>
  FR_TERM V slope_positive(V d, const Scale<V>& row) const {
    return row.pull * sigmoid(excess(d, row.level));
  }
  template <class V>
  FR_TERM V slope_negative(V, const Scale<V>&) const {
    return V(number<V>(0));
  }

  template <class T>
  static bool is_nothing(T level) {
    return level < T(0.5 * kNothing);
  }
};

}  // namespace fused_rank
