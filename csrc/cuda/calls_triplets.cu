// Mining, triplets, retrieval and listed pairs, called by name.
#include "calls_common.h"
#include "entries.h"

namespace fused_rank::calls {

namespace {

// What the rank sweeps share. arrays: values of the strip, begin, end; numbers: margin; sizes: the strip, anchors, metric, self
// form?, soft margin?, band?
constexpr size_t kRankArrays = 3, kRankSizes = kStripSizes + 5;

template <class T>
struct Ranks {
  cuda::Strip strip;
  cuda::Anchors anchors;
  cuda::TripletChoice choice;
  const T* values;

  explicit Ranks(const Arguments& a) : strip(strip_of(a, 0)) {
    const int64_t size = a.size(kStripSizes);
    anchors = {a.array<const int32_t>(1, size), a.array<const int32_t>(2, size), size,
               static_cast<cuda::Metric>(a.size(kStripSizes + 1)), a.size(kStripSizes + 2) != 0};
    choice = {a.number(0), a.size(kStripSizes + 3) != 0, a.size(kStripSizes + 4) != 0};
    values = a.array<const T>(0, strip.rows * strip.stride);
  }
};

}  // namespace

// arrays: the pairs', workspace, positive, negative
void hard(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const cuda::Pairs<T> pairs = pairs_of<T>(a);
    const int64_t m = pairs.query.size;
    const int64_t bytes = cuda::hard_workspace<T>(m, pairs.gallery.size, pairs.self);
    cuda::hard<T>(pairs,
                  {a.array<uint8_t>(kPairArrays, bytes), a.array<int64_t>(kPairArrays + 1, m),
                   a.array<int64_t>(kPairArrays + 2, m)},
                  stream);
  });
}

// sizes: bytes, M, N, self form?
std::vector<int64_t> hard_workspace(const Arguments& a) {
  const int64_t m = a.size(1), n = a.size(2);
  const bool self = a.size(3) != 0;
  return {a.size(0) == 8 ? cuda::hard_workspace<double>(m, n, self)
                         : cuda::hard_workspace<float>(m, n, self)};
}

// arrays: values of the strip, best, found; sizes: the strip, largest?, exclude self?, k
void topk(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const cuda::Strip strip = strip_of(a, 0);
    const int64_t k = a.size(kStripSizes + 2);
    if (k > strip.columns) throw std::invalid_argument("fused_rank: k exceeds the columns");
    cuda::topk<T>(
        strip,
        {a.array<const T>(0, strip.rows * strip.stride), a.size(kStripSizes) != 0,
         a.size(kStripSizes + 1) != 0, k, a.array<T>(1, strip.rows * k), a.array<int64_t>(2, strip.rows * k)},
        stream);
  });
}

// arrays: ranks', index, offset, negative, rows; sizes: slot stride, slots, length of negative
void semihard(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const Ranks<T> ranks(a);
    const int64_t size = ranks.anchors.size;
    cuda::semihard<T>(
        ranks.anchors, ranks.strip,
        {ranks.values, ranks.choice, a.array<const int64_t>(kRankArrays, ranks.strip.columns),
         a.array<const int64_t>(kRankArrays + 1, size), a.size(kRankSizes), a.size(kRankSizes + 1),
         a.array<int32_t>(kRankArrays + 2, a.size(kRankSizes + 2)), a.optional<T>(kRankArrays + 3, 3 * size)},
        stream);
  });
}

// arrays: ranks', rows
void every_triplet(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const Ranks<T> ranks(a);
    cuda::every_triplet<T>(ranks.anchors, ranks.strip,
                           {ranks.values, ranks.choice, a.array<T>(kRankArrays, 3 * ranks.anchors.size)},
                           stream);
  });
}

// arrays: ranks', upstream, coefficients
void every_triplet_slopes(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const Ranks<T> ranks(a);
    cuda::every_triplet_slopes<T>(
        ranks.anchors, ranks.strip,
        {ranks.values, ranks.choice, a.array<const T>(kRankArrays, ranks.anchors.size),
         a.array<T>(kRankArrays + 1, ranks.strip.rows * ranks.strip.stride)},
        stream);
  });
}

// arrays: values of the strip, live; sizes: the strip, M
void live_tiles(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const cuda::Strip strip = strip_of(a, 0);
    const int64_t tiles =
        cuda::tiles_of(a.size(kStripSizes), cuda::kTile<T>) * cuda::tiles_of(strip.columns, cuda::kTile<T>);
    cuda::live_tiles<T>(strip, {a.array<const T>(0, strip.rows * strip.stride), a.array<uint8_t>(1, tiles)},
                        stream);
  });
}

// arrays: x, y, i, j, squares; sizes: rows of x, rows of y, width, pairs
void listed_squares(const Arguments& a, Stream stream) {
  const int64_t width = a.size(2), pairs = a.size(3);
  cuda::listed_squares(
      {a.array<const double>(0, a.size(0) * width), a.array<const double>(1, a.size(1) * width), width, pairs,
       a.array<const int64_t>(2, pairs), a.array<const int64_t>(3, pairs), a.array<double>(4, pairs)},
      stream);
}

// arrays: x, y, start, other, coefficient, total; sizes: rows of x, rows of y, width, edges
void edge_sums(const Arguments& a, Stream stream) {
  const int64_t rows = a.size(0), width = a.size(2), edges = a.size(3);
  cuda::edge_sums({a.array<const double>(0, rows * width), a.array<const double>(1, a.size(1) * width), width,
                   rows, a.array<const int64_t>(2, rows + 1), a.array<const int64_t>(3, edges),
                   a.array<const double>(4, edges), a.array<double>(5, rows * width)},
                  stream);
}

}  // namespace fused_rank::calls
