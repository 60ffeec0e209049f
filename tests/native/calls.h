// One call of the engine, forward and backward, with everything that it wrote.
#pragma once

#include <string>

#include "cpu/indexed.h"
#include "cpu/pair.h"
#include "cpu/selection.h"
#include "cpu/triplet.h"
#include "problem.h"

namespace fused_rank {

struct Written {
  std::string bytes;                    // all of it
  std::vector<double> rows, gradients;  // what has to be finite; rows are [3 * channels][R]

  template <class T>
  void keep(const std::vector<T>& a) {
    bytes.append(reinterpret_cast<const char*>(a.data()), a.size() * sizeof(T));
  }
  template <class T>
  void keep_rows(const std::vector<T>& a) {
    keep(a);
    rows.assign(a.data(), a.data() + a.size());
  }
  void keep_gradient(const std::vector<uint8_t>& a, const Source& like) {
    keep(a);
    std::vector<double> row(like.width);
    for (int64_t i = 0; i < like.rows; ++i) {
      widen({a.data(), like.dtype, like.rows, like.width, like.width, 1}, i, 1.0, row.data());
      gradients.insert(gradients.end(), row.begin(), row.end());
    }
  }
};

struct PairCase {
  std::string term;
  std::vector<double> params;
  Fused fused;
  bool query_only;
  bool symmetric = false;  // in two-set forms
  bool dot = false;

  PairProblem on(const Problem& p) const {
    PairProblem problem{p.input, term, params};
    problem.input.symmetric = symmetric && !p.self();
    if (dot) problem.input.metric = Metric::dot;
    return problem;
  }
};

template <class T>
std::vector<T> unwritten(int64_t size) {
  return std::vector<T>(size, std::numeric_limits<T>::quiet_NaN());
}
inline std::vector<uint8_t> gradient_of(const Source& like) {
  return std::vector<uint8_t>(like.rows * like.width * bytes_of(like.dtype), 0xff);
}

// Upstream gradients: one for each query, a zero among them, or, for a fused backward of both ends, one for each channel.
template <class T>
std::vector<T> upstream(int64_t channels, int64_t m, bool uniform) {
  std::vector<T> grad(channels * m);
  for (int64_t i = 0; i < static_cast<int64_t>(grad.size()); ++i)
    grad[i] = uniform ? T(0.5) + T(i / m) : T(i % 5) / T(4);
  return grad;
}

// A number of its own for each row, for a term that takes any.
inline double input_of(int64_t i) { return 0.5 * static_cast<double>(i % 7 - 3); }

template <class T>
Written run_pair(const Problem& p, const PairCase& c, Workers& workers) {
  const TermLayout layout = term_layout(c.term);
  const PairProblem problem = c.on(p);
  const int64_t m = p.m(), d = p.width(), r = problem.rows();
  const bool two_sets_only = layout.parts == 1 && c.term != "midpoints";
  const Fused fused = two_sets_only && p.self() ? Fused::none : c.fused;
  const bool gallery_unit = fused == Fused::both && !p.self();
  auto rows = unwritten<T>(3 * layout.channels * r), state = unwritten<T>(layout.state * r);
  std::vector<T> inputs(layout.inputs * r);
  for (int64_t i = 0; i < layout.inputs * r; ++i) inputs[i] = T(input_of(i));
  auto unit_x = unwritten<T>(fused == Fused::none ? 0 : layout.parts * m * d),
       unit_y = unwritten<T>(gallery_unit ? layout.parts * p.n() * d : 0);
  std::vector<uint8_t> live(p.tiles());
  pair_forward<T>(
      problem, {rows.data(), state.data(), live.data(), fused, unit_x.data(), unit_y.data(), inputs.data()},
      workers);

  const auto grad_sums = upstream<T>(layout.channels, r, c.fused == Fused::both);
  auto grad_inputs = unwritten<T>(layout.inputs * r);
  std::vector<uint8_t> grad_x = gradient_of(p.x.source), grad_y = gradient_of(p.y.source);
  const bool need_gallery = !p.self() && !c.query_only;
  PairBackward<T> io{grad_sums.data(), state.data(), live.data()};
  io.query_only = c.query_only;
  io.grad_query = grad_x.data();
  io.grad_gallery = need_gallery ? grad_y.data() : nullptr;
  io.grad_inputs = grad_inputs.data();
  io.fused = fused;
  io.unit_query = unit_x.data();
  io.unit_gallery = unit_y.data();
  pair_backward<T>(problem, io, workers);
  Written w;
  w.keep_rows(rows);
  w.keep(state);
  w.keep(live);
  w.keep(grad_inputs);
  w.gradients.assign(grad_inputs.begin(), grad_inputs.end());
  w.keep_gradient(grad_x, p.x.source);
  if (need_gallery) {
    w.keep_gradient(grad_y, p.y.source);
    io.grad_query = nullptr;  // the gallery's alone must be the same
    std::fill(grad_y.begin(), grad_y.end(), 0xff);
    pair_backward<T>(problem, io, workers);
    w.keep_gradient(grad_y, p.y.source);
  }
  return w;
}

struct TripletCase {
  Mining mining;
  bool soft;
  bool symmetric = false;  // in two-set forms
};
inline constexpr double kMargin = 0.3;

template <class T>
Written run_triplet(const Problem& p, const TripletCase& c, Workers& workers) {
  TripletProblem problem{p.input, c.mining, kMargin, c.soft};
  problem.input.symmetric = c.symmetric && !p.self();
  const int64_t r = problem.rows();
  auto rows = unwritten<T>(3 * r), state = unwritten<T>(triplet_state_rows(c.mining) * r);
  std::vector<uint8_t> live(p.tiles());
  triplet_forward<T>(problem, {rows.data(), state.data(), live.data()}, workers);
  const auto grad_sums = upstream<T>(1, r, false);
  std::vector<uint8_t> grad_x = gradient_of(p.x.source), grad_y = gradient_of(p.y.source);
  triplet_backward<T>(problem,
                      {grad_sums.data(), state.data(), live.data(), rows.data() + 2 * r, grad_x.data(),
                       p.self() ? nullptr : grad_y.data()},
                      workers);
  Written w;
  w.keep_rows(rows);
  w.keep(state);
  w.keep(live);
  w.keep_gradient(grad_x, p.x.source);
  if (!p.self()) w.keep_gradient(grad_y, p.y.source);
  return w;
}

struct MinedHard {
  std::vector<int64_t> positive, negative;
};
template <class T>
MinedHard run_hard(const Problem& p, Workers& workers) {
  MinedHard mined{std::vector<int64_t>(p.m(), -2), std::vector<int64_t>(p.m(), -2)};
  mine_hard<T>(p.input, mined.positive.data(), mined.negative.data(), workers);
  return mined;
}

template <class T>
struct Nearest {
  std::vector<T> values;
  std::vector<int64_t> indices;
};
template <class T>
Nearest<T> run_top_k(const Problem& p, int64_t k, bool dot, bool exclude_self, Workers& workers) {
  PairInput input = p.input;
  input.order = order_as_given(p.m(), p.n(), p.self());
  if (dot) input.metric = Metric::dot;
  Nearest<T> nearest{unwritten<T>(p.m() * k), std::vector<int64_t>(p.m() * k, -1)};
  top_k<T>(input, k, exclude_self, nearest.values.data(), nearest.indices.data(), workers);
  return nearest;
}

struct Listed {
  std::vector<int64_t> i, j;
  Listed(const Problem& p, int64_t count) : i(count), j(count) {
    for (int64_t l = 0; l < count; ++l) {
      i[l] = l * 31 % p.m();
      j[l] = l * 17 % p.n();
    }
  }
};
template <class T>
Written run_indexed(const Problem& p, const Listed& pairs, Workers& workers) {
  const bool unit_rows = p.input.unit_rows();
  Embeddings query, own_gallery;
  describe(query, p.x.source, unit_rows, workers);
  if (!p.self()) describe(own_gallery, p.y.source, unit_rows, workers);
  const Embeddings& gallery = p.self() ? query : own_gallery;
  auto distance = unwritten<T>(pairs.i.size());
  indexed_distance<T>(query, gallery, pairs.i.data(), pairs.j.data(), pairs.i.size(), p.input.metric,
                      distance.data(), workers);
  std::vector<Edge> edges;
  for (int64_t l = 0; l < static_cast<int64_t>(pairs.i.size()); ++l)
    edges.push_back({static_cast<int32_t>(pairs.i[l]), static_cast<int32_t>(pairs.j[l]),
                     edge_factor(p.input.metric, distance[l])});
  std::vector<uint8_t> grad_x = gradient_of(p.x.source), grad_y = gradient_of(p.y.source);
  edge_gradient(query, gallery, p.self(), unit_rows, edges, grad_x.data(), p.self() ? nullptr : grad_y.data(),
                workers);
  Written w;
  w.keep_rows(distance);
  w.keep_gradient(grad_x, p.x.source);
  if (!p.self()) w.keep_gradient(grad_y, p.y.source);
  return w;
}

}  // namespace fused_rank
