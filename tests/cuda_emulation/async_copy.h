// cp.async: nothing arrives before the wait, so that a missing wait reads NaN or what was there before.
#pragma once

#include "emulator.h"
#include "vocabulary.h"

namespace fused_rank {

inline void async_copy16(void* to, const void* from, bool inside = true, EMULATION_HERE) {
  const auto misplaced = [](const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 != 0; };
  if (misplaced(to) || (inside && misplaced(from)))
    emulation::fail("an asynchronous copy at an address that is no multiple of 16", where);
  emulation::issue_copy({to, inside ? from : nullptr});
}
inline void async_commit() { emulation::close_copies(); }

template <int N>
void async_wait() {
  using Word = uint32_t __attribute__((may_alias));
  emulation::Copy copy;
  while (emulation::next_landing(N, copy))
    for (int word = 0; word < 4; ++word)
      static_cast<Word*>(copy.to)[word] = copy.from ? static_cast<const Word*>(copy.from)[word] : 0;
}

}  // namespace fused_rank
