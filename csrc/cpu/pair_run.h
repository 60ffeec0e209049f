// What pair.h declares, for the two files that compile it: one a number type, since every term is instantiated in each.
#pragma once

#include "../terms/terms.h"
#include "midpoints.h"
#include "pair.h"
#include "pair_strips.h"
#include "pair_sweep.h"

namespace fused_rank {

template <class T>
void pair_forward(const PairProblem& problem, const PairForward<T>& out, Workers& workers) {
  if (problem.term == kMidpoints) return Midpoints<T>(problem, workers).forward(out);
  with_term(problem.term, problem.params.data(), problem.input.reach(), [&]<class Term>() {
    const bool one_way = !problem.input.self() && !problem.input.symmetric;
    if constexpr (kWholeRows<Term>) {
      if (out.fused != Fused::none && one_way) return PairStrips<T, Term>(problem, workers).forward(out);
    }
    if (out.fused != Fused::none && (!Term::kSeparable || kInputs<Term> > 0 || problem.input.symmetric))
      throw std::invalid_argument(problem.term + " cannot be fused with these parameters");
    PairSweep<T, Term>(problem, workers).forward(out);
  });
}

template <class T>
void pair_backward(const PairProblem& problem, const PairBackward<T>& io, Workers& workers) {
  if (problem.term == kMidpoints)
    return io.fused != Fused::none ? scale_unit_gradients<T>(problem, io, workers)
                                   : Midpoints<T>(problem, workers).backward(io);
  with_term(problem.term, problem.params.data(), problem.input.reach(), [&]<class Term>() {
    if constexpr (kWholeRows<Term>) {
      if (io.fused != Fused::none) return backward_of_strips<T, Term>(problem, io, workers);
    }
    PairSweep<T, Term> sweep(problem, workers);
    if constexpr (Term::kSeparable) {
      if (io.fused != Fused::none) return sweep.backward_from_unit(io);
    }
    sweep.backward(io);
  });
}

}  // namespace fused_rank
