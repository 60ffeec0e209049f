// The sanitizers' functions, null in a program that is built without them.
#pragma once

#include <cstddef>

extern "C" {
void __asan_poison_memory_region(const volatile void*, size_t) __attribute__((weak));
void __asan_unpoison_memory_region(const volatile void*, size_t) __attribute__((weak));
void __sanitizer_start_switch_fiber(void** fake_stack, const void* stack, size_t bytes) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_stack, size_t* old_bytes)
    __attribute__((weak));
void* __tsan_get_current_fiber() __attribute__((weak));
void* __tsan_create_fiber(unsigned flags) __attribute__((weak));
void __tsan_destroy_fiber(void* fiber) __attribute__((weak));
void __tsan_switch_to_fiber(void* fiber, unsigned flags) __attribute__((weak));
void __tsan_acquire(void* address) __attribute__((weak));
void __tsan_release(void* address) __attribute__((weak));
}

namespace emulation {

inline bool address_sanitizer() { return __sanitizer_start_switch_fiber && !__tsan_switch_to_fiber; }
inline bool thread_sanitizer() { return __tsan_switch_to_fiber; }

// What happened before a release of a tag is over for whoever acquires it later.
inline void acquire(const void* tag) {
  if (thread_sanitizer()) __tsan_acquire(const_cast<void*>(tag));
}
inline void release(const void* tag) {
  if (thread_sanitizer()) __tsan_release(const_cast<void*>(tag));
}

}  // namespace emulation
