// What a block's threads run in, kept for a later block.
#pragma once

#include <cstddef>
#include <vector>

namespace emulation {

// Below each stack lies a page that nobody may touch.
class Stacks {
 public:
  static constexpr size_t kBytes = 256 << 10;
  ~Stacks();
  char* at(size_t i);

 private:
  std::vector<char*> stacks_;
};

// Every array has a red zone behind it, which AddressSanitizer knows.
class SharedMemory {
 public:
  static constexpr size_t kBytes = 99 << 10;  // what each GPU from sm_80 on has for a block
  SharedMemory();
  ~SharedMemory();

  // Forgets all arrays and fills their memory with NaN.
  void clear();
  // Null where it does not fit.
  void* take(size_t bytes);

 private:
  static constexpr size_t kRedZone = 64, kArrays = 64;
  static constexpr size_t kCapacity = kBytes + kArrays * 2 * kRedZone;
  char* memory_;
  size_t end_ = kCapacity, taken_ = 0;
};

// ThreadSanitizer's view of the threads of a block. They are costly to make.
class TsanFibers {
 public:
  ~TsanFibers();
  void* at(size_t i);

 private:
  std::vector<void*> fibers_;
};

struct BlockMemory {
  Stacks stacks;
  SharedMemory shared;
  TsanFibers fibers;
};

}  // namespace emulation
