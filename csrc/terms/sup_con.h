// Supervised contrastive loss (Khosla et al., NeurIPS 2020); with a gallery, InfoNCE (van den Oord et al., 2018).
// With logits l = scale * d, over all pairs j and the P positives p of a query:
//   L = log sum_j exp(l_j) - mean_p l_p,   nothing without positives
//   dL/dl_n = e_n / (E_P + E_N),   dL/dl_p = (P e_p - E_P - E_N) / (P (E_P + E_N)),   e = exp(l), E_P = sum_p e_p, ...
// Positives and negatives are summed apart: for one positive P e_p - E_P is exactly 0, and what remains, E_N, keeps its digits
// however small it is.
#pragma once

#include "log_sum.h"

namespace fused_rank {

template <bool Online>
struct SupCon {
  static constexpr int kChannels = 1;
  static constexpr int kState = 4;  // E_P, E_N, P, and the logit that the sums are relative to
  static constexpr bool kSeparable = false;
  static constexpr bool kWholeRows = true;

  template <class V>
  struct Row {
    V logits{};  // sum over positives
    LogSum<V, Online> positive{}, negative{};
  };
  template <class V>
  struct Scale {
    V push, pull, positives, positive_mass, negative_mass, peak;
  };

  double scale_, shift;

  // The shift cancels; it centres the logits of distances from 0 to 2.
  static SupCon from(const double* p) { return {p[0], -p[0]}; }
  bool is_bounded(double reach) const {
    return ::fabs(shift) <= kSafeLogit && ::fabs(scale_ * reach + shift) <= kSafeLogit;
  }

  template <class V>
  FR_TERM V logit(V d) const {
    return V(number<V>(scale_)) * d + V(number<V>(shift));
  }

  template <class V>
  FR_TERM void fold_positive(Row<V>& row, V d) const {
    const V l = logit(d);
    row.logits += l;
    row.positive.add(l);
  }
  template <class V>
  FR_TERM void fold_negative(Row<V>& row, V d) const {
    row.negative.add(logit(d));
  }
  template <class V>
  FR_TERM void merge(Row<V>& into, const Row<V>& from) const {
    into.logits += from.logits;
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
    const double count = static_cast<double>(n.positive);
    const T peak = max(row.positive.peak(), row.negative.peak());
    state[0] = T(row.positive.total * ::exp(static_cast<double>(row.positive.peak() - peak)));
    state[1] = T(row.negative.total * ::exp(static_cast<double>(row.negative.peak() - peak)));
    state[2] = T(count);
    state[3] = peak;
    out[0] = {T(0), T(0), T(0)};
    if (n.positive == 0) return;
    const double positive = log_of(row.positive), negative = log_of(row.negative);
    const double uneven =
        n.positive == 1 ? 0.0 : positive - row.logits / count;  // 0 where positives are alike
    const T loss = T(uneven + softplus(negative - positive));
    out[0] = {loss, T(1), loss > T(0) ? T(1) : T(0)};
  }

  template <class T>
  FR_TERM Scale<T> scale(const T* state, const T* grad) const {
    if (state[2] == T(0))
      return {T(0), T(0), T(0), T(0), T(0), state[3]};  // exponentials stay finite: 0 times them is 0
    const T push = T(scale_) * grad[0] / (state[0] + state[1]);
    return {push, push / state[2], state[2], state[0], state[1], state[3]};
  }

  template <class V>
  FR_TERM V slope_positive(V d, const Scale<V>& row) const {
    const V e = weight<Online>(logit(d), row.peak);
    return row.pull * ((row.positives * e - row.positive_mass) - row.negative_mass);
  }
  template <class V>
  FR_TERM V slope_negative(V d, const Scale<V>& row) const {
    return row.push * weight<Online>(logit(d), row.peak);
  }
};

}  // namespace fused_rank
