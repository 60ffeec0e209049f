// The angular loss of every positive pair of a self form: for each pair {a, p} of a class, with s = x · y and E = exp(scale * s),
//   L_ap = log(1 + exp(-pull * s_ap) * sum_n exp(scale * (x_a + x_p) · x_n)),   reported by both a and p.
//
// The midpoint's product is a sum of two, s_an + s_pn, so the sum over negatives is sum_n E_an E_pn: all pairs of a class take the
// few products of its own rows of E, and no pair costs a row of the product. A strip of whole classes is computed against all rows;
// its losses are then complete, and its values become coefficients in place: 1u, and 2u for the gradient. The values of a class
// too large to be kept are computed twice, a block of columns at a time: 1u more.
#pragma once

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "../terms/log_sum.h"
#include "pair.h"
#include "pair_matrix.h"

namespace fused_rank {

inline constexpr const char* kMidpoints = "midpoints";

template <class T>
class Midpoints {
  using V = Vec<T>;

 public:
  Midpoints(const PairProblem& problem, Workers& workers)
      : matrix_(problem.input, workers, Centre::none), workers_(workers), scale_(problem.params[0]),
        pull_(problem.params[1]), scratch_(matrix_.make_scratch(Metric::dot)) {
    if (!matrix_.self() || problem.input.metric != Metric::dot || !problem.input.unit_rows())
      throw std::invalid_argument("midpoints are those of unit rows among themselves, under metric dot");
    if (!(2.0 * std::fabs(scale_) <= kSafeLogit))
      throw std::invalid_argument("midpoints: exp(2 * scale) is out of range");
    cut();
    for (int w = 0; w < workers.count(); ++w) works_.emplace_back(values_, widest());
  }

  // Rows, and the gradient at an upstream gradient of 1 where it is wanted.
  void forward(const PairForward<T>& out) {
    const bool wanted = out.fused != Fused::none;
    run(nullptr, &out, wanted);
    std::fill(out.live, out.live + blocks() * blocks(), uint8_t{1});
    if (!wanted) return;
    constexpr DType dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
    write([&](int64_t i, double* g, double*) {
      narrow(g, width(), dtype, out.grad_query, matrix_.order().query[i]);
    });
  }

  // The gradient at upstream gradients that differ from row to row.
  void backward(const PairBackward<T>& io) {
    if (!io.grad_query) return;
    run(io.grad_sums, nullptr, true);
    const Rows& rows = matrix_.query_rows();
    write([&](int64_t i, double* g, double* spare) {
      if (!matrix_.gradient_lost(rows, i)) through_normalization(rows, i, g, spare);
      narrow(g, width(), rows.source.dtype, io.grad_query, matrix_.order().query[i]);
    });
  }

 private:
  struct Piece {  // the strip's rows in one row block
    int64_t block;
    int first, rows;
  };
  struct Strip {
    Range rows;  // sorted rows, whole classes
    std::vector<Piece> pieces;
    bool kept;  // its values, from the sums over negatives to the gradients
  };
  // What one worker needs for one strip. Of a class of c rows, numbers for each two of its rows are [c][c].
  struct Work {
    Work(int64_t values, int64_t widest) : values(values), column(widest * V::width) {}
    Buffer<T> values;            // [block, if kept][row][kTileStride]: s, then E, then coefficients
    std::vector<T> sums, pulls;  // sum_n E_an E_pn, then d L_ap / d that; s_ap, then its coefficient
    Buffer<T> column;            // a vector of columns of one class
  };

  int64_t blocks() const { return matrix_.gallery().blocks(); }
  int64_t width() const { return matrix_.query_rows().source.width; }
  int64_t size() const { return matrix_.query_rows().size(); }
  Range class_of(int64_t row) const { return matrix_.order().positives[row]; }
  int64_t widest() const { return matrix_.order().widest + 1; }

  // Whole classes, as many as the memory for all strips allows and so few that there is a strip for everybody.
  void cut() {
    constexpr int64_t kBytes = int64_t{1} << 26;
    const int64_t row = blocks() * kTileStride * static_cast<int64_t>(sizeof(T)), workers = workers_.count();
    const int64_t most = kBytes / (row * workers);
    const int64_t target = std::min(std::clamp<int64_t>(most, 1, 128), (size() + workers - 1) / workers);
    for (int64_t begin = 0; begin < size();) {
      int64_t end = class_of(begin).end;
      while (end < size() && class_of(end).end - begin <= target) end = class_of(end).end;
      const int64_t height = end - begin;
      const bool kept = height <= std::max(target, most);
      strips_.push_back({{static_cast<int32_t>(begin), static_cast<int32_t>(end)}, pieces(begin, end), kept});
      values_ = std::max(values_, height * kTileStride * (kept ? blocks() : 1));
      begin = end;
    }
  }
  std::vector<Piece> pieces(int64_t begin, int64_t end) const {
    std::vector<Piece> result;
    for (int64_t at = begin; at < end;) {
      const int64_t block = at / matrix_.tile(), next = std::min(end, (block + 1) * matrix_.tile());
      result.push_back({block, static_cast<int>(at - block * matrix_.tile()), static_cast<int>(next - at)});
      at = next;
    }
    return result;
  }

  // Its columns of block J, as rows of a tile.
  T* part(const Strip& strip, Work& w, int64_t J) const {
    return w.values.data() + (strip.kept ? J * strip.rows.size() * kTileStride : 0);
  }
  T* row(const Strip& strip, Work& w, int64_t J, Range members, int64_t a) const {
    return part(strip, w, J) + (members.begin + a - strip.rows.begin) * kTileStride;
  }
  int columns(int64_t J) const { return static_cast<int>(matrix_.gallery().block_size(J)); }
  int column(int64_t row, int64_t J) const {  // of block J, no further than its ends
    return static_cast<int>(std::clamp<int64_t>(row - J * matrix_.tile(), 0, columns(J)));
  }

  template <class F>
  void for_each_class(const Strip& strip, F&& f) const {  // f(class, where its numbers begin)
    int64_t at = 0;
    for (int64_t begin = strip.rows.begin; begin < strip.rows.end; begin = class_of(begin).end) {
      const Range members = class_of(begin);
      f(members, at);
      at += int64_t{members.size()} * members.size();
    }
  }
  // Where the number of a class's row a and the sorted row `other` is.
  static int64_t number(Range members, int64_t at, int a, int64_t other) {
    return at + int64_t{a} * members.size() + other - members.begin;
  }
  bool any_pair() const { return matrix_.order().widest > 0 && class_of(0).size() < size(); }

  void run(const T* upstream, const PairForward<T>* out, bool gradient) {
    if (gradient) {
      own_ = GradientSum<T>(matrix_.query());
      others_ = GradientSum<T>(matrix_.query());
    }
    if (!any_pair()) {  // or no negative
      for (int64_t i = 0; out && i < size(); ++i) report(*out, i, 0, 0.0, 0.0);
      return;
    }
    Turns turns(blocks());
    workers_.for_each(static_cast<int64_t>(strips_.size()), [&](int64_t t, int worker) {
      const Strip& strip = strips_[t];
      Work& work = works_[worker];
      DistanceTile<T>& tile = scratch_[worker].tile;
      turns.guard([&] {
        gather(strip, work, tile);
        finish(strip, work, upstream, out);
        for (int64_t J = 0; gradient && strip.kept && J < blocks(); ++J) differentiate(strip, work, J);
      });
      for (int64_t J = 0; gradient && J < blocks(); ++J) {
        if (!strip.kept)
          turns.guard([&] {
            fill(strip, work, J, tile);
            exponentiate(strip, work, J);
            differentiate(strip, work, J);
          });
        if (!turns.reached(J, static_cast<int32_t>(t))) return;
        turns.guard([&] { add_to_others(strip, work, J); });
        turns.finish(J, static_cast<int32_t>(t));
      }
    });
  }

  // Similarities within the classes, and the sums over their negatives.
  void gather(const Strip& strip, Work& w, DistanceTile<T>& tile) const {
    int64_t numbers = 0;
    for_each_class(strip,
                   [&](Range members, int64_t) { numbers += int64_t{members.size()} * members.size(); });
    w.sums.assign(numbers, T(0));
    w.pulls.assign(numbers, T(0));
    for (int64_t J = 0; J < blocks(); ++J) {
      fill(strip, w, J, tile);
      for_each_class(strip, [&](Range members, int64_t at) {
        const int begin = column(members.begin, J), end = column(members.end, J);
        for (int a = 0; a < members.size() && begin < end; ++a)
          std::copy_n(row(strip, w, J, members, a) + begin, end - begin,
                      &w.pulls[number(members, at, a, J * matrix_.tile() + begin)]);
      });
      exponentiate(strip, w, J);
      for_each_class(strip, [&](Range members, int64_t at) {
        add_sums(row(strip, w, J, members, 0), members.size(), columns(J), w.sums.data() + at);
      });
    }
  }

  // s of the strip against block J.
  void fill(const Strip& strip, Work& w, int64_t J, DistanceTile<T>& tile) const {
    T* values = part(strip, w, J);
    for (const Piece& piece : strip.pieces) {
      tile.write_to(values);
      tile.compute(piece.block, J, piece.first, piece.rows);
      values += piece.rows * kTileStride;
    }
  }
  // s into E, which is 0 within a class and beyond the last column.
  void exponentiate(const Strip& strip, Work& w, int64_t J) const {
    const V steep = V(static_cast<T>(scale_));
    const int cols = columns(J);
    for_each_class(strip, [&](Range members, int64_t) {
      const int begin = column(members.begin, J), end = column(members.end, J);
      for (int a = 0; a < members.size(); ++a) {
        T* e = row(strip, w, J, members, a);
        for (int j = 0; j < cols; j += V::width) exp(steep * V::load(e + j)).store(e + j);
        std::fill(e + begin, e + end, T(0));
        for (int j = cols; j % V::width != 0; ++j) e[j] = T(0);
      }
    });
  }

  // sums[a][p] += E_a · E_p for a < p, four p at a time.
  static void add_sums(const T* rows, int count, int cols, T* sums) {
    for (int a = 0; a < count; ++a) {
      int p = a + 1;
      for (; p + 4 <= count; p += 4) add_products<4>(rows, a, p, cols, sums + int64_t{a} * count);
      for (; p < count; ++p) add_products<1>(rows, a, p, cols, sums + int64_t{a} * count);
    }
  }
  template <int N>
  static FR_INLINE void add_products(const T* rows, int a, int p, int cols, T* sums) {
    const T* own = rows + int64_t{a} * kTileStride;
    const T* other = rows + int64_t{p} * kTileStride;
    V total[N] = {};
    for (int j = 0; j < cols; j += V::width) {
      const V e = V::load(own + j);
#pragma GCC unroll 4
      for (int k = 0; k < N; ++k) total[k] += e * V::load(other + k * kTileStride + j);
    }
    for (int k = 0; k < N; ++k) sums[p + k] += horizontal_sum(total[k]);
  }

  // Complete sums into losses, and into what the gradient needs of each pair.
  void finish(const Strip& strip, Work& w, const T* upstream, const PairForward<T>* out) const {
    for_each_class(strip, [&](Range members, int64_t at) {
      const int64_t count = members.size();
      std::vector<double> loss(count, 0.0), active(count, 0.0);
      for (int64_t a = 0; a < count; ++a) {
        w.sums[at + a * count + a] = w.pulls[at + a * count + a] = T(0);
        for (int64_t p = a + 1; p < count; ++p) {
          const int64_t here = at + a * count + p, mirrored = at + p * count + a;
          const double pulled = std::exp(-pull_ * w.pulls[here]), x = pulled * w.sums[here];
          const double one = std::log1p(x), moved = from(upstream, members, a) + from(upstream, members, p);
          loss[a] += one;
          loss[p] += one;
          active[a] += one > 0.0;
          active[p] += one > 0.0;
          // An inner product's coefficient is the negative of its slope; either row of the pair has half of that of s_ap.
          w.sums[here] = w.sums[mirrored] = static_cast<T>(-moved * scale_ * pulled / (1.0 + x));
          w.pulls[here] = w.pulls[mirrored] = static_cast<T>(0.5 * moved * pull_ * x / (1.0 + x));
        }
      }
      for (int64_t a = 0; out && a < count; ++a)
        report(*out, members.begin + a, count - 1, loss[a], active[a]);
    });
  }
  double from(const T* upstream, Range members, int64_t a) const {
    return upstream ? static_cast<double>(upstream[matrix_.order().query[members.begin + a]]) : 1.0;
  }
  void report(const PairForward<T>& out, int64_t i, int64_t pairs, double loss, double active) const {
    const int64_t at = matrix_.order().query[i];
    out.rows[at] = matrix_.lost(matrix_.query_rows(), i) ? T(NAN) : static_cast<T>(loss);
    out.rows[size() + at] = static_cast<T>(pairs);
    out.rows[2 * size() + at] = static_cast<T>(active);
  }

  // E into the coefficients of block J, and these times its rows into the strip's own gradient.
  void differentiate(const Strip& strip, Work& w, int64_t J) {
    for_each_class(strip, [&](Range members, int64_t at) {
      to_coefficients(row(strip, w, J, members, 0), members.size(), columns(J), w.sums.data() + at, w.column);
      const int begin = column(members.begin, J), end = column(members.end, J);
      for (int a = 0; a < members.size() && begin < end; ++a)
        std::copy_n(&w.pulls[number(members, at, a, J * matrix_.tile() + begin)], end - begin,
                    row(strip, w, J, members, a) + begin);
    });
    const T* c = part(strip, w, J);
    for (const Piece& piece : strip.pieces) {
      for (int64_t k = 0; k < matrix_.query().chunks(); ++k)
        own_.add_product_chunk(piece.block, piece.first, k, Coefficients<T>{c, 0}, piece.rows, columns(J),
                               matrix_.gallery().block_rows(J));
      c += piece.rows * kTileStride;
    }
  }
  // c_an = E_an sum_p weight_ap E_pn, four a at a time.
  static void to_coefficients(T* rows, int count, int cols, const T* weight, Buffer<T>& column) {
    for (int j = 0; j < cols; j += V::width) {
      for (int a = 0; a < count; ++a)
        V::load(rows + int64_t{a} * kTileStride + j).store(column.data() + a * V::width);
      int a = 0;
      for (; a + 4 <= count; a += 4) weigh<4>(column.data(), count, a, weight, rows + j);
      for (; a < count; ++a) weigh<1>(column.data(), count, a, weight, rows + j);
    }
  }
  template <int N>
  static FR_INLINE void weigh(const T* column, int count, int a, const T* weight, T* out) {
    V sum[N] = {};
    for (int p = 0; p < count; ++p) {
      const V e = V::load(column + p * V::width);
#pragma GCC unroll 4
      for (int k = 0; k < N; ++k) sum[k] += V(weight[int64_t{a + k} * count + p]) * e;
    }
    for (int k = 0; k < N; ++k)
      (sum[k] * V::load(column + (a + k) * V::width)).store(out + int64_t{a + k} * kTileStride);
  }

  void add_to_others(const Strip& strip, Work& w, int64_t J) {
    const T* c = part(strip, w, J);
    for (const Piece& piece : strip.pieces) {
      others_.add_product(J, TransposedCoefficients<T>{c, 0}, columns(J), piece.rows,
                          matrix_.query().block_rows(piece.block) + piece.first * kPanel<T>);
      c += piece.rows * kTileStride;
    }
  }

  template <class F>
  void write(F&& store) {
    const int64_t tile = matrix_.tile();
    const Rows& rows = matrix_.query_rows();
    matrix_.for_each_result(rows, [&](int64_t i, double* g, double* spare) {
      if (!matrix_.gradient_lost(rows, i)) {
        own_.read(i / tile, i % tile, g);
        others_.read(i / tile, i % tile, spare);
        for (int64_t k = 0; k < width(); ++k) g[k] += spare[k];
      }
      store(i, g, spare);
    });
  }

  PairMatrix<T> matrix_;
  Workers& workers_;
  double scale_, pull_;
  std::vector<TileScratch<T>> scratch_;
  std::vector<Strip> strips_;
  int64_t values_ = 0;  // that the largest strip has room for
  std::vector<Work> works_;
  GradientSum<T> own_, others_;  // of rows as members of their strip, and as what its pairs are pushed from
};

}  // namespace fused_rank
