// What the headers here ask of the emulator, which is compiled apart from the kernels and without sanitizers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "vocabulary.h"

namespace emulation {

// A line of a kernel. Functions take it as a default argument, so it is the line that called them.
struct Where {
  const char* file;
  unsigned line;
  constexpr Where(std::source_location at) : file(at.file_name()), line(at.line()) {}
  constexpr Where() : file(""), line(0) {}
};
#define EMULATION_HERE ::emulation::Where where = std::source_location::current()

// The order of blocks and threads; 0 is their natural order.
void set_seed(unsigned seed);
// Blocks launched since the module was loaded.
uint64_t blocks_run();

// A kernel with its arguments: call(arguments) runs one thread of it.
struct Body {
  void (*call)(const void*);
  const void* arguments;
};
// Runs all blocks. std::runtime_error says what rule was broken, where, and by which thread.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, Body body);

// Sees every launch first; where it returns true, it has run the kernel.
struct Parameter {
  const void* bytes;
  size_t size;
};
using Observer = bool (*)(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
                          const Parameter* parameters, size_t count);
extern Observer observer;

// Below: called by CUDA threads.

[[noreturn]] void fail(const char* what, Where where);
unsigned lane();
void* dynamic_shared();
// The block's array for a declaration, made at the first call; `declaration` is an address of its own for each.
void* static_shared(const void* declaration, size_t bytes);

enum class Vote { none, count, all, any };
int block_barrier(Vote vote, bool predicate, Where where);

// What a lane gets from the values of the lanes in mask; `argument` is the one it came with. Others hold all ones.
using Exchange = uint64_t (*)(const uint64_t* values, unsigned mask, unsigned argument);
uint64_t warp_exchange(Exchange exchange, unsigned mask, uint64_t value, unsigned argument, Where where);
void warp_barrier(unsigned mask, Where where);

// Relaxed atomics order nothing; a fence makes the atomics after it release, and those before it acquire.
void before_atomic(const void* address);
void fence();

struct Copy {
  void* to;
  const void* from;  // null: zeros
};
void issue_copy(Copy copy);
void close_copies();
// The next copy of a group that is not among the `open` last ones; false when there is none.
bool next_landing(unsigned open, Copy& copy);

}  // namespace emulation
