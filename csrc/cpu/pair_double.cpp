#include "pair_run.h"

namespace fused_rank {

template void pair_forward<double>(const PairProblem&, const PairForward<double>&, Workers&);
template void pair_backward<double>(const PairProblem&, const PairBackward<double>&, Workers&);

}  // namespace fused_rank
