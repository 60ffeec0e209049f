#include "triplet.h"

#include "few_positives.h"
#include "indexed.h"
#include "many_positives.h"
#include "selection.h"

namespace fused_rank {

namespace {

bool mines(Mining mining) { return mining == Mining::hard || mining == Mining::semihard; }

// Mined triplets are few: their distances are taken once more, by direct difference, and so is their gradient.
struct Slot {
  int32_t query, positive, negative;  // original rows
};

template <class T>
std::vector<Slot> slots_from_state(const TripletProblem& problem, const T* state) {
  std::vector<Slot> slots;
  const Order& order = problem.input.order;
  const int64_t m = problem.input.query.rows;
  for (int64_t i = 0; i < m; ++i) {
    const int32_t q = order.query[i];
    if (problem.mining == Mining::hard) {
      if (state[q] >= T(0) && state[m + q] >= T(0))
        slots.push_back({q, static_cast<int32_t>(state[q]), static_cast<int32_t>(state[m + q])});
      continue;
    }
    const bool self = problem.input.self();
    for (int64_t s = 0; s < order.positive_count(i); ++s) {
      const int64_t g = order.positives[i].begin + s;
      const int32_t positive = order.gallery_rows()[g + (self && g >= i ? 1 : 0)];
      if (state[s * m + q] >= T(0)) slots.push_back({q, positive, static_cast<int32_t>(state[s * m + q])});
    }
  }
  return slots;
}

class MinedTriplets {
 public:
  MinedTriplets(const TripletProblem& problem, std::vector<Slot> slots, Workers& workers)
      : problem_(problem), slots_(std::move(slots)), workers_(workers), positive_(slots_.size()),
        negative_(slots_.size()) {
    const PairInput& in = problem.input;
    describe(query_, in.query, in.unit_rows(), workers);
    if (!in.self()) describe(gallery_, in.gallery, in.unit_rows(), workers);
    const int64_t width = in.query.width;
    workers.for_ranges(static_cast<int64_t>(slots_.size()), 64, [&](int64_t begin, int64_t end) {
      std::vector<double> a(width), b(width);
      int64_t held = -1;  // a query's slots follow one another
      for (int64_t l = begin; l < end; ++l) {
        if (slots_[l].query != held) query_.rows.read(held = slots_[l].query, a.data());
        others().rows.read(slots_[l].positive, b.data());
        positive_[l] = metric_of_square(in.metric, squared_difference(a.data(), b.data(), width));
        others().rows.read(slots_[l].negative, b.data());
        negative_[l] = metric_of_square(in.metric, squared_difference(a.data(), b.data(), width));
      }
    });
  }

  template <class T>
  void losses(T* rows) const {
    const int64_t m = problem_.input.query.rows;
    std::vector<double> sum(m, 0.0);
    std::fill(rows, rows + 3 * m, T(0));
    for (size_t l = 0; l < slots_.size(); ++l) {
      const double loss = loss_of(l);
      sum[slots_[l].query] += loss;
      rows[m + slots_[l].query] += T(1);
      rows[2 * m + slots_[l].query] += loss > 0.0 ? T(1) : T(0);
    }
    for (int64_t i = 0; i < m; ++i) {
      const bool lost = !query_.rows.finite[i] || !others().rows.all_finite;
      rows[i] = lost ? T(NAN) : static_cast<T>(sum[i]);
    }
  }

  template <class T>
  void gradient(const TripletBackward<T>& io) {
    const Metric metric = problem_.input.metric;
    std::vector<Edge> edges;
    for (size_t l = 0; l < slots_.size(); ++l) {
      const double violation = positive_[l] - negative_[l] + problem_.margin;
      const double slope = (problem_.soft     ? sigmoid(violation)
                            : violation > 0.0 ? 1.0
                                              : 0.0) *
                           io.grad_sums[slots_[l].query];
      if (slope == 0.0) continue;
      edges.push_back({slots_[l].query, slots_[l].positive, slope * edge_factor(metric, positive_[l])});
      edges.push_back({slots_[l].query, slots_[l].negative, -slope * edge_factor(metric, negative_[l])});
    }
    edge_gradient(query_, others(), problem_.input.self(), problem_.input.unit_rows(), edges, io.grad_query,
                  io.grad_gallery, workers_);
  }

 private:
  const Embeddings& others() const { return problem_.input.self() ? query_ : gallery_; }
  double loss_of(size_t l) const {
    const double violation = positive_[l] - negative_[l] + problem_.margin;
    return problem_.soft ? softplus(violation) : max(violation, 0.0);
  }

  const TripletProblem& problem_;
  std::vector<Slot> slots_;
  Workers& workers_;
  Embeddings query_, gallery_;
  std::vector<double> positive_, negative_;
};

template <class T>
void find_mined(const TripletProblem& problem, T* state, Workers& workers) {
  const PairInput& in = problem.input;
  const int64_t m = in.query.rows;
  if (problem.mining == Mining::hard) {
    std::vector<int64_t> positive(m), negative(m);
    mine_hard<T>(in, positive.data(), negative.data(), workers);
    for (int64_t i = 0; i < m; ++i) {
      state[i] = static_cast<T>(positive[i]);
      state[m + i] = static_cast<T>(negative[i]);
    }
    return;
  }
  SemihardSweep<T> sweep(in, workers);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t s = 0; s < in.order.positive_count(i); ++s)
      state[s * m + in.order.query[i]] = static_cast<T>(sweep.negative(i, s));
}

template <class T>
void forward_many(const TripletProblem& problem, const TripletForward<T>& out, Workers& workers) {
  ManyPositives<T> sweep(problem.input, problem.input.metric, workers);
  const int64_t m = problem.input.query.rows;
  std::vector<RowRanker<T>> rankers(workers.count(),
                                    RowRanker<T>(problem.mining, problem.margin, problem.soft));
  sweep.for_each_row(nullptr, [&](const RankRow<T>& row, int64_t i, T*, int worker) {
    const auto result = rankers[worker].rank(row, nullptr);
    const int64_t at = problem.input.order.query[i];
    out.rows[at] = sweep.matrix().lost(sweep.matrix().query_rows(), i) ? T(NAN) : static_cast<T>(result.sum);
    out.rows[m + at] = static_cast<T>(result.count);
    out.rows[2 * m + at] = static_cast<T>(result.active);
  });
}

template <class T>
void backward_many(const TripletProblem& problem, const TripletBackward<T>& io, Workers& workers) {
  ManyPositives<T> sweep(problem.input, problem.input.metric, workers);
  PairMatrix<T>& matrix = sweep.matrix();
  std::vector<RowRanker<T>> rankers(workers.count(),
                                    RowRanker<T>(problem.mining, problem.margin, problem.soft));
  GradientSums<T> sums = matrix.make_sums(io.grad_query != nullptr, io.grad_gallery != nullptr);
  sweep.for_each_row(&sums, [&](const RankRow<T>& row, int64_t i, T* coefficients, int worker) {
    rankers[worker].rank(row, coefficients);
    const T upstream = io.grad_sums[problem.input.order.query[i]];
    for (int64_t j = 0; j < row.n; ++j) coefficients[j] *= upstream;
  });
  matrix.write(sums, io.grad_query, io.grad_gallery);
}

bool many(const TripletProblem& problem) {
  return problem.mining != Mining::hard && problem.input.order.widest > kFewPositives;
}

}  // namespace

template <class T>
void triplet_forward(const TripletProblem& problem, const TripletForward<T>& out, Workers& workers) {
  if (many(problem)) return forward_many(problem, out, workers);
  if (mines(problem.mining)) {
    find_mined(problem, out.state, workers);
    return MinedTriplets(problem, slots_from_state(problem, out.state), workers).losses(out.rows);
  }
  if (problem.soft) return AllTriplets<T, true>(problem, workers).forward(out);
  AllTriplets<T, false>(problem, workers).forward(out);
}

template <class T>
void triplet_backward(const TripletProblem& problem, const TripletBackward<T>& io, Workers& workers) {
  if (many(problem)) return backward_many(problem, io, workers);
  if (mines(problem.mining))
    return MinedTriplets(problem, slots_from_state(problem, io.state), workers).gradient(io);
  if (problem.soft) return AllTriplets<T, true>(problem, workers).backward(io);
  AllTriplets<T, false>(problem, workers).backward(io);
}

template <class T>
std::vector<MinedTriplet> mine_semihard(const PairInput& input, Workers& workers) {
  const Order& order = input.order;
  std::vector<std::vector<MinedTriplet>> of(input.query.rows);  // by original anchor
  if (order.widest > kFewPositives) {
    ManyPositives<T> sweep(input, Metric::squared, workers);
    std::vector<RowRanker<T>> rankers(workers.count(), RowRanker<T>(Mining::semihard, 0.0, false));
    sweep.for_each_row(nullptr, [&](const RankRow<T>& row, int64_t i, T*, int worker) {
      RowRanker<T>& ranker = rankers[worker];
      ranker.find_semihard(row);
      if (!sweep.matrix().query_rows().finite[i]) return;
      for (int64_t k = 0; k < ranker.positives() && ranker.negative_at(k) >= 0; ++k)
        of[order.query[i]].push_back(
            {order.query[i], row.number[ranker.positive_at(k)], row.number[ranker.negative_at(k)]});
    });
  } else {
    SemihardSweep<T> sweep(input, workers);
    for (int64_t i = 0; i < input.query.rows; ++i)
      for (int64_t s = 0; s < order.positive_count(i); ++s)
        if (sweep.negative(i, s) >= 0 && sweep.positive_is_finite(i, s))
          of[order.query[i]].push_back({order.query[i], static_cast<int32_t>(sweep.positive(i, s)),
                                        static_cast<int32_t>(sweep.negative(i, s))});
  }
  std::vector<MinedTriplet> triplets;
  for (std::vector<MinedTriplet>& list : of) {
    std::sort(list.begin(), list.end(),
              [](const MinedTriplet& a, const MinedTriplet& b) { return a.positive < b.positive; });
    triplets.insert(triplets.end(), list.begin(), list.end());
  }
  return triplets;
}

template void triplet_forward<float>(const TripletProblem&, const TripletForward<float>&, Workers&);
template void triplet_forward<double>(const TripletProblem&, const TripletForward<double>&, Workers&);
template void triplet_backward<float>(const TripletProblem&, const TripletBackward<float>&, Workers&);
template void triplet_backward<double>(const TripletProblem&, const TripletBackward<double>&, Workers&);
template std::vector<MinedTriplet> mine_semihard<float>(const PairInput&, Workers&);
template std::vector<MinedTriplet> mine_semihard<double>(const PairInput&, Workers&);

}  // namespace fused_rank
