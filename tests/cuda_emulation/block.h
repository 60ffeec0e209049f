// One block: its threads as fibers, and the rules of meeting.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "block_memory.h"
#include "context_switch.h"
#include "emulator.h"

namespace emulation {

constexpr unsigned kLanes = 32;

enum class State : uint8_t { ready, at_block_barrier, in_warp_operation, ended };

struct Thread {
  Context context;
  char* stack;
  uint3 index;
  unsigned number;  // in the block
  State state = State::ready;
  Where where;  // it waits

  Vote vote = Vote::none;  // block barriers
  bool predicate = false;

  Exchange exchange = nullptr;  // warp operations; null for a barrier of the warp
  unsigned mask = 0, argument = 0;
  uint64_t value = 0, result = 0;

  std::vector<std::vector<Copy>> copies{1};  // groups, the open one last
  size_t landed = 0;                         // copies of the first group

  // For the sanitizers. Two tags in turn: a fast thread's next arrival must not pass for this one.
  void *tsan_fiber = nullptr, *fake_stack = nullptr;
  char warp_tags[2];
  bool warp_turn = false, block_turn = false, fenced = false;
  const void* last_atomic = nullptr;
};

class Block {
 public:
  Block(dim3 grid, dim3 block, uint3 index, size_t shared_bytes, Body body, BlockMemory& memory,
        unsigned seed);
  void run();

  static Block* current();
  Thread& thread() { return *running_; }
  [[noreturn]] void fail_in_thread(const std::string& what, Where where);

  int block_barrier(Vote vote, bool predicate, Where where);
  uint64_t warp_exchange(Exchange exchange, unsigned mask, uint64_t value, unsigned argument, Where where);
  void warp_barrier(unsigned mask, Where where);
  void* dynamic_shared() { return dynamic_; }
  void* static_shared(const void* declaration, size_t bytes);

 private:
  static void entry();
  void resume(Thread& thread);
  void yield();
  void release_block_barrier();
  void release_warp(Thread& last);
  [[noreturn]] void explain_standstill();
  std::string describe(const std::string& what, const Thread& thread) const;

  const uint3 index_;
  const Body body_;
  std::vector<Thread> threads_;
  std::vector<unsigned> order_;
  unsigned turns_;  // rounds run so far, or what the seed starts with
  const bool shuffled_;
  SharedMemory& shared_;
  void* dynamic_;
  std::vector<std::pair<const void*, void*>> static_;  // by declaration

  Context scheduler_;
  Thread* running_ = nullptr;
  unsigned waiting_ = 0, ended_ = 0;  // threads at the barrier, threads that are done
  int votes_[4] = {};                 // the last barrier's results by Vote
  std::string failure_;

  void *tsan_scheduler_ = nullptr, *fake_stack_ = nullptr;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
  char begin_tag_, end_tag_, barrier_tags_[2];
};

}  // namespace emulation
