// The structs that most kernels share, from the arguments of a call.
//
//   arrays  the query side (rows, low, norm, centre, finite, index), the gallery side (the same again in self form), begin, end,
//           gap, points; then the kernel's own, from kPairArrays on
//   sizes   M, N, width, centres, metric, self form?; then, for kernels that work on a strip, the members of Strip; then the
//           kernel's own
#pragma once

#include <algorithm>
#include <array>

#include "calls.h"
#include "kernels.h"

namespace fused_rank::calls {

inline constexpr size_t kPairArrays = 16, kPairSizes = 6, kStripSizes = 5;

template <class T>
cuda::Side<T> side_of(const Arguments& a, size_t at, int64_t rows, int64_t width, int64_t centres) {
  cuda::Side<T> side;
  side.rows = a.array<const T>(at, rows * width);
  side.low = a.optional<const T>(at + 1, rows * width);
  side.norm = a.array<const T>(at + 2, centres * rows);
  side.centre = a.optional<const uint8_t>(at + 3, rows);
  side.finite = a.optional<const uint8_t>(at + 4, rows);
  side.index = a.array<const int64_t>(at + 5, rows);
  side.size = rows;
  return side;
}

template <class T>
cuda::Pairs<T> pairs_of(const Arguments& a) {
  const int64_t m = a.size(0), n = a.size(1), width = a.size(2), centres = a.size(3);
  cuda::Pairs<T> pairs;
  pairs.query = side_of<T>(a, 0, m, width, centres);
  pairs.gallery = side_of<T>(a, 6, n, width, centres);
  pairs.begin = a.array<const int32_t>(12, m);
  pairs.end = a.array<const int32_t>(13, m);
  pairs.gap = a.optional<const T>(14, centres * centres);
  pairs.points = a.optional<const double>(15, centres * width);
  pairs.centres = static_cast<int>(centres);
  pairs.width = width;
  pairs.metric = static_cast<cuda::Metric>(a.size(4));
  pairs.self = a.size(5) != 0;
  return pairs;
}

inline cuda::Strip strip_of(const Arguments& a, size_t at = kPairSizes) {
  return {a.size(at), a.size(at + 1), a.size(at + 2), a.size(at + 3), a.size(at + 4)};
}

// Arrays `at` and `at` + 1; both may be absent.
template <class T>
cuda::Near near_of(const Arguments& a, size_t at, const cuda::Strip& strip) {
  const int64_t tile = cuda::kTile<T>;
  const int64_t tiles = cuda::tiles_of(strip.rows, tile) * cuda::tiles_of(strip.columns, tile);
  return {a.optional<uint8_t>(at, tiles), reinterpret_cast<uint32_t*>(a.optional<int32_t>(
                                              at + 1, strip.rows * cuda::near_words<T>(strip.columns)))};
}

// The term's name; its parameters are the numbers, behind the reach.
class Term {
 public:
  explicit Term(const Arguments& a) : name_(a.term), reach_(a.number(0)) {
    const auto given = a.numbers().subspan(1);
    if (given.size() > params_.size())
      throw std::invalid_argument("fused_rank: too many parameters of a term");
    std::copy(given.begin(), given.end(), params_.begin());
  }
  cuda::TermChoice choice() const { return {name_.c_str(), params_.data(), reach_}; }

 private:
  std::string name_;
  std::array<double, 16> params_{};
  double reach_;
};

}  // namespace fused_rank::calls
