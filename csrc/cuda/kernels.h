// Everything that runs on the device, for hosts that know no torch: raw pointers, sizes, a stream.
//
// Conventions
// - T is float or double. Every array is on the device, contiguous, and in *sorted* order (rows by label, `Pairs`), except where
//   a comment says "original". Callers gather and scatter.
// - Nothing is allocated here and nothing waits for the device. Outputs and workspaces may hold anything when a call starts, except
//   where a comment says "added to".
// - Row numbers fit int32 arithmetic on their own (at most 2^24 rows); whatever multiplies them is 64 bits wide.
// - An error (an unknown term, a failed launch) is a std::exception.
#pragma once

#include "pairs.h"

namespace fused_rank::cuda {

// A loss of pairs, by its name in terms/terms.h. `reach`: the largest distance there can be.
struct TermChoice {
  const char* name;
  const double* params;  // on the host
  double reach;
};

// How a term is laid out. `row` and `scale`: numbers of T for each row in workspaces.
struct TermLayout {
  int channels, state, inputs, row, scale;
};
TermLayout term_layout(const TermChoice& term);

// statistics.cu: forward of a pair loss. Self form ½u; two-set 1u.

// R below: M, or M + N if symmetric (queries first, then gallery).
template <class T>
struct Statistics {
  const T* inputs;           // [inputs][R]; null where the term takes none
  const int32_t* positives;  // [R]: how many positives a row has
  const int32_t* negatives;  // [R]
  T* workspace;              // [statistics_workspace]
  T* rows;                   // [3 channels][R]: sums, counts, active
  T* state;                  // [state][R]
  uint8_t* live;             // [query tiles][gallery tiles]: does any pair of the tile contribute?
  bool symmetric;            // two-set only: fold into gallery rows too
};
// Numbers of T.
template <class T>
int64_t statistics_workspace(const TermChoice& term, int64_t queries, int64_t gallery, bool self,
                             bool symmetric);
template <class T>
void statistics(const Pairs<T>& pairs, const TermChoice& term, const Statistics<T>& io, Stream stream);

// scales.cu: state and upstream gradients of each row into what slopes need

template <class T>
struct Scales {
  const T* state;      // [state][R]
  const T* grad_sums;  // [channels][R]
  T* scales;           // [scale][R], for `coefficients`; null if not wanted
  T* grad_inputs;      // [inputs][R]; null if not wanted
  int64_t size;        // R
};
template <class T>
void scales(const TermChoice& term, const Scales<T>& io, Stream stream);

// distances.cu

template <class T>
struct Distances {
  T* values;    // [rows][stride]; entries from `columns` to `stride` are arbitrary
  Near near;    // tiles null: nobody asks
  bool square;  // squared distances (metric dot: inner products) rather than the metric's
  bool hide;    // pairs with a row that is not finite are infinitely far (metric dot: minus infinity)
};
template <class T>
void distances(const Pairs<T>& pairs, const Strip& strip, const Distances<T>& io, Stream stream);

// coefficients.cu: c_ij = d loss / d distance · edge factor, the factor of x_i - y_j (metric dot: of y_j)

enum class Ends : int {
  query,  // the query's loss alone
  both,   // the losses of both ends: self form, and symmetric two-set sweeps
};

template <class T>
struct Coefficients {
  const T* scales;      // [scale][R]
  int64_t scale_rows;   // R
  const uint8_t* live;  // of `statistics`, whole; tiles that are not live are left as they are
  T* values;            // [rows][stride]; zero from `columns` to the next multiple of 4
  Near near;            // of live tiles; `tiles` is 0 for the others
  Ends ends;
};
template <class T>
void coefficients(const Pairs<T>& pairs, const TermChoice& term, const Strip& strip,
                  const Coefficients<T>& io, Stream stream);

// product.cu: a strip's coefficients times rows

// query:    sums[i] = Σ_j c_ij y_j   over the strip's columns, for its rows
// gallery:  sums[j] = Σ_i c_ij x_i   over the strip's rows, for its columns
// with y_j, x_i stored rows. mass: the same sums of c_ij alone, apart for each centre of the other end. `owners` are the rows (or
// columns) from `first_owner` on. `values` must be finite in every live tile, and zero from `columns` to the next multiple of 4.
enum class Owner : int { query, gallery };

template <class T>
struct Product {
  const T* values;
  const uint8_t* live;  // [query tiles][gallery tiles] of the whole matrix; null: every tile counts
  int64_t first_owner;  // the first that is wanted, within the strip; a multiple of the tile
  int parts;            // the other ends are shared among so many blocks: product_parts
  T* sums;              // [parts][owners][width]; add up in order
  T* mass;              // [centres][owners]; null if not wanted
  Owner owner;
};
int product_parts(int64_t owners, int64_t others, int64_t width);
template <class T>
void product(const Pairs<T>& pairs, const Strip& strip, const Product<T>& io, Stream stream);

// near.cu: close pairs of a strip, by direct difference

// sums[owner] += Σ c_ij (x_i - y_j) over its close pairs, towards the query, or its negative, towards the gallery row.
template <class T>
struct NearPull {
  const T* values;
  Near near;
  int64_t first_owner;
  T* sums;  // [owners][width], added to
  Owner owner;
};
template <class T>
void near_pull(const Pairs<T>& pairs, const Strip& strip, const NearPull<T>& io, Stream stream);
// Takes the close pairs out of the coefficients: after near_pull, before product.
template <class T>
void clear_near(const Strip& strip, T* values, const Near& near, Stream stream);

// hard.cu: the farthest positive and the nearest negative of every query; ties to the lowest original row

template <class T>
struct Hardest {
  void* workspace;    // [hard_workspace] bytes, 16-byte aligned
  int64_t* positive;  // [M]: original gallery row, -1 for none
  int64_t* negative;  // [M]
};
template <class T>
int64_t hard_workspace(int64_t queries, int64_t gallery, bool self);
template <class T>
void hard(const Pairs<T>& pairs, const Hardest<T>& io, Stream stream);

// topk.cu: the k best columns of every row of a strip

template <class T>
struct TopK {
  const T* values;    // [rows][stride]
  bool largest;       // else the smallest are best
  bool exclude_self;  // a query's own column is left out
  int64_t k;
  T* best;         // [rows][k], by column: a stable sort leaves equals with the lowest first
  int64_t* found;  // [rows][k]: columns
};
template <class T>
void topk(const Strip& strip, const TopK<T>& io, Stream stream);

// semihard.cu, every_triplet.cu: triplet losses from strips over the whole gallery (first_column 0)
//
// Slot s of an anchor is its s-th positive in sorted order, itself left out.

struct TripletChoice {
  double margin;
  bool soft, band;
};

struct Anchors {
  const int32_t*
      begin;  // [M]: an anchor's positives are the gallery rows [begin, end), in self form without itself
  const int32_t* end;  // [M]
  int64_t size;        // M
  Metric metric;
  bool self;
};

// The nearest negative beyond each positive, else the farthest there is.
template <class T>
struct Semihard {
  const T* squares;  // [rows][stride]: squared distances, hidden where a row is not finite
  TripletChoice choice;
  const int64_t* index;   // [N]: original gallery rows
  const int64_t* offset;  // [M]: where an anchor's slots start in `negative`
  int64_t slot_stride;    // from one slot to the next
  int64_t slots;          // how many at most are stored
  int32_t* negative;      // original gallery row, -1 for none
  T* rows;                // [3][M]: sum, count, active; null if not wanted
};
template <class T>
void semihard(const Anchors& anchors, const Strip& strip, const Semihard<T>& io, Stream stream);

// Sums over all triplets, or over those of the band. Under soft margin every one is active.
template <class T>
struct EveryTriplet {
  const T* distances;  // [rows][stride], hidden where a row is not finite
  TripletChoice choice;
  T* rows;  // [3][M]
};
template <class T>
void every_triplet(const Anchors& anchors, const Strip& strip, const EveryTriplet<T>& io, Stream stream);

template <class T>
struct EveryTripletSlopes {
  const T* distances;
  TripletChoice choice;
  const T* upstream;  // [M]
  T* coefficients;    // [rows][stride], zero from `columns` to `stride`; may not be `distances`
};
template <class T>
void every_triplet_slopes(const Anchors& anchors, const Strip& strip, const EveryTripletSlopes<T>& io,
                          Stream stream);

// Which tiles of the strip hold a coefficient that is not zero.
template <class T>
struct LiveTiles {
  const T* values;  // [rows][stride]
  uint8_t* live;    // [query tiles][gallery tiles] of the whole matrix: the strip's tiles are written
};
template <class T>
void live_tiles(const Strip& strip, const LiveTiles<T>& io, Stream stream);

// listed.cu: pairs by number, by direct difference in double
//
// Rows are [R][width] double, contiguous, in original order, normalised where the metric sees them so.

struct Listed {
  const double* x;
  const double* y;
  int64_t width, pairs;
  const int64_t* i;  // [pairs], rows of x
  const int64_t* j;  // [pairs], rows of y
  double* squares;   // [pairs]
};
void listed_squares(const Listed& io, Stream stream);

// total[row] += Σ coefficient (x_row - y_other) over its edges, in their order.
struct EdgeSums {
  const double* x;
  const double* y;
  int64_t width, rows;
  const int64_t* start;       // [rows + 1]: each row's edges
  const int64_t* other;       // [edges], rows of y
  const double* coefficient;  // [edges]
  double* total;              // [rows][width], added to
};
void edge_sums(const EdgeSums& io, Stream stream);

}  // namespace fused_rank::cuda
