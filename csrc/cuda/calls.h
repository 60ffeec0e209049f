// The kernels as a front end calls them, torch's operators and the tests' emulation alike: by name, with arrays, integers and
// numbers in a fixed order. `calls_*.cpp` turns that into the structs of kernels.h and checks every array's type and length.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace fused_rank {

using Stream = void*;  // a cudaStream_t

enum class ArrayType { f32, f64, i32, i64, u8 };

template <class T>
inline constexpr ArrayType kArrayType = std::is_same_v<T, float>     ? ArrayType::f32
                                        : std::is_same_v<T, double>  ? ArrayType::f64
                                        : std::is_same_v<T, int32_t> ? ArrayType::i32
                                        : std::is_same_v<T, int64_t> ? ArrayType::i64
                                                                     : ArrayType::u8;

// `count` contiguous elements where the kernels can reach them; 0 for an array that is absent.
struct Array {
  void* data;
  ArrayType type;
  int64_t count;
};

class Arguments {
 public:
  Arguments(const char* kernel, std::span<const Array> arrays, std::span<const int64_t> sizes,
            std::span<const double> numbers, std::string term)
      : term(std::move(term)), kernel_(kernel), arrays_(arrays), sizes_(sizes), numbers_(numbers) {}

  // Array `at`, of exactly `count` elements. T may be const.
  template <class T>
  T* array(size_t at, int64_t count) const {
    using Element = std::remove_const_t<T>;
    static_assert(kArrayType<Element> != ArrayType::u8 || std::is_same_v<Element, uint8_t>);
    require(at < arrays_.size() && arrays_[at].type == kArrayType<Element>, at, "has the wrong type");
    require(arrays_[at].count == count, at, "has the wrong length");
    return static_cast<T*>(arrays_[at].data);
  }
  // The same, or null where it is absent.
  template <class T>
  T* optional(size_t at, int64_t count) const {
    return absent(at) ? nullptr : array<T>(at, count);
  }
  bool absent(size_t at) const { return at < arrays_.size() && arrays_[at].count == 0; }

  int64_t size(size_t at) const {
    require(at < sizes_.size() && sizes_[at] >= 0, at, "of the sizes is missing or negative");
    return sizes_[at];
  }
  double number(size_t at) const {
    require(at < numbers_.size(), at, "of the numbers is missing");
    return numbers_[at];
  }
  std::span<const double> numbers() const { return numbers_; }

  // f.template operator()<float>() or <double>(), by the type of the first array.
  template <class F>
  void with_type(F&& f) const {
    require(!arrays_.empty(), 0, "is missing");
    if (arrays_[0].type == ArrayType::f64) f.template operator()<double>();
    else f.template operator()<float>();
  }

  const std::string term;

 private:
  void require(bool condition, size_t at, const char* problem) const {
    if (!condition)
      throw std::invalid_argument(std::string("fused_rank: ") + kernel_ + ": argument " + std::to_string(at) +
                                  " " + problem);
  }

  const char* kernel_;
  std::span<const Array> arrays_;
  std::span<const int64_t> sizes_;
  std::span<const double> numbers_;
};

}  // namespace fused_rank
