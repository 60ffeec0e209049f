#include "block.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <numeric>
#include <random>
#include <stdexcept>

#include "sanitizers.h"

EMULATION_LOCAL uint3 threadIdx{};
EMULATION_LOCAL uint3 blockIdx{};
EMULATION_LOCAL dim3 blockDim{};
EMULATION_LOCAL dim3 gridDim{};

namespace emulation {
namespace {

thread_local Block* current_block = nullptr;

std::string text(uint3 i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}
std::string text(Where where) { return std::string(where.file) + ":" + std::to_string(where.line); }

}  // namespace

Block* Block::current() { return current_block; }

Block::Block(dim3 grid, dim3 block, uint3 index, size_t shared_bytes, Body body, BlockMemory& memory,
             unsigned seed)
    : index_(index), body_(body), threads_(size_t(block.x) * block.y * block.z), order_(threads_.size()),
      turns_(seed), shuffled_(seed != 0), shared_(memory.shared) {
  shared_.clear();
  dynamic_ = shared_.take(shared_bytes);
  blockIdx = index;
  blockDim = block;
  gridDim = grid;
  std::iota(order_.begin(), order_.end(), 0u);
  if (shuffled_) std::shuffle(order_.begin(), order_.end(), std::minstd_rand(seed));
  if (thread_sanitizer()) tsan_scheduler_ = __tsan_get_current_fiber();
  for (unsigned i = 0; i < threads_.size(); ++i) {
    Thread& thread = threads_[i];
    thread.number = i;
    thread.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    thread.stack = memory.stacks.at(i);
    if (thread_sanitizer()) thread.tsan_fiber = memory.fibers.at(i);
    make_context(thread.context, thread.stack, Stacks::kBytes, entry);
  }
}

// Every round lets each thread that can run do so, beginning somewhere else in the shuffled order.
void Block::run() {
  current_block = this;
  release(&begin_tag_);
  const size_t count = threads_.size();
  while (ended_ < count && failure_.empty()) {
    const size_t start = shuffled_ ? turns_++ * 7919u % count : 0;
    bool ran = false;
    for (size_t i = 0; i < count && failure_.empty(); ++i) {
      Thread& thread = threads_[order_[start + i < count ? start + i : start + i - count]];
      if (thread.state != State::ready) continue;
      ran = true;
      resume(thread);
    }
    if (ran || !failure_.empty()) continue;
    if (waiting_ != count) explain_standstill();
    release_block_barrier();
  }
  acquire(&end_tag_);
  current_block = nullptr;
  if (!failure_.empty()) throw std::runtime_error(failure_);
}

void Block::entry() {
  Block* block = current_block;
  if (address_sanitizer())
    __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_stack_, &block->scheduler_stack_bytes_);
  acquire(&block->begin_tag_);
  Thread& self = block->thread();
  try {
    block->body_.call(block->body_.arguments);
    for (const std::vector<Copy>& group : self.copies)
      if (!group.empty())
        block->failure_ = block->describe("ends with asynchronous copies that it never waited for", self);
  } catch (const std::exception& error) {
    block->failure_ = block->describe(error.what(), self);
  }
  self.state = State::ended;
  ++block->ended_;
  release(&block->end_tag_);
  block->yield();
}

// The flag of the switch, 1, tells ThreadSanitizer that a change of fibers orders nothing.
void Block::resume(Thread& thread) {
  running_ = &thread;
  threadIdx = thread.index;
  if (address_sanitizer()) __sanitizer_start_switch_fiber(&fake_stack_, thread.stack, Stacks::kBytes);
  if (thread_sanitizer()) __tsan_switch_to_fiber(thread.tsan_fiber, 1);
  switch_context(scheduler_, thread.context);
  if (address_sanitizer()) __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
}

void Block::yield() {
  Thread& self = *running_;
  if (address_sanitizer())
    __sanitizer_start_switch_fiber(self.state == State::ended ? nullptr : &self.fake_stack, scheduler_stack_,
                                   scheduler_stack_bytes_);
  if (thread_sanitizer()) __tsan_switch_to_fiber(tsan_scheduler_, 1);
  switch_context(self.context, scheduler_);
  if (address_sanitizer()) __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
}

// The stacks of this block are given up: whoever made the block gets the exception.
void Block::fail_in_thread(const std::string& what, Where where) {
  Thread& self = *running_;
  self.where = where;
  failure_ = describe(what, self);
  self.state = State::ended;
  yield();
  std::terminate();
}

int Block::block_barrier(Vote vote, bool predicate, Where where) {
  Thread& self = *running_;
  self.state = State::at_block_barrier;
  self.where = where;
  self.vote = vote;
  self.predicate = predicate;
  ++waiting_;
  const char* tag = &barrier_tags_[self.block_turn];
  self.block_turn = !self.block_turn;
  release(tag);
  yield();
  acquire(tag);
  return votes_[static_cast<int>(vote)];
}

void Block::release_block_barrier() {
  const Thread& first = threads_[0];
  int agreed = 0;
  for (const Thread& thread : threads_) {
    if (thread.where.line != first.where.line || std::strcmp(thread.where.file, first.where.file) != 0)
      throw std::runtime_error(
          describe("waits at a barrier while another thread waits at " + text(first.where), thread));
    agreed += thread.predicate;
  }
  const int count = static_cast<int>(threads_.size());
  votes_[static_cast<int>(Vote::count)] = agreed;
  votes_[static_cast<int>(Vote::all)] = agreed == count;
  votes_[static_cast<int>(Vote::any)] = agreed > 0;
  for (Thread& thread : threads_) thread.state = State::ready;
  waiting_ = 0;
}

uint64_t Block::warp_exchange(Exchange exchange, unsigned mask, uint64_t value, unsigned argument,
                              Where where) {
  Thread& self = *running_;
  const unsigned first = self.number / kLanes * kLanes;
  if (!(mask >> self.number % kLanes & 1))
    fail_in_thread("is not in the mask of its own warp operation", where);
  self.state = State::in_warp_operation;
  self.where = where;
  self.exchange = exchange;
  self.mask = mask;
  self.value = value;
  self.argument = argument;
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const unsigned number = first + static_cast<unsigned>(std::countr_zero(rest));
    if (number >= threads_.size())
      fail_in_thread("names a lane that does not exist in a warp operation", where);
    const Thread& other = threads_[number];
    if (other.state == State::ended) fail_in_thread("names a lane that has ended in a warp operation", where);
    const bool met = other.state == State::in_warp_operation && other.mask == mask &&
                     other.exchange == exchange && other.where.line == where.line &&
                     std::strcmp(other.where.file, where.file) == 0;
    if (!met) {
      yield();  // the last to come does the work
      return self.result;
    }
  }
  release_warp(self);
  yield();
  return self.result;
}

void Block::release_warp(Thread& last) {
  const unsigned first = last.number / kLanes * kLanes, mask = last.mask;
  uint64_t values[kLanes];
  for (unsigned i = 0; i < kLanes; ++i) values[i] = mask >> i & 1 ? threads_[first + i].value : ~uint64_t(0);
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    Thread& thread = threads_[first + static_cast<unsigned>(std::countr_zero(rest))];
    if (last.exchange) thread.result = last.exchange(values, mask, thread.argument);
    thread.state = State::ready;
  }
}

// The only operation of a warp that orders memory. Each lane's parity travels as its value.
void Block::warp_barrier(unsigned mask, Where where) {
  Thread& self = *running_;
  const bool turn = self.warp_turn = !self.warp_turn;
  release(&self.warp_tags[turn]);
  const Exchange turns = [](const uint64_t* values, unsigned mask, unsigned) {
    uint64_t found = 0;
    for (unsigned i = 0; i < kLanes; ++i) found |= (mask >> i & 1 ? values[i] : 0) << i;
    return found;
  };
  const uint64_t found = warp_exchange(turns, mask, turn, 0, where);
  const unsigned first = self.number / kLanes * kLanes;
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const unsigned i = static_cast<unsigned>(std::countr_zero(rest));
    acquire(&threads_[first + i].warp_tags[found >> i & 1]);
  }
}

void* Block::static_shared(const void* declaration, size_t bytes) {
  for (const auto& [known, array] : static_)
    if (known == declaration) return array;
  void* array = shared_.take(bytes);
  if (!array) throw std::runtime_error("declares more shared memory than a block may have");
  static_.emplace_back(declaration, array);
  return array;
}

void Block::explain_standstill() {
  for (const Thread& thread : threads_) {
    if (thread.state != State::in_warp_operation) continue;
    const unsigned first = thread.number / kLanes * kLanes;
    for (unsigned rest = thread.mask; rest; rest &= rest - 1) {
      const Thread& other = threads_[first + static_cast<unsigned>(std::countr_zero(rest))];
      const bool elsewhere = other.state != State::in_warp_operation || other.mask != thread.mask ||
                             other.where.line != thread.where.line;
      if (elsewhere)
        throw std::runtime_error(describe("waits in a warp operation for a lane that is elsewhere, thread " +
                                              text(other.index) + " at " + text(other.where),
                                          thread));
    }
  }
  for (const Thread& thread : threads_)
    if (thread.state == State::at_block_barrier)
      throw std::runtime_error(
          describe("waits at a barrier that a thread of the block has left out", thread));
  throw std::runtime_error("deadlock");
}

std::string Block::describe(const std::string& what, const Thread& thread) const {
  return text(thread.where) + ": block " + text(index_) + ", thread " + text(thread.index) + " " + what;
}

}  // namespace emulation
