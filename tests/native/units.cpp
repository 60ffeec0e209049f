// The engine's small pieces, one by one. Prints the accuracy that it finds.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
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

// Threads that survive an exception, as torch's do.
class CatchingWorkers final : public ThreadWorkers {
 public:
  using ThreadWorkers::ThreadWorkers;
  std::atomic<bool> caught{false};

 private:
  void run_one(const std::function<void(int)>& body, int worker) override {
    try {
      body(worker);
    } catch (const std::runtime_error&) {
      caught = true;
    }
  }
};

// The tiles that each block took part in, in the order they ran; dies where two tiles of one block run at a time.
class Visits {
 public:
  Visits(int64_t blocks, int64_t first_col) : first_col_(first_col), busy_(blocks), tiles_(blocks) {}

  void visit(int64_t i, int64_t j) {
    enter(i, i, j);
    if (first_col_ + j != i) enter(first_col_ + j, i, j);
    std::this_thread::yield();
    busy_[i] = false;
    busy_[first_col_ + j] = false;
  }
  const std::vector<std::vector<std::pair<int64_t, int64_t>>>& tiles() const { return tiles_; }

 private:
  void enter(int64_t block, int64_t i, int64_t j) {
    check(!busy_[block].exchange(true), "schedule: two tiles of a block at a time");
    tiles_[block].push_back({i, j});
  }
  int64_t first_col_;
  std::vector<std::atomic<bool>> busy_;
  std::vector<std::vector<std::pair<int64_t, int64_t>>> tiles_;
};

// Every tile once, and every block's tiles in the same order for any number of threads.
void check_schedule(const Schedule& schedule, int64_t blocks, int64_t first_col,
                    const std::set<std::pair<int64_t, int64_t>>& expected) {
  std::vector<std::vector<std::pair<int64_t, int64_t>>> order;
  for (const int threads : {1, 2, 5}) {
    ThreadWorkers workers(threads);
    Visits visits(blocks, first_col);
    schedule.run(workers, [&](int64_t i, int64_t j, int) { visits.visit(i, j); });
    if (threads == 1) order = visits.tiles();
    check(visits.tiles() == order, "schedule: the order depends on the threads");
  }
  std::multiset<std::pair<int64_t, int64_t>> seen;
  for (int64_t block = 0; block < blocks; ++block)
    for (const auto& tile : order[block])
      if (tile.first == block) seen.insert(tile);
  check(std::equal(seen.begin(), seen.end(), expected.begin(), expected.end()), "schedule: every tile once");
}

// A tile that throws ends the walk: whoever waits for its blocks must not wait for ever.
void check_failing_tile() {
  for (int64_t bad = 0; bad < 8; ++bad) {
    CatchingWorkers workers(3);
    Schedule::triangle(8).run(workers, [&](int64_t i, int64_t j, int) {
      if (i == bad && j == 7) throw std::runtime_error("bad tile");
    });
    check(workers.caught, "schedule: an exception is lost");
  }
}

void schedule() {
  for (int64_t blocks = 1; blocks <= 9; ++blocks) {
    std::set<std::pair<int64_t, int64_t>> triangle;
    for (int64_t i = 0; i < blocks; ++i)
      for (int64_t j = i; j < blocks; ++j) triangle.insert({i, j});
    check_schedule(Schedule::triangle(blocks), blocks, 0, triangle);
    for (int64_t columns = 1; columns <= 9; ++columns) {
      std::set<std::pair<int64_t, int64_t>> rectangle;
      for (int64_t i = 0; i < blocks; ++i)
        for (int64_t j = 0; j < columns; ++j) rectangle.insert({i, j});
      check_schedule(Schedule::rectangle(blocks, columns), blocks + columns, blocks, rectangle);
    }
  }
  check_failing_tile();
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
