// Coefficients of a strip, for every term.
#include "coefficients.h"

namespace fused_rank::cuda {

template <class T>
void coefficients(const Pairs<T>& pairs, const TermChoice& choice, const Strip& strip,
                  const Coefficients<T>& io, Stream stream) {
  if (strip.rows == 0 || strip.columns == 0) return;
  with_choice(choice, [&]<class Term>() {
    launch(coefficients_kernel<T, Term>, strip_grid<T>(strip), dim3(kThreads), 0, stream, pairs,
           Term::from(choice.params), strip, io);
  });
}
template void coefficients(const Pairs<float>&, const TermChoice&, const Strip&, const Coefficients<float>&,
                           Stream);
template void coefficients(const Pairs<double>&, const TermChoice&, const Strip&, const Coefficients<double>&,
                           Stream);

}  // namespace fused_rank::cuda
