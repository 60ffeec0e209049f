#include "triplet.h"

#include "few_positives.h"
#include "indexed.h"
#include "many_positives.h"
#include "selection.h"

namespace fused_rank {

namespace {

bool mines(Mining mining) { return mining == Mining::hard || mining == Mining::semihard; }

// With `active` only the triplets of anchors that have an active one.
template <class T>
std::vector<MinedTriplet> triplets_from_state(const TripletProblem& problem, const T* state,
                                              const T* active = nullptr) {
  std::vector<MinedTriplet> mined;
  const Order& order = problem.input.order;
  const int64_t m = problem.input.query.rows;
  for (int64_t i = 0; i < m; ++i) {
    const int32_t q = order.query[i];
    if (active && active[q] == T(0)) continue;
    if (problem.mining == Mining::hard) {
      if (state[q] >= T(0) && state[m + q] >= T(0))
        mined.push_back({q, static_cast<int32_t>(state[q]), static_cast<int32_t>(state[m + q])});
      continue;
    }
    for (int64_t s = 0; s < order.positive_count(i); ++s)
      if (state[s * m + q] >= T(0))
        mined.push_back(
            {q, order.gallery_rows()[order.at_slot(i, s)], static_cast<int32_t>(state[s * m + q])});
  }
  return mined;
}

// Mined triplets are few: their distances are taken once more, by direct difference, and so is their gradient.
class MinedTriplets {
 public:
  MinedTriplets(const TripletProblem& problem, std::vector<MinedTriplet> mined, Workers& workers)
      : problem_(problem), mined_(std::move(mined)), workers_(workers), positive_(mined_.size()),
        negative_(mined_.size()) {
    const PairInput& in = problem.input;
    describe(query_, in.query, in.unit_rows(), workers);
    if (!in.self()) describe(gallery_, in.gallery, in.unit_rows(), workers);
    const int64_t width = in.query.width;
    workers.for_ranges(static_cast<int64_t>(mined_.size()), 64, [&](int64_t begin, int64_t end) {
      std::vector<double> a(width), b(width);
      int64_t held = -1;  // an anchor's triplets follow one another
      for (int64_t l = begin; l < end; ++l) {
        if (mined_[l].anchor != held) query_.rows.read(held = mined_[l].anchor, a.data());
        others().rows.read(mined_[l].positive, b.data());
        positive_[l] = metric_of_square(in.metric, squared_difference(a.data(), b.data(), width));
        others().rows.read(mined_[l].negative, b.data());
        negative_[l] = metric_of_square(in.metric, squared_difference(a.data(), b.data(), width));
      }
    });
  }

  template <class T>
  void losses(T* rows) const {
    const int64_t m = problem_.input.query.rows;
    std::vector<double> sum(m, 0.0);
    std::fill(rows, rows + 3 * m, T(0));
    for (size_t l = 0; l < mined_.size(); ++l) {
      const double loss = loss_of(l);
      sum[mined_[l].anchor] += loss;
      rows[m + mined_[l].anchor] += T(1);
      rows[2 * m + mined_[l].anchor] += problem_.soft || loss > 0.0 ? T(1) : T(0);
    }
    for (int64_t i = 0; i < m; ++i)
      rows[i] = is_lost(query_.rows, i, query_.rows, others().rows) ? T(NAN) : static_cast<T>(sum[i]);
  }

  template <class T>
  void gradient(const TripletBackward<T>& io) {
    const Metric metric = problem_.input.metric;
    std::vector<Edge> edges;
    for (size_t l = 0; l < mined_.size(); ++l) {
      const double slope = slope_of(l) * io.grad_sums[mined_[l].anchor];
      if (slope == 0.0) continue;
      edges.push_back({mined_[l].anchor, mined_[l].positive, slope * edge_factor(metric, positive_[l])});
      edges.push_back({mined_[l].anchor, mined_[l].negative, -slope * edge_factor(metric, negative_[l])});
    }
    edge_gradient(query_, others(), problem_.input.self(), problem_.input.unit_rows(), edges, io.grad_query,
                  io.grad_gallery, workers_);
    if (io.grad_query) poison(query_, io.grad_query);
    if (io.grad_gallery) poison(gallery_, io.grad_gallery);
  }

 private:
  const Embeddings& others() const { return problem_.input.self() ? query_ : gallery_; }
  double loss_of(size_t l) const {
    const double ap = positive_[l], an = negative_[l];
    return problem_.soft ? smooth_.loss(ap, an) : hinge_.loss(ap, an);
  }
  double slope_of(size_t l) const {
    const double ap = positive_[l], an = negative_[l];
    return problem_.soft ? smooth_.slope(ap, an) : hinge_.slope(ap, an);
  }
  void poison(const Embeddings& own, void* gradient) const {
    if (query_.rows.all_finite && others().rows.all_finite) return;
    const std::vector<double> unknown(own.source.width, NAN);
    for (int64_t i = 0; i < own.source.rows; ++i)
      if (is_lost(own.rows, i, query_.rows, others().rows))
        narrow(unknown.data(), own.source.width, own.source.dtype, gradient, i);
  }

  const TripletProblem& problem_;
  std::vector<MinedTriplet> mined_;
  Workers& workers_;
  TripletMargin<false> hinge_{problem_.margin, false};
  TripletMargin<true> smooth_{problem_.margin, false};
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

// The queries' rows of [3][reported], from `first` on.
template <class T>
void forward_many(const TripletProblem& problem, T* rows, int64_t first, int64_t reported, Workers& workers) {
  ManyPositives<T> sweep(problem.input, problem.input.metric, workers);
  std::vector<RowRanker<T>> rankers(workers.count(),
                                    RowRanker<T>(problem.mining, problem.margin, problem.soft));
  sweep.for_each_row(nullptr, [&](const RankRow<T>& row, int64_t i, T*, int worker) {
    const auto result = rankers[worker].rank(row, nullptr);
    const int64_t at = first + problem.input.order.query[i];
    rows[at] = sweep.matrix().lost(sweep.matrix().query_rows(), i) ? T(NAN) : static_cast<T>(result.sum);
    rows[reported + at] = static_cast<T>(result.count);
    rows[2 * reported + at] = static_cast<T>(result.active);
  });
}

template <class T>
void backward_many(const TripletProblem& problem, const T* grad_sums, void* grad_query, void* grad_gallery,
                   Workers& workers) {
  ManyPositives<T> sweep(problem.input, problem.input.metric, workers);
  PairMatrix<T>& matrix = sweep.matrix();
  std::vector<RowRanker<T>> rankers(workers.count(),
                                    RowRanker<T>(problem.mining, problem.margin, problem.soft));
  GradientSums<T> sums = matrix.make_sums(grad_query != nullptr, grad_gallery != nullptr);
  sweep.for_each_row(&sums, [&](const RankRow<T>& row, int64_t i, T* coefficients, int worker) {
    rankers[worker].rank(row, coefficients);
    const T upstream = grad_sums[problem.input.order.query[i]];
    for (int64_t j = 0; j < row.n; ++j) coefficients[j] *= upstream;
  });
  matrix.write(sums, grad_query, grad_gallery);
}

// Two sets seen from the gallery, one way.
PairInput turned(const PairInput& in) {
  return {in.gallery, in.query, in.order.turned(), in.metric, in.normalize};
}
TripletProblem turned(const TripletProblem& problem) {
  return {turned(problem.input), problem.mining, problem.margin, problem.soft};
}

// into += more, rows of one dtype.
void add(const Source& like, void* into, const std::vector<uint8_t>& more) {
  std::vector<double> sum(like.width), other(like.width);
  const auto rows_of = [&](const void* data) {
    return Source{data, like.dtype, like.rows, like.width, like.width, 1};
  };
  for (int64_t i = 0; i < like.rows; ++i) {
    widen(rows_of(into), i, 1.0, sum.data());
    widen(rows_of(more.data()), i, 1.0, other.data());
    for (int64_t k = 0; k < like.width; ++k) sum[k] += other[k];
    narrow(sum.data(), like.width, like.dtype, into, i);
  }
}

// Many positives are ranked a row at a time, so the symmetric form is one direction after the other.
template <class T>
void forward_many_either_way(const TripletProblem& problem, T* rows, Workers& workers) {
  forward_many(problem, rows, 0, problem.rows(), workers);
  if (problem.input.symmetric)
    forward_many(turned(problem), rows, problem.input.query.rows, problem.rows(), workers);
}
template <class T>
void backward_many_either_way(const TripletProblem& problem, const TripletBackward<T>& io, Workers& workers) {
  backward_many(problem, io.grad_sums, io.grad_query, io.grad_gallery, workers);
  if (!problem.input.symmetric) return;
  const Source &query = problem.input.query, &gallery = problem.input.gallery;
  const auto room = [](const Source& like, const void* wanted) {
    return std::vector<uint8_t>(wanted ? like.rows * like.width * bytes_of(like.dtype) : 0);
  };
  std::vector<uint8_t> to_query = room(query, io.grad_query), to_gallery = room(gallery, io.grad_gallery);
  backward_many(turned(problem), io.grad_sums + query.rows, io.grad_gallery ? to_gallery.data() : nullptr,
                io.grad_query ? to_query.data() : nullptr, workers);
  if (io.grad_query) add(query, io.grad_query, to_query);
  if (io.grad_gallery) add(gallery, io.grad_gallery, to_gallery);
}

void check_form(const TripletProblem& problem) {
  if (problem.input.symmetric && mines(problem.mining))
    throw std::invalid_argument("mined triplets of two sets both ways come from mining");
}

// Has any anchor many positives, in the symmetric form of either side?
bool many(const PairInput& in) {
  if (in.order.widest > kFewPositives) return true;
  if (!in.symmetric) return false;
  const std::vector<int64_t> counts = in.order.gallery_positive_counts();
  return *std::max_element(counts.begin(), counts.end()) > kFewPositives;
}
bool many(const TripletProblem& problem) { return problem.mining != Mining::hard && many(problem.input); }

}  // namespace

template <class T>
void triplet_forward(const TripletProblem& problem, const TripletForward<T>& out, Workers& workers) {
  check_form(problem);
  if (many(problem)) return forward_many_either_way(problem, out.rows, workers);
  if (mines(problem.mining)) {
    find_mined(problem, out.state, workers);
    return MinedTriplets(problem, triplets_from_state(problem, out.state), workers).losses(out.rows);
  }
  if (problem.soft) return AllTriplets<T, true>(problem, workers).forward(out);
  AllTriplets<T, false>(problem, workers).forward(out);
}

template <class T>
void triplet_backward(const TripletProblem& problem, const TripletBackward<T>& io, Workers& workers) {
  check_form(problem);
  if (many(problem)) return backward_many_either_way(problem, io, workers);
  if (mines(problem.mining))
    return MinedTriplets(problem, triplets_from_state(problem, io.state, io.active), workers).gradient(io);
  if (problem.soft) return AllTriplets<T, true>(problem, workers).backward(io);
  AllTriplets<T, false>(problem, workers).backward(io);
}

namespace {

template <class T>
void mine_semihard_of_many(const PairInput& input, int64_t offset, std::vector<std::vector<MinedTriplet>>& of,
                           Workers& workers) {
  ManyPositives<T> sweep(input, Metric::squared, workers);
  std::vector<RowRanker<T>> rankers(workers.count(), RowRanker<T>(Mining::semihard, 0.0, false));
  sweep.for_each_row(nullptr, [&](const RankRow<T>& row, int64_t i, T*, int worker) {
    RowRanker<T>& ranker = rankers[worker];
    ranker.mine(row);
    if (!sweep.matrix().query_rows().finite[i]) return;
    const int32_t anchor = static_cast<int32_t>(offset + input.order.query[i]);
    for (int64_t k = 0; k < ranker.positives() && ranker.negative_at(k) >= 0; ++k)
      of[anchor].push_back({anchor, row.number[ranker.positive_at(k)], row.number[ranker.negative_at(k)]});
  });
}

}  // namespace

template <class T>
std::vector<MinedTriplet> mine_semihard(const PairInput& input, Workers& workers) {
  const int64_t m = input.query.rows, n = input.symmetric ? input.gallery.rows : 0;
  std::vector<std::vector<MinedTriplet>> of(m + n);  // by original anchor
  if (many(input)) {
    mine_semihard_of_many<T>(input, 0, of, workers);
    if (input.symmetric) mine_semihard_of_many<T>(turned(input), m, of, workers);
  } else {
    for (const MinedTriplet& one : SemihardSweep<T>(input, workers).triplets()) of[one.anchor].push_back(one);
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
