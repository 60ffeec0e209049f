// What the kernels need of CUDA. The tests compile them for the CPU, where this file, and no other, includes an emulation.
//
//   launch(kernel, grid, block, shared_bytes, stream, arguments...)    also as FR_LAUNCH(...)
//   FR_SHARED(float[64][68], tile)     a shared array of fixed size (a type with a comma needs an alias)
//   FR_DYNAMIC_SHARED(float, name)     float* to the dynamic shared memory of the launch, at a multiple of 16 bytes
//   async_copy16(to, from, inside)     16 bytes from global to shared memory, or 16 zero bytes where not inside
//   async_commit(), async_wait<N>()    close a group of copies; wait until at most N groups of this thread are open
//   multiply_add(a, b, c)              a b + c, rounded once
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace fused_rank {
using Stream = void*;  // a cudaStream_t
}

#define FR_DEVICE __device__ __forceinline__
#define FR_LAUNCH(...) ::fused_rank::launch(__VA_ARGS__)

#if defined(FUSED_RANK_CUDA_ON_CPU)

#include "cuda_on_cpu.h"

#else

#include <cuda_runtime.h>

#define FR_SHARED(T, name) __shared__ __align__(16) std::type_identity_t<T> name
#define FR_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char fr_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(fr_dynamic_shared)

namespace fused_rank {

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream,
            const A&... arguments) {
  constexpr size_t kWithoutAsking = 48 << 10;
  if (shared_bytes > kWithoutAsking)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(arguments...);
  check(cudaGetLastError());
}

FR_DEVICE void async_copy16(void* to, const void* from, bool inside = true) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(__cvta_generic_to_global(from)), "r"(inside ? 16 : 0)
               : "memory");
#else
  *static_cast<uint4*>(to) = inside ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
#endif
}
FR_DEVICE void async_commit() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N>
FR_DEVICE void async_wait() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

}  // namespace fused_rank

#endif

namespace fused_rank {

FR_DEVICE float multiply_add(float a, float b, float c) { return ::fmaf(a, b, c); }
FR_DEVICE double multiply_add(double a, double b, double c) { return ::fma(a, b, c); }

}  // namespace fused_rank
