// The sweeps of pair losses, called by name.
#include "calls_common.h"
#include "entries.h"

namespace fused_rank::calls {

// arrays: inputs, positives, negatives, workspace, rows, state, live; sizes: symmetric?
void statistics(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const Term term(a);
    const cuda::Pairs<T> pairs = pairs_of<T>(a);
    const cuda::TermLayout layout = cuda::term_layout(term.choice());
    const int64_t m = pairs.query.size, n = pairs.gallery.size;
    const bool symmetric = a.size(kPairSizes) != 0;
    const int64_t rows = symmetric ? m + n : m;
    cuda::Statistics<T> io;
    io.inputs = a.optional<const T>(kPairArrays, layout.inputs * rows);
    io.positives = a.array<const int32_t>(kPairArrays + 1, rows);
    io.negatives = a.array<const int32_t>(kPairArrays + 2, rows);
    io.workspace = a.array<T>(kPairArrays + 3,
                              cuda::statistics_workspace<T>(term.choice(), m, n, pairs.self, symmetric));
    io.rows = a.array<T>(kPairArrays + 4, 3 * layout.channels * rows);
    io.state = a.array<T>(kPairArrays + 5, layout.state * rows);
    io.live = a.array<uint8_t>(kPairArrays + 6,
                               cuda::tiles_of(m, cuda::kTile<T>) * cuda::tiles_of(n, cuda::kTile<T>));
    io.symmetric = symmetric;
    if (layout.inputs > 0 && io.inputs == nullptr && rows > 0)
      throw std::invalid_argument("fused_rank: the term takes inputs");
    cuda::statistics<T>(pairs, term.choice(), io, stream);
  });
}

// arrays: state, upstream gradients of the sums, scales, gradient of the inputs; sizes: rows
void scales(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const Term term(a);
    const cuda::TermLayout layout = cuda::term_layout(term.choice());
    const int64_t rows = a.size(0);
    cuda::scales<T>(term.choice(),
                    {a.array<const T>(0, layout.state * rows), a.array<const T>(1, layout.channels * rows),
                     a.optional<T>(2, layout.scale * rows), a.optional<T>(3, layout.inputs * rows), rows},
                    stream);
  });
}

namespace {
constexpr size_t kOwnSizes = kPairSizes + kStripSizes;

// Entries of a strip's matrix.
int64_t area(const cuda::Strip& strip) { return strip.rows * strip.stride; }
// Those from `first` on.
int64_t owners(const cuda::Strip& strip, cuda::Owner owner, int64_t first) {
  return (owner == cuda::Owner::query ? strip.rows : strip.columns) - first;
}
template <class T>
int64_t tiles(const cuda::Pairs<T>& pairs) {
  return cuda::tiles_of(pairs.query.size, cuda::kTile<T>) *
         cuda::tiles_of(pairs.gallery.size, cuda::kTile<T>);
}
}  // namespace

// arrays: values, tiles with close pairs, their bits; sizes: squared?, hide rows that are not finite?
void distances(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const cuda::Strip strip = strip_of(a);
    cuda::distances<T>(pairs_of<T>(a), strip,
                       {a.array<T>(kPairArrays, area(strip)), near_of<T>(a, kPairArrays + 1, strip),
                        a.size(kOwnSizes) != 0, a.size(kOwnSizes + 1) != 0},
                       stream);
  });
}

// arrays: scales, live, values, tiles with close pairs, their bits; sizes: rows of scales, ends
void coefficients(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const Term term(a);
    const cuda::Pairs<T> pairs = pairs_of<T>(a);
    const cuda::Strip strip = strip_of(a);
    const int64_t rows = a.size(kOwnSizes);
    cuda::coefficients<T>(
        pairs, term.choice(), strip,
        {a.array<const T>(kPairArrays, cuda::term_layout(term.choice()).scale * rows), rows,
         a.array<const uint8_t>(kPairArrays + 1, tiles(pairs)), a.array<T>(kPairArrays + 2, area(strip)),
         near_of<T>(a, kPairArrays + 3, strip), static_cast<cuda::Ends>(a.size(kOwnSizes + 1))},
        stream);
  });
}

// arrays: values, live, sums, mass; sizes: first owner, parts, owner
void product(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const cuda::Pairs<T> pairs = pairs_of<T>(a);
    const cuda::Strip strip = strip_of(a);
    const auto owner = static_cast<cuda::Owner>(a.size(kOwnSizes + 2));
    const int64_t count = owners(strip, owner, a.size(kOwnSizes)), parts = a.size(kOwnSizes + 1);
    cuda::product<T>(
        pairs, strip,
        {a.array<const T>(kPairArrays, area(strip)), a.optional<const uint8_t>(kPairArrays + 1, tiles(pairs)),
         a.size(kOwnSizes), static_cast<int>(parts), a.array<T>(kPairArrays + 2, parts * count * pairs.width),
         a.optional<T>(kPairArrays + 3, pairs.centres * count), owner},
        stream);
  });
}

// arrays: values, tiles with close pairs, their bits, sums; sizes: first owner, owner
void near_pull(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const cuda::Pairs<T> pairs = pairs_of<T>(a);
    const cuda::Strip strip = strip_of(a);
    const auto owner = static_cast<cuda::Owner>(a.size(kOwnSizes + 1));
    cuda::near_pull<T>(
        pairs, strip,
        {a.array<const T>(kPairArrays, area(strip)), near_of<T>(a, kPairArrays + 1, strip), a.size(kOwnSizes),
         a.array<T>(kPairArrays + 3, owners(strip, owner, a.size(kOwnSizes)) * pairs.width), owner},
        stream);
  });
}

// arrays: values, tiles with close pairs, their bits; sizes: the strip
void clear_near(const Arguments& a, Stream stream) {
  a.with_type([&]<class T>() {
    const cuda::Strip strip = strip_of(a, 0);
    cuda::clear_near<T>(strip, a.array<T>(0, area(strip)), near_of<T>(a, 1, strip), stream);
  });
}

namespace {
// f.template operator()<T>() for elements of so many bytes.
template <class F>
int64_t by_width(const Arguments& a, F&& f) {
  return a.size(0) == 8 ? f.template operator()<double>() : f.template operator()<float>();
}
}  // namespace

std::vector<int64_t> tile(const Arguments& a) {
  return {by_width(a, [&]<class T>() -> int64_t { return cuda::kTile<T>; })};
}

// channels, state, inputs, row, scale
std::vector<int64_t> term_layout(const Arguments& a) {
  const cuda::TermLayout layout = cuda::term_layout(Term(a).choice());
  return {layout.channels, layout.state, layout.inputs, layout.row, layout.scale};
}

// sizes: bytes, M, N, self form?, symmetric?
std::vector<int64_t> statistics_workspace(const Arguments& a) {
  return {by_width(a, [&]<class T>() {
    return cuda::statistics_workspace<T>(Term(a).choice(), a.size(1), a.size(2), a.size(3) != 0,
                                         a.size(4) != 0);
  })};
}

// sizes: bytes, owners, others, width
std::vector<int64_t> product_parts(const Arguments& a) {
  return {cuda::product_parts(a.size(1), a.size(2), a.size(3))};
}

}  // namespace fused_rank::calls
