// Uninitialised, 64-byte aligned memory. Built with FUSED_RANK_POISON it starts as NaN, so that reading before writing shows.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fused_rank {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) : size_(size) {
    const size_t needed = static_cast<size_t>(size) * sizeof(T);
    const size_t alignment = needed >= kHugePage ? kHugePage : 64;
    const size_t bytes = (needed + alignment - 1) / alignment * alignment;
    if (size > 0) data_ = static_cast<T*>(std::aligned_alloc(alignment, bytes));
#if defined(__linux__)
    // Operands are walked over and over: with large pages they cost fewer faults and fewer translations. Only a hint.
    if (data_ != nullptr && alignment == kHugePage) (void)madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    if (size > 0 && data_ == nullptr) throw std::bad_alloc();
#if defined(FUSED_RANK_POISON)
    if (size > 0) std::memset(static_cast<void*>(data_), 0xff, bytes);
#endif
  }
  static Buffer zeros(int64_t size) {
    Buffer b(size);
    b.fill_zero();
    return b;
  }
  Buffer(Buffer&& o) noexcept : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  void fill_zero() {
    if (size_ > 0) std::memset(static_cast<void*>(data_), 0, static_cast<size_t>(size_) * sizeof(T));
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  int64_t size() const { return size_; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace fused_rank
