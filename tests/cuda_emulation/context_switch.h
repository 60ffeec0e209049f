// Changing from one stack to another.
#pragma once

#include <cstddef>

#if defined(__x86_64__)

namespace emulation {
using Context = void*;  // the stack pointer; the registers are on the stack
}
// Keeps what a call must keep: six registers and the two floating-point control words.
extern "C" void emulation_switch(void** from, void* to);

namespace emulation {
inline void switch_context(Context& from, Context& to) { emulation_switch(&from, to); }
void make_context(Context& context, char* stack, size_t bytes, void (*entry)());
}  // namespace emulation

#else

#include <ucontext.h>

namespace emulation {
using Context = ucontext_t;
inline void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }
inline void make_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
}  // namespace emulation

#endif
