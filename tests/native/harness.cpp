// Drives the engine over random problems, for a build with sanitizers: `harness [rounds] [seed] [fault]`.
// Every call runs on one thread and on three and must leave the same bits, finite where the input is, and the sums
// that a dense double computation finds. `fault` is one of faults.h: what has to be noticed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "calls.h"
#include "faults.h"
#include "losses.h"
#include "workers.h"

namespace fused_rank {
namespace {

std::string current;  // the problem at hand, for messages

void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED %s: %s\n", what, current.c_str());
  std::exit(1);
}

// f on one thread and on three.
template <class F>
auto on_both(F&& f) {
  ThreadWorkers one(1);
  SharingWorkers three(3);
  auto alone = f(one);
  auto together = f(three);
  return std::pair{std::move(alone), std::move(together)};
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

bool close(double value, double expected, double tolerance) {
  return std::fabs(value - expected) <= tolerance * (1.0 + std::fabs(expected));
}

// A lost query's sums are NaN, all else is finite.
void check_finite(const Dense& dense, const Written& w, int64_t channels) {
  const int64_t m = static_cast<int64_t>(w.rows.size()) / (3 * channels);
  for (int64_t at = 0; at < static_cast<int64_t>(w.rows.size()); ++at) {
    const bool lost = at < channels * m && dense.lost(at % m);
    check(lost ? std::isnan(w.rows[at]) : std::isfinite(w.rows[at]), "rows finite where the input is");
  }
  bool any_lost = !dense.all_finite;
  for (int64_t i = 0; i < m; ++i) any_lost = any_lost || dense.lost(i);
  if (!any_lost)
    check(std::all_of(w.gradients.begin(), w.gradients.end(), [](double g) { return std::isfinite(g); }),
          "gradients finite");
}

template <class F>
void check_sums(const Dense& dense, const Written& w, int64_t channels, double tolerance, F&& expected) {
  const int64_t m = dense.problem.m();
  const int64_t reported = static_cast<int64_t>(w.rows.size()) / (3 * channels);
  if (m * dense.problem.n() > 300 * 300) return;
  for (int64_t i = 0; i < m; ++i) {
    if (dense.lost(i)) continue;
    const RowSums sums = expected(i);
    check(close(w.rows[i], sums.first, tolerance), "sums as by definition");
    if (channels == 2)
      check(close(w.rows[reported + i], sums.second, tolerance), "sums as by definition (channel 1)");
  }
}

template <class T>
void check_pair(const Problem& p, const PairCase& c) {
  const bool midpoints = c.term == "midpoints";
  if (midpoints && !p.self()) return;
  const Dense dense(p, c.dot);
  const auto [alone, together] = on_both([&](Workers& workers) { return run_pair<T>(p, c, workers); });
  check(alone.bytes == together.bytes, "equal bits on one thread and on three");
  const bool contrastive = c.term == "contrastive";
  check_finite(dense, alone, contrastive ? 2 : 1);
  std::vector<double> params = c.params;
  if (fault == Fault::wrong_number) params[0] += 0.01;
  if (contrastive)
    check_sums(dense, alone, 2, sizeof(T) == 8 ? 1e-9 : 1e-3,
               [&](int64_t i) { return contrastive_row(dense, i, params); });
  else if (sizeof(T) == 8)
    check_sums(dense, alone, 1, 1e-9, [&](int64_t i) {
      return midpoints                 ? midpoint_row(dense, i, params)
             : c.term == "ranked_list" ? ranked_list_row(dense, i, params)
                                       : softmax_row(dense, i, c.term, params);
    });
}

template <class T>
void check_triplet(const Problem& p, const Dense& dense, const TripletCase& c) {
  const auto [alone, together] = on_both([&](Workers& workers) { return run_triplet<T>(p, c, workers); });
  check(alone.bytes == together.bytes, "equal bits on one thread and on three");
  check_finite(dense, alone, 1);
  if (sizeof(T) == 8)
    check_sums(dense, alone, 1, 1e-9,
               [&](int64_t i) { return triplet_row(dense, i, c.mining, kMargin, c.soft); });
}

template <class T>
void check_mining(const Problem& p, const Dense& dense) {
  const auto [alone, together] = on_both([&](Workers& workers) { return run_hard<T>(p, workers); });
  check(same_bits(alone.positive, together.positive) && same_bits(alone.negative, together.negative),
        "equal bits on one thread and on three");
  for (int64_t i = 0; i < p.m(); ++i) {
    if (dense.lost(i)) continue;
    double farthest = -1.0, nearest = INFINITY;
    for (int64_t j = 0; j < p.n(); ++j) {
      if (dense.positive(i, j)) farthest = std::max(farthest, dense(i, j));
      if (dense.negative(i, j)) nearest = std::min(nearest, dense(i, j));
    }
    const int64_t positive = alone.positive[i], negative = alone.negative[i];
    const double tolerance = sizeof(T) == 8 ? 1e-9 : 1e-3;
    check((positive < 0) == (farthest < 0.0) && (negative < 0) == (nearest == INFINITY),
          "hard mining: -1 where there is none");
    check(positive < 0 || (dense.positive(i, positive) && close(dense(i, positive), farthest, tolerance)),
          "the farthest positive");
    check(negative < 0 || (dense.negative(i, negative) && close(dense(i, negative), nearest, tolerance)),
          "the nearest negative");
  }
  const auto [first, second] = on_both([&](Workers& workers) { return mine_semihard<T>(p.input, workers); });
  check(first.size() == second.size() &&
            std::equal(first.begin(), first.end(), second.begin(),
                       [](MinedTriplet a, MinedTriplet b) {
                         return a.anchor == b.anchor && a.positive == b.positive && a.negative == b.negative;
                       }),
        "equal triplets on one thread and on three");
  for (size_t l = 0; l < first.size(); ++l) {
    check(dense.positive(first[l].anchor, first[l].positive) &&
              dense.negative(first[l].anchor, first[l].negative),
          "a triplet's labels");
    check(l == 0 || std::pair{first[l - 1].anchor, first[l - 1].positive} <
                        std::pair{first[l].anchor, first[l].positive},
          "triplets in order");
  }
}

template <class T>
void check_top_k(const Problem& p, const Dense& dense, bool dot, bool exclude_self, int64_t k) {
  const auto [alone, together] =
      on_both([&](Workers& workers) { return run_top_k<T>(p, k, dot, exclude_self, workers); });
  check(same_bits(alone.values, together.values) && same_bits(alone.indices, together.indices),
        "equal bits on one thread and on three");
  const double tolerance = sizeof(T) == 8 ? 1e-9 : 1e-3;
  for (int64_t i = 0; i < p.m(); ++i) {
    if (dense.lost(i)) continue;
    std::vector<double> sorted;
    for (int64_t j = 0; j < p.n(); ++j)
      if (!(exclude_self && i == j)) sorted.push_back(dense(i, j));
    std::sort(sorted.begin(), sorted.end());
    for (int64_t r = 0; r < k; ++r) {
      const int64_t j = alone.indices[i * k + r];
      check(j >= 0 && j < p.n() && !(exclude_self && i == j), "an index in range");
      check(dot || close(alone.values[i * k + r], sorted[r], tolerance), "the k least distances");
      check(dot || close(dense(i, j), sorted[r], tolerance), "their rows");
    }
  }
}

template <class T>
void check_indexed(const Problem& p, const Dense& dense) {
  const Listed pairs(p, 3 * p.m());
  const auto [alone, together] = on_both([&](Workers& workers) { return run_indexed<T>(p, pairs, workers); });
  check(alone.bytes == together.bytes, "equal bits on one thread and on three");
  for (int64_t l = 0; l < static_cast<int64_t>(pairs.i.size()); ++l) {
    const double expected = dense(pairs.i[l], pairs.j[l]);
    if (std::isfinite(expected))
      check(close(alone.rows[l], expected, sizeof(T) == 8 ? 1e-12 : 1e-6), "listed distances");
  }
}

// Everything there is to call, on problem `p`.
const std::vector<PairCase> kPairCases = {
    {"ranked_list", {1.2, 0.4, 10, 0, 1, 1, 0, 0, 0}, Fused::query, true},
    {"ranked_list", {1.2, 0.4, 10, 0, 1, 1, 0, 0, 1e-6}, Fused::none, true},
    {"ranked_list", {1.2, 0.4, 10, 2, 0.7, 1.3, 0, 1, 0}, Fused::none, false},
    {"ranked_list", {1.2, 0.4, 5, 3, 1, 1, 1, 0, 0}, Fused::none, false},
    {"ranked_list", {1.2, 0.4, 200, 20, 1, 1, 1, 1, 0}, Fused::none, false},
    {"contrastive", {0.2, 1.0, 2}, Fused::none, false},
    {"contrastive", {0.2, 1.0, 1}, Fused::none, false},
    {"contrastive", {0.0, 1.0, 2}, Fused::both, false},
    {"contrastive", {0.1, 0.8, 1}, Fused::both, false},
    {"contrastive", {0.1, 0.8, 1}, Fused::none, false, true},
    {"sup_con", {-10}, Fused::none, false},
    {"sup_con", {-200}, Fused::none, false, true},
    {"sup_con", {-10}, Fused::none, false, true},
    {"sup_con", {0.5}, Fused::none, false, true, true},
    {"sup_con", {-10}, Fused::both, false},
    {"sup_con", {-200}, Fused::both, false},
    {"negatives_lse", {-10, 10}, Fused::none, false},
    {"negatives_lse", {0.5, 0}, Fused::none, false, false, true},
    {"softplus_negatives", {-10, INFINITY}, Fused::none, false},
    {"softplus_negatives", {0.5, INFINITY}, Fused::none, false, true, true},
    {"softplus_negatives", {-0.1, 500}, Fused::both, false},
    {"softplus_negatives", {-200, INFINITY}, Fused::both, false},
    {"softplus_positives", {-10, 10}, Fused::none, false},
    {"softplus_positives", {0.5, 0}, Fused::none, false, true, true},
    {"midpoints", {2.8, 3.4}, Fused::none, false, false, true},
    {"midpoints", {29.0, 16.0}, Fused::both, false, false, true},
};
constexpr TripletCase kTripletCases[] = {{Mining::semihard, false},     {Mining::semihard, true},
                                         {Mining::hard, false},         {Mining::hard, true},
                                         {Mining::all, false},          {Mining::all, true},
                                         {Mining::semihard_all, false}, {Mining::semihard_all, true},
                                         {Mining::all, false, true},    {Mining::semihard_all, true, true}};
constexpr size_t kOthers = 4;
const size_t kCalls = kPairCases.size() + std::size(kTripletCases) + kOthers;

template <class T>
void check_call(size_t call, const Problem& p) {
  if (call < kPairCases.size()) return check_pair<T>(p, kPairCases[call]);
  const Dense dense(p);
  call -= kPairCases.size();
  if (call < std::size(kTripletCases)) return check_triplet<T>(p, dense, kTripletCases[call]);
  call -= std::size(kTripletCases);
  const bool exclude_self = call == 2 && p.n() > 1;
  if (call == 0) return check_mining<T>(p, dense);
  if (call == 1) return check_indexed<T>(p, dense);
  check_top_k<T>(p, dense, call == 3, exclude_self, std::min<int64_t>(p.n() - exclude_self, 1 + p.m() % 9));
}

// Around the edges of vectors and tiles; the last is two tiles of 128 and more.
constexpr Shape kShapes[] = {{1, 2, 3},    {2, 1, 1},      {63, 65, 3},  {64, 64, 33},
                             {65, 63, 1},  {129, 64, 33},  {64, 129, 3}, {2, 300, 33},
                             {300, 65, 3}, {129, 130, 16}, {65, 300, 1}, {600, 530, 3}};

void run(int64_t rounds, uint64_t seed) {
  Random random(seed);
  size_t next_shape = 0;
  for (int64_t round = 0; round < rounds; ++round)
    for (size_t call = 0; call < kCalls; ++call)
      for (const Form form : {Form::self, Form::two_set, Form::plain})
        for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
          const Shape shape = kShapes[next_shape++ % std::size(kShapes)];
          const auto geometry = static_cast<Geometry>(below(random, 5));
          const auto classes = static_cast<Classes>(below(random, 4));
          const auto metric = static_cast<Metric>(below(random, 3));
          const bool unit_rows = call < kPairCases.size() && kPairCases[call].term == "midpoints";
          const bool normalize = below(random, 2) != 0 || unit_rows;
          char text[160];
          std::snprintf(text, sizeof(text),
                        "round %d call %d form %d dtype %d shape %dx%dx%d geometry %d classes %d metric %d "
                        "normalize %d",
                        int(round), int(call), int(form), int(dtype), int(shape.m), int(shape.n),
                        int(shape.width), int(geometry), int(classes), int(metric), int(normalize));
          current = text;
          Problem p(form, shape, dtype, geometry, classes, metric, normalize, random);
          seed_fault(p.input);
          if (dtype == DType::f64) check_call<double>(call, p);
          else check_call<float>(call, p);
        }
}

}  // namespace
}  // namespace fused_rank

int main(int argc, char** argv) {
  using namespace fused_rank;
  if (argc > 3) fault = fault_named(argv[3]);
  run(argc > 1 ? std::atoll(argv[1]) : 1, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
  std::puts("ok");
}
