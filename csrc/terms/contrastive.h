// Contrastive loss (Hadsell, Chopra, LeCun 2006): positive pairs pay max(0, d - pos_margin)^p, negative pairs
// max(0, neg_margin - d)^p, with p = 2 (the paper) or p = 1.
#pragma once

#include "term.h"

namespace fused_rank {

struct Contrastive {
  static constexpr int kChannels = 2;  // positive, negative
  static constexpr int kState = 0;
  static constexpr bool kSeparable = true;

  double pos_margin, neg_margin;
  bool squared;

  static Contrastive from(const double* p) { return {p[0], p[1], p[2] == 2.0}; }

  template <class V>
  struct Row {
    V pos{}, neg{}, active_pos{}, active_neg{};
  };

  // d loss / d distance of a pair is  positive * h^(p-1) * p  and  -negative * h^(p-1) * p.
  template <class V>
  struct Scale {
    V positive, negative;
  };
  template <class T>
  FR_TERM static Scale<T> unit() {
    return {T(1), T(1)};
  }

  template <class V>
  FR_TERM void fold_positive(Row<V>& row, V d) const {
    const V h = max(d - V(number<V>(pos_margin)), V(number<V>(0)));
    row.pos += squared ? h * h : h;
    row.active_pos += select(h > V(number<V>(0)), V(number<V>(1)), V(number<V>(0)));
  }
  template <class V>
  FR_TERM void fold_negative(Row<V>& row, V d) const {
    const V h = max(V(number<V>(neg_margin)) - d, V(number<V>(0)));
    row.neg += squared ? h * h : h;
    row.active_neg += select(h > V(number<V>(0)), V(number<V>(1)), V(number<V>(0)));
  }
  template <class V>
  FR_TERM void merge(Row<V>& into, const Row<V>& from) const {
    add_members<V>(into, from);
  }

  template <class V>
  FR_TERM auto negative_is_dead(V d) const {
    return d >= V(number<V>(neg_margin));
  }
  template <class T>
  FR_TERM bool alive(const Row<T>& row) const {
    return row.active_pos + row.active_neg > T(0);
  }

  template <class T>
  FR_TERM void finish(const Row<T>& row, PairCounts n, Channels<T>* out, T*) const {
    out[0] = {row.pos, T(n.positive), row.active_pos};
    out[1] = {row.neg, T(n.negative), row.active_neg};
  }
  template <class T>
  FR_TERM Scale<T> scale(const T*, const T* grad) const {
    return {grad[0], grad[1]};
  }

  template <class V>
  FR_TERM V slope_positive(V d, const Scale<V>& row) const {
    const V h = max(d - V(number<V>(pos_margin)), V(number<V>(0)));
    return row.positive * (squared ? h + h : select(h > V(number<V>(0)), V(number<V>(1)), V(number<V>(0))));
  }
  template <class V>
  FR_TERM V slope_negative(V d, const Scale<V>& row) const {
    const V h = max(V(number<V>(neg_margin)) - d, V(number<V>(0)));
    return -row.negative * (squared ? h + h : select(h > V(number<V>(0)), V(number<V>(1)), V(number<V>(0))));
  }
};

}  // namespace fused_rank
