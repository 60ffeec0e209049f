#include "pair.h"

#include "../terms/terms.h"
#include "pair_sweep.h"

namespace fused_rank {

TermLayout term_layout(const std::string& term) {
  const double params[16] = {};
  return with_term(term, params, 0.0,
                   []<class Term>() { return TermLayout{Term::kChannels, Term::kState, kInputs<Term>}; });
}

template <class T>
void pair_forward(const PairProblem& problem, const PairForward<T>& out, Workers& workers) {
  with_term(problem.term, problem.params.data(), problem.input.reach(), [&]<class Term>() {
    if (out.fused != Fused::none && (!Term::kSeparable || kInputs<Term> > 0 || problem.input.symmetric))
      throw std::invalid_argument(problem.term + " cannot be fused with these parameters");
    PairSweep<T, Term>(problem, workers).forward(out);
  });
}

template <class T>
void pair_backward(const PairProblem& problem, const PairBackward<T>& io, Workers& workers) {
  with_term(problem.term, problem.params.data(), problem.input.reach(), [&]<class Term>() {
    PairSweep<T, Term> sweep(problem, workers);
    if constexpr (Term::kSeparable) {
      if (io.fused != Fused::none) return sweep.backward_from_unit(io);
    }
    sweep.backward(io);
  });
}

template void pair_forward<float>(const PairProblem&, const PairForward<float>&, Workers&);
template void pair_forward<double>(const PairProblem&, const PairForward<double>&, Workers&);
template void pair_backward<float>(const PairProblem&, const PairBackward<float>&, Workers&);
template void pair_backward<double>(const PairProblem&, const PairBackward<double>&, Workers&);

}  // namespace fused_rank
