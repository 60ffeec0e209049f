// Margin loss (Wu et al., ICCV 2017): with a border b of the query's own, positive pairs pay max(0, d - b + margin), negative pairs
// max(0, b - d + margin).
#pragma once

#include "term.h"

namespace fused_rank {

struct Margin {
  static constexpr int kChannels = 2;  // positive, negative
  static constexpr int kState = 3;     // b; active positives, active negatives
  static constexpr int kInputs = 1;
  static constexpr bool kSeparable = false;

  template <class V>
  struct Row {
    V pos{}, neg{}, active_pos{}, active_neg{}, border{};
  };
  template <class V>
  struct Scale {
    V positive, negative, border;
  };

  double margin;

  static Margin from(const double* p) { return {p[0]}; }

  template <class V>
  FR_TERM Row<V> start(const V* inputs) const {
    return {V{}, V{}, V{}, V{}, inputs[0]};
  }

  template <class V>
  FR_TERM V hinge_positive(V d, V border) const {
    return max(d - border + V(number<V>(margin)), V(number<V>(0)));
  }
  template <class V>
  FR_TERM V hinge_negative(V d, V border) const {
    return max(border - d + V(number<V>(margin)), V(number<V>(0)));
  }
  template <class V>
  FR_TERM V active(V hinge) const {
    return select(hinge > V(number<V>(0)), V(number<V>(1)), V(number<V>(0)));
  }

  template <class V>
  FR_TERM void fold_positive(Row<V>& row, V d) const {
    const V h = hinge_positive(d, row.border);
    row.pos += h;
    row.active_pos += active(h);
  }
  template <class V>
  FR_TERM void fold_negative(Row<V>& row, V d) const {
    const V h = hinge_negative(d, row.border);
    row.neg += h;
    row.active_neg += active(h);
  }
  template <class V>
  FR_TERM void merge(Row<V>& into, const Row<V>& from) const {
    into.pos += from.pos;
    into.neg += from.neg;
    into.active_pos += from.active_pos;
    into.active_neg += from.active_neg;
  }

  template <class V>
  FR_TERM bool negative_is_dead(V) const {
    return false;
  }
  template <class T>
  FR_TERM bool alive(const Row<T>& row) const {
    return row.active_pos + row.active_neg > T(0);
  }

  template <class T>
  FR_TERM void finish(const Row<T>& row, PairCounts n, Channels<T>* out, T* state) const {
    state[0] = row.border;
    state[1] = row.active_pos;
    state[2] = row.active_neg;
    out[0] = {row.pos, T(n.positive), row.active_pos};
    out[1] = {row.neg, T(n.negative), row.active_neg};
  }
  template <class T>
  FR_TERM Scale<T> scale(const T* state, const T* grad) const {
    return {grad[0], -grad[1], state[0]};
  }
  template <class T>
  FR_TERM void input_gradient(const T* state, const T* grad, T* out) const {
    out[0] = grad[1] * state[2] - grad[0] * state[1];
  }

  template <class V>
  FR_TERM V slope_positive(V d, const Scale<V>& row) const {
    return row.positive * active(hinge_positive(d, row.border));
  }
  template <class V>
  FR_TERM V slope_negative(V d, const Scale<V>& row) const {
    return row.negative * active(hinge_negative(d, row.border));
  }
};

}  // namespace fused_rank
