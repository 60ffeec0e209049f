// What backward needs of each row: its scale, and the gradient of its inputs.
#include "term_access.h"

namespace fused_rank::cuda {
namespace {

template <class T, class Term>
__global__ void __launch_bounds__(kThreads) scales_kernel(Term term, Scales<T> io) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= io.size) return;
  T state[Term::kState + 1], grad[Term::kChannels];
#pragma unroll
  for (int k = 0; k < Term::kState; ++k) state[k] = io.state[k * io.size + row];
#pragma unroll
  for (int c = 0; c < Term::kChannels; ++c) grad[c] = io.grad_sums[c * io.size + row];
  if (io.scales) store_members<T>(term.scale(state, grad), io.scales, io.size, row);
  if constexpr (kInputs<Term> > 0) {
    if (!io.grad_inputs) return;
    T out[kInputs<Term>];
    term.input_gradient(state, grad, out);
#pragma unroll
    for (int k = 0; k < kInputs<Term>; ++k) io.grad_inputs[k * io.size + row] = out[k];
  }
}

}  // namespace

template <class T>
void scales(const TermChoice& choice, const Scales<T>& io, Stream stream) {
  if (io.size == 0) return;
  with_choice(choice, [&]<class Term>() {
    launch(scales_kernel<T, Term>, dim3(static_cast<unsigned>(tiles_of(io.size, kThreads))), dim3(kThreads),
           0, stream, Term::from(choice.params), io);
  });
}
template void scales(const TermChoice&, const Scales<float>&, Stream);
template void scales(const TermChoice&, const Scales<double>&, Stream);

}  // namespace fused_rank::cuda
