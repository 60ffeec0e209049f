#include "context_switch.h"

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

asm(R"(
.text
.globl emulation_switch
.hidden emulation_switch
.type emulation_switch, @function
emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  subq $8, %rsp
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  addq $8, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulation_switch, .-emulation_switch
)");

namespace emulation {

// What the switch pops: control words, six registers, the address of `entry`, and a null return address above it.
void make_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  const uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t(15);
  uint64_t* frame = reinterpret_cast<uint64_t*>(top) - 9;
  std::memset(frame, 0, 9 * sizeof *frame);
  uint32_t rounding;
  uint16_t x87;
  asm volatile("stmxcsr %0\n fnstcw %1" : "=m"(rounding), "=m"(x87));
  frame[0] = rounding | uint64_t(x87) << 32;
  frame[7] = reinterpret_cast<uint64_t>(entry);
  context = frame;
}

}  // namespace emulation

#endif
