#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "block.h"
#include "sanitizers.h"

namespace emulation {
namespace {

unsigned order_seed = 0;
std::atomic<uint64_t> blocks{0};

constexpr unsigned kFibers = 2048;  // at one time; ThreadSanitizer takes about a millisecond to make one

// Of blocks that run at one time, each has its own.
BlockMemory& memory_of(size_t i) {
  static std::vector<std::unique_ptr<BlockMemory>> memories;
  while (memories.size() <= i) memories.push_back(std::make_unique<BlockMemory>());
  return *memories[i];
}

void check_launch(dim3 grid, dim3 block, size_t shared_bytes) {
  const auto refuse = [](const char* why) {
    throw std::runtime_error(std::string("invalid launch: ") + why);
  };
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64)
    refuse("1 to 1024 threads make a block, 64 at most along z");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) refuse("an empty grid");
  if (grid.x > 0x7fffffffu || grid.y > 0xffff || grid.z > 0xffff) refuse("the grid is too large");
  if (shared_bytes > SharedMemory::kBytes) refuse("more than 99 KiB of shared memory");
}

}  // namespace

Observer observer = nullptr;

void set_seed(unsigned seed) { order_seed = seed; }
uint64_t blocks_run() { return blocks; }

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, Body body) {
  check_launch(grid, block, shared_bytes);
  const unsigned seed = order_seed;
  std::vector<uint64_t> order(uint64_t(grid.x) * grid.y * grid.z);
  std::iota(order.begin(), order.end(), uint64_t(0));
  if (seed) std::shuffle(order.begin(), order.end(), std::minstd_rand(seed));
  const auto run_block = [&](uint64_t i, BlockMemory& memory) {
    const uint3 index{static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                      static_cast<unsigned>(i / (uint64_t(grid.x) * grid.y))};
    Block(grid, block, index, shared_bytes, body, memory, seed ? seed + static_cast<unsigned>(i) : 0).run();
    ++blocks;
  };
  if (!thread_sanitizer()) {
    for (const uint64_t i : order) run_block(i, memory_of(0));
    return;
  }
  // Each block has a thread of the system, so that nothing but atomics orders blocks.
  std::exception_ptr failure;
  std::mutex mutex;
  const uint64_t together = std::max(1u, kFibers / (block.x * block.y * block.z));
  for (uint64_t begin = 0; begin < order.size() && !failure; begin += together) {
    std::vector<std::thread> threads;
    for (uint64_t k = begin; k < std::min<uint64_t>(order.size(), begin + together); ++k)
      threads.emplace_back([&, k, &memory = memory_of(k - begin)] {
        try {
          run_block(order[k], memory);
        } catch (...) {
          const std::lock_guard lock(mutex);
          failure = std::current_exception();
        }
      });
    for (std::thread& thread : threads) thread.join();
  }
  if (failure) std::rethrow_exception(failure);
}

void fail(const char* what, Where where) { Block::current()->fail_in_thread(what, where); }
unsigned lane() { return Block::current()->thread().number % kLanes; }
void* dynamic_shared() { return Block::current()->dynamic_shared(); }
void* static_shared(const void* declaration, size_t bytes) {
  return Block::current()->static_shared(declaration, bytes);
}

int block_barrier(Vote vote, bool predicate, Where where) {
  return Block::current()->block_barrier(vote, predicate, where);
}
uint64_t warp_exchange(Exchange exchange, unsigned mask, uint64_t value, unsigned argument, Where where) {
  return Block::current()->warp_exchange(exchange, mask, value, argument, where);
}
void warp_barrier(unsigned mask, Where where) { Block::current()->warp_barrier(mask, where); }

void before_atomic(const void* address) {
  Thread& thread = Block::current()->thread();
  thread.last_atomic = address;
  if (thread.fenced) release(address);
}
void fence() {
  Thread& thread = Block::current()->thread();
  thread.fenced = true;
  if (thread.last_atomic) acquire(thread.last_atomic);
}

void issue_copy(Copy copy) { Block::current()->thread().copies.back().push_back(copy); }
void close_copies() { Block::current()->thread().copies.emplace_back(); }
bool next_landing(unsigned open, Copy& copy) {
  Thread& thread = Block::current()->thread();
  while (thread.copies.size() > open + 1) {
    if (thread.landed < thread.copies.front().size()) {
      copy = thread.copies.front()[thread.landed++];
      return true;
    }
    thread.copies.erase(thread.copies.begin());
    thread.landed = 0;
  }
  return false;
}

}  // namespace emulation
