// The pair matrix of one call: both sides packed, the order of their rows, and what every sweep does with them: walking the
// tiles, adding a tile of coefficients to the gradients, and writing results back in the caller's order.
#pragma once

#include <vector>

#include "gradient_sum.h"
#include "order.h"
#include "pair_lanes.h"
#include "schedule.h"

namespace fused_rank {

struct PairInput {
  Source query, gallery;  // gallery is unused in self form
  Order order;
  Metric metric = Metric::euclidean;
  bool normalize = false;
  bool symmetric = false;  // two sets, and either is the other's gallery

  bool self() const { return order.self; }
  bool unit_rows() const { return normalize || metric == Metric::cosine; }
  double reach() const {  // the largest distance there can be
    if (!unit_rows() || metric == Metric::dot) return INFINITY;
    return metric == Metric::squared ? 4.0 : 2.0;
  }
};

// Both sides as they came, in sorted order: what is needed to write results, without packing anything.
class PairSides {
 public:
  PairSides(const PairInput& input, Workers& workers, Moments* moments = nullptr)
      : input_(input), workers_(workers) {
    query_rows_ = describe_rows(input.query, input.order.query, input.unit_rows(), workers, moments);
    if (self()) return;
    Moments other;
    gallery_rows_ = describe_rows(input.gallery, input.order.gallery, input.unit_rows(), workers,
                                  moments ? &other : nullptr);
    if (moments) merge(*moments, other);
  }
  PairSides(const PairSides&) = delete;  // packed operands point at the rows

  const PairInput& input() const { return input_; }
  const Order& order() const { return input_.order; }
  bool self() const { return input_.self(); }
  Workers& workers() { return workers_; }
  const Rows& query_rows() const { return query_rows_; }
  const Rows& gallery_rows() const { return self() ? query_rows_ : gallery_rows_; }

  bool lost(const Rows& own, int64_t i) const { return is_lost(own, i, query_rows_, gallery_rows()); }
  // In the symmetric form each side's rows have losses that move every row of the other.
  bool gradient_lost(const Rows& own, int64_t i) const {
    if (input_.symmetric) return !query_rows_.all_finite || !gallery_rows_.all_finite;
    return lost(own, i);
  }

  // f(sorted row, row of doubles to fill, another to use); the first comes as NaN where the gradient is lost.
  template <class F>
  void for_each_result(const Rows& rows, F&& f) {
    workers_.for_ranges(rows.size(), 64, [&](int64_t begin, int64_t end) {
      std::vector<double> result(rows.source.width), spare(rows.source.width);
      for (int64_t i = begin; i < end; ++i) {
        if (gradient_lost(rows, i)) std::fill(result.begin(), result.end(), NAN);
        f(i, result.data(), spare.data());
      }
    });
  }

 protected:
  const PairInput& input_;
  Workers& workers_;
  Rows query_rows_, gallery_rows_;
};

// What one worker needs for one tile.
template <class T>
struct TileScratch {
  TileScratch(const Packed<T>& packed, Metric metric)
      : tile(packed, metric), second(packed.query.tile * kTileStride) {}
  DistanceTile<T> tile;
  Buffer<T> second;  // a second tile of coefficients: of the positives, or of the transposed direction
};

template <class T>
struct GradientSums {
  GradientSum<T> query, gallery;  // in self form both ends of a pair go to `query`
};

template <class T>
class PairMatrix : public PairSides {
  using V = Vec<T>;

 public:
  PairMatrix(const PairInput& input, Workers& workers, Centre centre = Centre::mean,
             int64_t largest_tile = INT64_MAX)
      : PairMatrix(input, workers, centre, largest_tile, Moments{}) {}

  const Packed<T>& packed() const { return packed_; }
  const Operand<T>& query() const { return packed_.query; }
  const Operand<T>& gallery() const { return packed_.other(); }
  int64_t tile() const { return packed_.query.tile; }

  std::vector<TileScratch<T>> make_scratch(Metric metric) const {
    std::vector<TileScratch<T>> scratch;
    for (int w = 0; w < workers_.count(); ++w) scratch.emplace_back(packed_, metric);
    return scratch;
  }

  // tile(I, J, worker) once for every tile: the upper triangle in self form, else the rectangle.
  template <class F>
  void walk(F&& tile, bool writes_columns) {
    const int64_t rows = query().blocks(), cols = gallery().blocks();
    if (self()) return Schedule::triangle(rows).run(workers_, tile);
    if (writes_columns) return Schedule::rectangle(rows, cols).run(workers_, tile);
    for_each_row_tile(workers_, rows, cols, tile);
  }

  // The positives of row i of block I among the columns of block J.
  TilePositives positives(int64_t I, int i, int64_t J, int cols) const {
    const int64_t row = I * tile() + i;
    return tile_positives(order().positives[row], J * tile(), cols, self() ? row : -1);
  }
  bool has_positives(int64_t I, int64_t J) const {  // ranges rise with the row
    const int64_t rows = query().block_size(I), cols = gallery().block_size(J);
    return order().positives[I * tile()].begin < J * tile() + cols &&
           order().positives[I * tile() + rows - 1].end > J * tile();
  }

  // d distance / d x_i = factor * (x_i - y_j); of an inner product it is y_j, so its coefficients have no mass.
  FR_INLINE V factor(V d) const {
    const V zero = V(T(0));
    if (input_.metric == Metric::euclidean) return select(d > zero, V(T(1)) / d, zero);
    return V(input_.metric == Metric::squared ? T(2) : input_.metric == Metric::dot ? T(-1) : T(1));
  }

  GradientSums<T> make_sums(bool query, bool gallery) const {
    GradientSums<T> sums;
    if (query) sums.query = GradientSum<T>(packed_.query);
    if (gallery && !self()) sums.gallery = GradientSum<T>(packed_.gallery);
    return sums;
  }

  // A tile of coefficients that holds for both ends of each pair, into the rows of I and the columns of J.
  void add(TileScratch<T>& s, int64_t I, int64_t J, T* c, GradientSums<T>& sums) {
    GradientSum<T>* columns = s.tile.diagonal() ? nullptr : self() ? &sums.query : &sums.gallery;
    add(s, I, J, c, &sums.query, columns);
  }
  // The same with a say in which side it is for; null for neither.
  void add(TileScratch<T>& s, int64_t I, int64_t J, T* c, GradientSum<T>* rows_to,
           GradientSum<T>* columns_to) {
    if (rows_to && !rows_to->wanted()) rows_to = nullptr;
    if (columns_to && !columns_to->wanted()) columns_to = nullptr;
    const int rows = s.tile.rows(), cols = s.tile.cols();
    take_suspects(s.tile, s.tile.suspects(), c, I, 0, J, rows_to, columns_to);
    if (input_.metric != Metric::dot) sum_coefficients(c, I, 0, rows, J, cols, rows_to, columns_to);
    if (rows_to) rows_to->add_product(I, Coefficients<T>{c, 0}, rows, cols, gallery().block_rows(J));
    if (columns_to)
      columns_to->add_product(J, TransposedCoefficients<T>{c, 0}, cols, rows, query().block_rows(I));
  }

  // The sums of a tile's coefficients, by row and by column; its rows are those of block I from `first` on.
  void sum_coefficients(const T* c, int64_t I, int first, int rows, int64_t J, int cols,
                        GradientSum<T>* rows_to, GradientSum<T>* columns_to) {
    const uint8_t* row_centre = query().centre.data() + I * tile() + first;
    const uint8_t* col_centre = gallery().centre.data() + J * tile();
    const bool clustered = query().centres->count > 1;
    for (int i = 0; i < rows; ++i) {
      const T* row = c + i * kTileStride;
      T* columns = columns_to ? columns_to->mass(row_centre[i], J) : nullptr;
      V sum = V(T(0));
      for (int j = 0; j < cols; j += V::width) {
        const V v = V::load(row + j);
        sum += v;
        if (columns) (V::load(columns + j) + v).store(columns + j);
      }
      if (!rows_to) continue;
      if (!clustered) {
        rows_to->mass(0, I)[first + i] += horizontal_sum(sum);
      } else {
        for (int j = 0; j < cols; ++j) rows_to->mass(col_centre[j], I)[first + i] += row[j];
      }
    }
  }

  // Near-duplicates leave the tile and are added pair by pair, from the rows' exact difference (`reader` has room for it).
  void take_suspects(DistanceTile<T>& reader, const std::vector<Suspect>& suspects, T* c, int64_t I,
                     int first, int64_t J, GradientSum<T>* rows_to, GradientSum<T>* columns_to) {
    for (const Suspect& at : suspects) {
      T& value = c[at.row * kTileStride + at.col];
      if (value != T(0)) {
        const double* difference = reader.difference(I, J, first + at.row, at.col);
        if (rows_to) rows_to->add_difference(I, first + at.row, value, difference);
        if (columns_to) columns_to->add_difference(J, at.col, -value, difference);
      }
      value = T(0);
    }
  }

  // A finished gradient, through the normalisation, in the dtype and order of its source.
  void write(const Rows& rows, const GradientSum<T>& sum, void* out) {
    for_each_result(rows, [&](int64_t i, double* g, double* spare) {
      if (!gradient_lost(rows, i)) {
        sum.read(i / tile(), i % tile(), g);
        if (input_.unit_rows()) through_normalization(rows, i, g, spare);
      }
      narrow(g, rows.source.width, rows.source.dtype, out, (*rows.order)[i]);
    });
  }
  void write(const GradientSums<T>& sums, void* query_out, void* gallery_out) {
    if (query_out) write(query_rows_, sums.query, query_out);
    if (gallery_out) write(gallery_rows_, sums.gallery, gallery_out);
  }

 private:
  PairMatrix(const PairInput& input, Workers& workers, Centre centre, int64_t largest_tile, Moments moments)
      : PairSides(input, workers, centre == Centre::mean ? &moments : nullptr) {
    const Rows* gallery = self() ? nullptr : &gallery_rows_;
    Centres centres{1, input.query.width, std::vector<double>(input.query.width, 0.0), {0.0}};
    if (centre == Centre::mean) centres = choose_centres(query_rows_, gallery, moments);
    const int64_t tile = std::min(largest_tile, tile_rows(input.query.rows, input.order.gallery_size()));
    packed_ = pack<T>(query_rows_, gallery, centres, tile, workers);
  }

  Packed<T> packed_;
};

}  // namespace fused_rank
