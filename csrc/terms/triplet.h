// Triplet margin losses: one number per (anchor, positive, negative), from the two distances of the anchor.
//   hinge  max(0, d_ap - d_an + margin)          (Schroff et al. 2015; Hermans et al. 2017)
//   soft   log(1 + exp(d_ap - d_an + margin))    (Hermans et al. 2017 with margin = 0)
// A band keeps only the triplets with 0 < d_an - d_ap <= margin.
#pragma once

#include "term.h"

namespace fused_rank {

template <bool Soft>
struct TripletMargin {
  double margin;
  bool band;

  template <class V>
  FR_TERM static V num(double x) {
    return V(number<V>(x));
  }

  // Is the triplet part of the loss?
  template <class V>
  FR_TERM auto admits(V ap, V an) const {
    const auto farther = an > ap;
    const auto near = an - ap <= num<V>(margin);
    return band ? farther & near : an < num<V>(kNoPair);
  }
  template <class V>
  FR_TERM V loss(V ap, V an) const {
    const V violation = (ap - an) + num<V>(margin), zero = num<V>(0);
    return select(admits(ap, an), Soft ? softplus(violation) : max(violation, zero), zero);
  }
  // Is its loss above zero? Softplus always is, even where it rounds to it.
  template <class V>
  FR_TERM auto is_active(V ap, V an) const {
    const auto admitted = admits(ap, an);
    if constexpr (Soft) return admitted;
    else return admitted & ((ap - an) + num<V>(margin) > num<V>(0));
  }
  // d loss / d d_ap, and minus d loss / d d_an.
  template <class V>
  FR_TERM V slope(V ap, V an) const {
    const V violation = (ap - an) + num<V>(margin), zero = num<V>(0);
    const V hinge = select(violation > zero, num<V>(1), zero);
    return select(admits(ap, an), Soft ? sigmoid(violation) : hinge, zero);
  }

  static constexpr double kNoPair = 1e38;  // a distance beyond any real one marks what is not a negative
};

}  // namespace fused_rank
