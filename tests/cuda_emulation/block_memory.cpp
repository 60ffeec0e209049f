#include "block_memory.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "sanitizers.h"

namespace emulation {
namespace {

constexpr size_t kGuard = 4096;

}  // namespace

Stacks::~Stacks() {
  for (char* stack : stacks_) munmap(stack - kGuard, kBytes + kGuard);
}

char* Stacks::at(size_t i) {
  while (stacks_.size() <= i) {
    void* memory = mmap(nullptr, kBytes + kGuard, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE) != 0) throw std::bad_alloc();
    stacks_.push_back(static_cast<char*>(memory) + kGuard);
  }
  if (address_sanitizer()) __asan_unpoison_memory_region(stacks_[i], kBytes);
  return stacks_[i];
}

TsanFibers::~TsanFibers() {
  for (void* fiber : fibers_) __tsan_destroy_fiber(fiber);
}

void* TsanFibers::at(size_t i) {
  while (fibers_.size() <= i) fibers_.push_back(__tsan_create_fiber(0));
  return fibers_[i];
}

SharedMemory::SharedMemory() {
  void* memory = mmap(nullptr, kCapacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
}

SharedMemory::~SharedMemory() {
  if (address_sanitizer()) __asan_unpoison_memory_region(memory_, kCapacity);
  munmap(memory_, kCapacity);
}

void SharedMemory::clear() {
  if (address_sanitizer()) __asan_unpoison_memory_region(memory_, kCapacity);
  std::memset(memory_, 0xff, end_);
  if (address_sanitizer()) __asan_poison_memory_region(memory_, kCapacity);
  end_ = kRedZone;
  taken_ = 0;
}

void* SharedMemory::take(size_t bytes) {
  char* array = memory_ + end_;
  const size_t next = (end_ + bytes + 2 * kRedZone - 1) / kRedZone * kRedZone;
  taken_ += bytes;
  if (taken_ > kBytes || next > kCapacity) return nullptr;
  end_ = next;
  if (address_sanitizer()) __asan_unpoison_memory_region(array, bytes);
  return array;
}

}  // namespace emulation
