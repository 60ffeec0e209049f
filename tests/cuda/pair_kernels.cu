// Those of the pair sweeps that run as PTX: a few terms are enough, and compile in a part of the time.
#include "coefficients.h"
#include "statistics.h"

namespace fused_rank::cuda {

const void* const kernels[] = {
    reinterpret_cast<const void*>(statistics_kernel<float, Contrastive>),
    reinterpret_cast<const void*>(finish_kernel<float, Contrastive>),
    reinterpret_cast<const void*>(coefficients_kernel<float, Contrastive>),
    reinterpret_cast<const void*>(statistics_kernel<float, RankedList<true>>),
    reinterpret_cast<const void*>(finish_kernel<float, RankedList<true>>),
    reinterpret_cast<const void*>(coefficients_kernel<float, RankedList<true>>),
    reinterpret_cast<const void*>(statistics_kernel<float, SoftplusPositives>),
    reinterpret_cast<const void*>(finish_kernel<float, SoftplusPositives>),
    reinterpret_cast<const void*>(coefficients_kernel<float, SoftplusPositives>),
    reinterpret_cast<const void*>(statistics_kernel<double, Contrastive>),
    reinterpret_cast<const void*>(finish_kernel<double, Contrastive>),
    reinterpret_cast<const void*>(coefficients_kernel<double, Contrastive>),
};

}  // namespace fused_rank::cuda
