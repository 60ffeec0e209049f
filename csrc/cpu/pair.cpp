#include "pair_run.h"

namespace fused_rank {

TermLayout term_layout(const std::string& term) {
  if (term == kMidpoints) return {1, 0, 0, 1};
  const double params[16] = {};
  return with_term(term, params, 0.0, []<class Term>() {
    return TermLayout{Term::kChannels, Term::kState, kInputs<Term>, kWholeRows<Term> ? 1 : 2};
  });
}

template void pair_forward<float>(const PairProblem&, const PairForward<float>&, Workers&);
template void pair_backward<float>(const PairProblem&, const PairBackward<float>&, Workers&);

}  // namespace fused_rank
