// The engine's small pieces, one by one. Prints the accuracy that it finds.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <utility>

#include "cpu/pair_matrix.h"
#include "cpu/simd_math.h"
#include "workers.h"

namespace fused_rank {
namespace {

void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED %s\n", what);
  std::exit(1);
}

// Runs everything in the caller's thread and counts the rounds; a lone task does not come here, and says so by its worker, 0.
class CountingWorkers final : public Workers {
 public:
  int rounds = 0;
  int count() const override { return 2; }

 private:
  void run_all(const std::function<void(int)>& body) override {
    ++rounds;
    body(1);
  }
};

// Rounds of tiles, as a walk over a grid of blocks visits them.
template <class Walk>
std::vector<std::vector<std::pair<int64_t, int64_t>>> rounds_of(Walk&& walk) {
  CountingWorkers workers;
  std::vector<std::vector<std::pair<int64_t, int64_t>>> rounds;
  int current = -1;
  walk(workers, [&](int64_t i, int64_t j, int worker) {
    if (worker == 0 || workers.rounds != current) rounds.emplace_back();
    current = worker == 0 ? -1 : workers.rounds;
    rounds.back().push_back({i, j});
  });
  return rounds;
}

// `shared`: rows and columns are the same blocks.
void check_rounds(const std::vector<std::vector<std::pair<int64_t, int64_t>>>& rounds,
                  std::set<std::pair<int64_t, int64_t>> expected, bool shared) {
  for (const auto& round : rounds) {
    std::set<int64_t> rows, columns;
    for (const auto& [i, j] : round) {
      check(expected.erase({i, j}) == 1, "schedule: a tile twice, or one that is not there");
      check(rows.insert(i).second && (shared ? i == j || rows.insert(j).second : columns.insert(j).second),
            "schedule: a block twice in a round");
    }
  }
  check(expected.empty(), "schedule: every tile once");
}

void schedule() {
  for (int64_t blocks = 1; blocks <= 9; ++blocks) {
    std::set<std::pair<int64_t, int64_t>> triangle;
    for (int64_t i = 0; i < blocks; ++i)
      for (int64_t j = i; j < blocks; ++j) triangle.insert({i, j});
    check_rounds(rounds_of([&](Workers& w, auto tile) { for_each_triangle_tile(w, blocks, tile); }), triangle,
                 true);
    for (int64_t columns = 1; columns <= 9; ++columns) {
      std::set<std::pair<int64_t, int64_t>> rectangle;
      for (int64_t i = 0; i < blocks; ++i)
        for (int64_t j = 0; j < columns; ++j) rectangle.insert({i, j});
      check_rounds(
          rounds_of([&](Workers& w, auto tile) { for_each_rectangle_tile(w, blocks, columns, tile); }),
          rectangle, false);
    }
  }
}

void order() {
  std::mt19937_64 random(0);
  for (int trial = 0; trial < 200; ++trial) {
    const bool self = trial % 2 == 0;
    const int64_t m = 1 + random() % 40, n = self ? m : 1 + random() % 40, stride = 1 + random() % 2,
                  classes = 1 + random() % 12;
    std::vector<int64_t> labels(m * stride), others(n);
    const auto label = [&] {
      return static_cast<int64_t>(random() % classes) - 3 + (trial % 3 == 0 ? INT64_MIN + 3 : 0);
    };
    for (int64_t& l : labels) l = label();
    for (int64_t& l : others) l = label();
    const Order o =
        order_by_label(labels.data(), stride, m, self ? nullptr : others.data(), 1, self ? 0 : n, self);
    const auto gallery_label = [&](int64_t j) { return self ? labels[j * stride] : others[j]; };
    std::set<int32_t> rows(o.query.begin(), o.query.end());
    check(static_cast<int64_t>(rows.size()) == m && *rows.begin() == 0 && *rows.rbegin() == m - 1,
          "order: a permutation");
    int64_t widest = 0;
    for (int64_t i = 0; i < m; ++i) {
      const int64_t own = labels[o.query[i] * stride];
      if (i > 0)
        check(std::pair{labels[o.query[i - 1] * stride], o.query[i - 1]} < std::pair{own, o.query[i]},
              "order: by label, then by row");
      for (int64_t j = 0; j < n; ++j)
        check((gallery_label(o.gallery_rows()[j]) == own) ==
                  (j >= o.positives[i].begin && j < o.positives[i].end),
              "order: the range of the positives");
      widest = std::max(widest, o.positive_count(i));
      if (i > 0)
        check(
            o.positives[i].begin >= o.positives[i - 1].begin && o.positives[i].end >= o.positives[i - 1].end,
            "order: ranges rise");
    }
    check(o.widest == widest, "order: the widest class");
  }
}

// The largest error of f on a grid, in units in the last place of the true value.
template <class T, class F, class True>
double worst_ulps(double from, double to, F&& f, True&& truth) {
  double worst = 0.0;
  constexpr int steps = 40000;
  for (int s = 0; s <= steps; ++s) {
    const T x = static_cast<T>(from + (to - from) * s / steps);
    const long double expected = truth(static_cast<long double>(x));
    const T rounded = static_cast<T>(expected);
    const long double ulp = std::nextafter(rounded, std::numeric_limits<T>::infinity()) - rounded;
    worst = std::max(
        worst, static_cast<double>(std::fabs((static_cast<long double>(f(Vec<T>(x))[0]) - expected) / ulp)));
  }
  return worst;
}

template <class T>
void functions(const char* name, double lowest, double highest) {
  const double e = worst_ulps<T>(
      lowest, highest, [](Vec<T> x) { return exp(x); }, [](long double x) { return std::exp(x); });
  const double p = worst_ulps<T>(
      lowest, highest, [](Vec<T> x) { return softplus(x); },
      [](long double x) { return std::max(x, 0.0L) + std::log1p(std::exp(-std::fabs(x))); });
  const double s = worst_ulps<T>(
      lowest, highest, [](Vec<T> x) { return sigmoid(x); },
      [](long double x) { return 1.0L / (1.0L + std::exp(-x)); });
  std::printf("%s on %d-byte vectors, ulps: exp %.2f softplus %.2f sigmoid %.2f\n", name, kVectorBytes, e, p,
              s);
  check(e <= 2.0 && p <= 3.0 && s <= 3.5, "accuracy of exp, softplus and sigmoid");
  for (const double x : {-1e30, -1e4, 0.0, 1e4, 1e30}) {
    const T value = exp(Vec<T>(static_cast<T>(x)))[0];
    check(std::isfinite(value) && value >= T(0), "exp is finite anywhere");
  }
}

// Every x_i · x_j of `rows` rows in the given order, by pair of original rows.
template <class T>
std::map<std::pair<int32_t, int32_t>, T> products(const Source& source, const std::vector<int32_t>& order) {
  ThreadWorkers workers(1);
  PairInput input;
  input.query = source;
  input.order = order_as_given(source.rows, 0, true);
  input.order.query = order;
  input.metric = Metric::dot;
  const PairMatrix<T> matrix(input, workers, Centre::none);
  DistanceTile<T> tile(matrix.packed(), Metric::dot);
  const int64_t height = matrix.tile(), blocks = matrix.query().blocks();
  std::map<std::pair<int32_t, int32_t>, T> all;
  for (int64_t I = 0; I < blocks; ++I)
    for (int64_t J = 0; J < blocks; ++J) {
      tile.compute(I, J);
      for (int i = 0; i < tile.rows(); ++i)
        for (int j = 0; j < tile.cols(); ++j)
          all[{order[I * height + i], order[J * height + j]}] = tile.row(i)[j];
    }
  return all;
}

template <class T>
void product(DType dtype) {
  std::mt19937_64 random(1);
  std::normal_distribution<T> normal;
  for (const int64_t width : {1, 33, 300}) {
    const int64_t rows = 64 + 37;
    std::vector<T> x(rows * width);
    for (T& v : x) v = normal(random);
    const Source source{x.data(), dtype, rows, width, width, 1};
    std::vector<int32_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    const auto first = products<T>(source, order);
    std::shuffle(order.begin(), order.end(), random);
    check(first == products<T>(source, order), "product: the same bits anywhere in any tile");
    for (const auto& [pair, value] : first)
      check(value == first.at({pair.second, pair.first}), "product: transposed bits of the transpose");
  }
}

void poison() {
#if defined(FUSED_RANK_POISON)
  check(std::isnan(Buffer<float>(3)[2]) && std::isnan(Buffer<double>(1 << 20)[5]),
        "poison: fresh memory is NaN");
#endif
}

}  // namespace
}  // namespace fused_rank

int main() {
  using namespace fused_rank;
  schedule();
  order();
  functions<float>("float", -86.0, 87.0);
  functions<double>("double", -700.0, 700.0);
  product<float>(DType::f32);
  product<double>(DType::f64);
  poison();
  std::puts("ok");
}
