// Small kernels that keep or break one rule each, for tests/cuda/test_emulation.py: `rules NAME SEED` prints ok or what is wrong.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "device.h"

using namespace fused_rank;

namespace {

constexpr int kThreads = 64, kBlocks = 3;

void expect(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(std::string("wrong: ") + what);
}

template <class... P, class... A>
void run(void (*kernel)(P...), const A&... arguments) {
  launch(kernel, dim3(kBlocks), dim3(kThreads), kThreads * sizeof(int), nullptr, arguments...);
}

__global__ void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* mine = out + 6 * (blockIdx.x * kThreads + threadIdx.x);
  mine[0] = __shfl_sync(~0u, lane, lane + 3, 8);
  mine[1] = __shfl_xor_sync(~0u, lane, 16);
  mine[2] = __shfl_up_sync(~0u, lane, 2);
  mine[3] = __shfl_down_sync(~0u, lane, 30);
  mine[4] = static_cast<int>(__ballot_sync(~0u, lane % 2));
  mine[5] = __reduce_max_sync(~0u, lane ^ 5) + __popc(__ballot_sync(~0u, 1));
}
void check_shuffles() {
  std::vector<int> out(6 * kBlocks * kThreads);
  run(shuffles, out.data());
  for (int t = 0; t < kBlocks * kThreads; ++t) {
    const int lane = t % 32, *mine = &out[static_cast<size_t>(6 * t)];
    expect(mine[0] == lane / 8 * 8 + (lane + 3) % 8, "__shfl_sync");
    expect(mine[1] == (lane ^ 16), "__shfl_xor_sync");
    expect(mine[2] == (lane >= 2 ? lane - 2 : lane), "__shfl_up_sync");
    expect(mine[3] == (lane < 2 ? lane + 30 : lane), "__shfl_down_sync");
    expect(static_cast<unsigned>(mine[4]) == 0xaaaaaaaau, "__ballot_sync");
    expect(mine[5] == 31 + 32, "__reduce_max_sync");
  }
}

__global__ void votes(int* out) {
  const int first = threadIdx.x == 0;
  const bool counted = __syncthreads_count(threadIdx.x < 40) == 40;
  const bool one = __syncthreads_or(first) && !__syncthreads_and(first);
  if (counted && one) atomicAdd(out, 1);
}
void check_votes() {
  int count = 0;
  run(votes, &count);
  expect(count == kBlocks * kThreads, "__syncthreads_count, _or, _and");
}

__global__ void copies(const float* from, float* to, bool wait) {
  FR_SHARED(float[kThreads][4], tile);
  const unsigned t = threadIdx.x;
  async_copy16(tile[t], from + 4 * t, t % 2 == 0);
  async_commit();
  const bool landed = tile[t][0] == tile[t][0];
  if (wait) async_wait<0>();
  to[t] = landed ? -1.0f : tile[t][0] + tile[t][3];
}
void check_copies(bool wait) {
  std::vector<float> from(4 * kThreads, 2.0f), to(kThreads);
  float* aligned = static_cast<float*>(std::aligned_alloc(16, 16 * kThreads));
  std::copy(from.begin(), from.end(), aligned);
  launch(copies, dim3(1), dim3(kThreads), 0, nullptr, aligned, to.data(), wait);
  for (int t = 0; t < kThreads; ++t) expect(to[static_cast<size_t>(t)] == (t % 2 ? 0.0f : 4.0f), "cp.async");
  std::free(aligned);
}

__global__ void fills(int* out) {
  FR_SHARED(float[kThreads], fixed);
  FR_DYNAMIC_SHARED(float, dynamic);
  if (fixed[threadIdx.x] != fixed[threadIdx.x] && dynamic[threadIdx.x] != dynamic[threadIdx.x])
    atomicAdd(out, 1);
  fixed[threadIdx.x] = dynamic[threadIdx.x] = 0;
}
void check_fills() {
  int count = 0;
  run(fills, &count);
  expect(count == kBlocks * kThreads, "shared memory begins as NaN in every block");
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 32) __syncthreads();
}
__global__ void different_barriers() {
  if (threadIdx.x < 32) __syncthreads();
  else __syncthreads();
}
__global__ void not_in_mask() { __ballot_sync(0xffff, 1); }
__global__ void lane_elsewhere() {
  if (threadIdx.x % 32 == 5) __syncthreads();
  else __syncwarp();
  __syncthreads();
}
__global__ void ended_lane() {
  if (threadIdx.x % 32 == 0) return;
  __syncwarp();
}
__global__ void misaligned() {
  FR_SHARED(float[8], tile);
  async_copy16(tile + 1, tile, false);
}
__global__ void too_much_shared() {
  FR_SHARED(float[64 << 10], tile);
  tile[threadIdx.x] = 0;
}
__global__ void past_the_end() {
  FR_SHARED(float[kThreads], tile);
  float* values = tile;
  values[threadIdx.x + 1] = 0;
}
__global__ void race(int* out, bool barrier) {
  FR_SHARED(int[kThreads], tile);
  tile[threadIdx.x] = 1;
  if (barrier) __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}
__global__ void race_in_a_warp(int* out, bool barrier) {
  FR_SHARED(int[kThreads], tile);
  tile[threadIdx.x] = 1;
  if (barrier) __syncwarp();
  out[blockIdx.x * kThreads + threadIdx.x] = tile[threadIdx.x ^ 1];
}
__global__ void race_of_blocks(int* out, bool atomic) {
  if (threadIdx.x != 0) return;
  if (atomic) atomicAdd(out, 1);
  else ++*out;
}
// The last block to come adds up what the others wrote.
__global__ void last_block(int* parts, int* count, int* total) {
  if (threadIdx.x != 0) return;
  parts[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
  __threadfence();
  if (atomicAdd(count, 1) != kBlocks - 1) return;
  __threadfence();
  for (int b = 0; b < kBlocks; ++b) *total += parts[b];
}
void check_last_block() {
  int parts[kBlocks], count = 0, total = 0;
  run(last_block, static_cast<int*>(parts), &count, &total);
  expect(total == 6, "fenced atomics");
}

void check_race(void (*kernel)(int*, bool), bool safe) {
  std::vector<int> out(kBlocks * kThreads);
  run(kernel, out.data(), safe);
}

const std::map<std::string, void (*)()> kRules = {
    {"shuffles", check_shuffles},
    {"votes", check_votes},
    {"copies", [] { check_copies(true); }},
    {"copies without a wait", [] { check_copies(false); }},
    {"fills", check_fills},
    {"divergent barrier", [] { run(divergent_barrier); }},
    {"different barriers", [] { run(different_barriers); }},
    {"not in mask", [] { run(not_in_mask); }},
    {"lane elsewhere", [] { run(lane_elsewhere); }},
    {"ended lane", [] { run(ended_lane); }},
    {"misaligned", [] { run(misaligned); }},
    {"too much shared", [] { run(too_much_shared); }},
    {"too many threads", [] { launch(not_in_mask, dim3(1), dim3(1025), 0, nullptr); }},
    {"empty grid", [] { launch(not_in_mask, dim3(0), dim3(32), 0, nullptr); }},
    {"past the end", [] { run(past_the_end); }},
    {"race", [] { check_race(race, false); }},
    {"no race", [] { check_race(race, true); }},
    {"race in a warp", [] { check_race(race_in_a_warp, false); }},
    {"no race in a warp", [] { check_race(race_in_a_warp, true); }},
    {"race of blocks", [] { check_race(race_of_blocks, false); }},
    {"no race of blocks", [] { check_race(race_of_blocks, true); }},
    {"last block", check_last_block},
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  emulation::set_seed(static_cast<unsigned>(std::atoi(arguments[2])));
  try {
    kRules.at(arguments[1])();
    std::puts("ok");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
