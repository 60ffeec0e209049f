// Ranked list loss (Wang et al., CVPR 2019), with b = alpha - margin, over P* = {positive, d > b}, N* = {negative, d < alpha}:
//   L_P = sum_P* w_p (d - b) / (sum w_p + eps),            w_p = exp(temperature_pos (d - b))
//   L_N = sum_N* w_n (alpha - d) / (sum_N* w_n + eps),     w_n = exp(temperature_neg (alpha - d))
//   L   = pos_weight L_P + neg_weight L_N
// The sum of w_p runs over P* or, with positive_mean_all, over every positive (an inactive one weighs exp(0) = 1).
//
// Online = false: the exponents are known to be small, so all weights share one fixed shift and add up in any order.
// Online = true: each row keeps the hardest pair seen so far and rescales to it, as a streaming softmax does.
#pragma once

#include "term.h"

namespace fused_rank {

template <class V, bool Online>
struct RankedListRow {
  V pos{}, pos_mass{}, neg{}, neg_mass{};
};

template <class V>
struct RankedListRow<V, true> {
  V pos{}, pos_mass{}, neg{}, neg_mass{};
  V excess{};                  // largest d - b among positives, 0 if there is none
  V nearest{number<V>(1e30)};  // smallest d among active negatives
};

// slope_positive = w_p (positive (1 + t (d - b)) - positive_bias), slope_negative likewise; t = 0 for constant weights.
template <class V>
struct RankedListScale {
  V positive, negative, positive_bias, negative_bias, excess, nearest;
};

template <bool Online>
struct RankedList {
  static constexpr int kChannels = 1;
  static constexpr int kState = 6;  // 1/mass, L of the negatives; 1/mass, L of the positives; excess, nearest
  static constexpr bool kSeparable = !Online;

  template <class V>
  using Row = RankedListRow<V, Online>;
  template <class V>
  using Scale = RankedListScale<V>;

  double alpha, border, temperature_neg, temperature_pos, pos_weight, neg_weight, eps;
  bool exact, positive_mean_all;

  static RankedList from(const double* p) {
    return {p[0], p[0] - p[1], p[2], p[3], p[4], p[5], p[8], p[6] != 0.0, p[7] != 0.0};
  }
  // Can no weight leave the range of a float under the fixed shift?
  bool is_bounded(double reach) const {
    return temperature_neg * alpha <= 120.0 &&
           (temperature_pos == 0.0 || temperature_pos * (reach - border) <= 60.0);
  }
  template <class T>
  FR_TERM static Scale<T> unit() {
    return {T(1), T(1), T(0), T(0), T(0), T(0)};
  }

  template <class V>
  FR_TERM static V num(double x) {
    return V(number<V>(x));
  }

  // The weight of a pair relative to the fixed shift or, online, to a row's hardest pair.
  template <class V>
  FR_TERM V weight_positive(V h, V excess) const {
    return exp(num<V>(temperature_pos) * (Online ? h - excess : h));
  }
  template <class V>
  FR_TERM V weight_negative(V d, V nearest) const {
    return exp(num<V>(temperature_neg) * ((Online ? nearest : num<V>(0.5 * alpha)) - d));
  }

  template <class V>
  FR_TERM void fold_positive(Row<V>& row, V d) const {
    const V zero = num<V>(0), h = max(d - num<V>(border), zero);
    V w = num<V>(1);
    if constexpr (Online) {
      const V excess = max(row.excess, h);
      const V shrink = exp(num<V>(temperature_pos) * (row.excess - excess));
      row.pos *= shrink;
      row.pos_mass *= shrink;
      row.excess = excess;
      w = weight_positive(h, excess);
    } else if (temperature_pos != 0.0) {
      w = weight_positive(h, zero);
    }
    row.pos += w * h;
    row.pos_mass += positive_mean_all ? w : select(h > zero, w, zero);
  }

  template <class V>
  FR_TERM void fold_negative(Row<V>& row, V d) const {
    const V zero = num<V>(0);
    const auto active = d < num<V>(alpha);
    V nearest = zero;
    if constexpr (Online) {
      nearest = select(active, min(row.nearest, d), row.nearest);
      const V shrink = exp(num<V>(temperature_neg) * (nearest - row.nearest));
      row.neg *= shrink;
      row.neg_mass *= shrink;
      row.nearest = nearest;
    }
    const V w = select(active, weight_negative(d, nearest), zero);
    row.neg += w * select(active, num<V>(alpha) - d, zero);
    row.neg_mass += w;
  }

  template <class V>
  FR_TERM void merge(Row<V>& into, const Row<V>& from) const {
    if constexpr (Online) {
      Row<V> other = from;
      rescale(other, max(into.excess, from.excess), min(into.nearest, from.nearest));
      rescale(into, other.excess, other.nearest);
      into.pos += other.pos;
      into.pos_mass += other.pos_mass;
      into.neg += other.neg;
      into.neg_mass += other.neg_mass;
    } else {
      add_members<V>(into, from);
    }
  }
  template <class V>
  FR_TERM void rescale(Row<V>& row, V excess, V nearest) const {
    const V p = exp(num<V>(temperature_pos) * (row.excess - excess));
    const V n = exp(num<V>(temperature_neg) * (nearest - row.nearest));
    row.pos *= p;
    row.pos_mass *= p;
    row.neg *= n;
    row.neg_mass *= n;
    row.excess = excess;
    row.nearest = nearest;
  }

  template <class V>
  FR_TERM auto negative_is_dead(V d) const {
    return d >= num<V>(alpha);
  }
  template <class T>
  FR_TERM bool alive(const Row<T>& row) const {
    return row.pos > T(0) || row.neg_mass > T(0);
  }

  template <class T>
  FR_TERM void finish(const Row<T>& row, PairCounts, Channels<T>* out, T* state) const {
    double pos_shift = 0.0,
           neg_shift = 0.5 * alpha * temperature_neg;  // logarithms of what the masses were divided by
    state[4] = state[5] = T(0);
    if constexpr (Online) {
      pos_shift = temperature_pos * row.excess;
      neg_shift = row.neg_mass > T(0) ? temperature_neg * (alpha - row.nearest) : 0.0;
      state[4] = row.excess;
      state[5] = row.nearest;
    }
    const double pos_mass = row.pos_mass + eps * ::exp(-pos_shift);
    const double neg_mass = row.neg_mass + eps * ::exp(-neg_shift);
    const double inverse_pos = row.pos_mass > T(0) ? 1.0 / pos_mass : 0.0;
    const double inverse_neg = row.neg_mass > T(0) ? 1.0 / neg_mass : 0.0;
    state[0] = T(inverse_neg);
    state[1] = T(row.neg * inverse_neg);
    state[2] = T(inverse_pos);
    state[3] = T(row.pos * inverse_pos);
    const T loss = T(pos_weight * state[3] + neg_weight * state[1]);
    out[0] = {loss, T(1), loss > T(0) ? T(1) : T(0)};
  }

  template <class T>
  FR_TERM Scale<T> scale(const T* state, const T* grad) const {
    const T positive = T(pos_weight) * grad[0] * state[2], negative = T(neg_weight) * grad[0] * state[0];
    const T tp = exact ? T(temperature_pos) : T(0), tn = exact ? T(temperature_neg) : T(0);
    return {positive, negative, positive * tp * state[3], negative * tn * state[1], state[4], state[5]};
  }

  template <class V>
  FR_TERM V slope_positive(V d, const Scale<V>& row) const {
    const V zero = num<V>(0), h = d - num<V>(border);
    V slope = row.positive;
    if (Online || temperature_pos != 0.0) {
      const V t = num<V>(exact ? temperature_pos : 0.0);
      slope = weight_positive(h, row.excess) * (row.positive * (num<V>(1) + t * h) - row.positive_bias);
    }
    return select(h > zero, slope, zero);
  }
  template <class V>
  FR_TERM V slope_negative(V d, const Scale<V>& row) const {
    const V zero = num<V>(0), h = num<V>(alpha) - d;
    const V t = num<V>(exact ? temperature_neg : 0.0);
    const V slope =
        weight_negative(d, row.nearest) * (row.negative_bias - row.negative * (num<V>(1) + t * h));
    return select(d < num<V>(alpha), slope, zero);
  }
};

}  // namespace fused_rank
