// Losses that are sums over pairs: the statistics sweep (forward) and the gradient sweep (backward), for any term.
#pragma once

#include <string>
#include <vector>

#include "pair_matrix.h"

namespace fused_rank {

// Whose gradient the forward sweep accumulates too: nobody's, the queries', the gallery's, or that of both ends of a pair.
enum class Fused { none, query, gallery, both };

struct PairProblem {
  PairInput input;
  std::string term;
  std::vector<double> params;

  // Those that the loss reports: the queries, and after them, in the symmetric form, the gallery.
  int64_t rows() const { return input.query.rows + (input.symmetric ? input.gallery.rows : 0); }
};

// All in original row order. T is the accumulation type.
template <class T>
struct PairForward {
  T* rows;        // [3 channels][R]: sums, counts, active; R is PairProblem::rows()
  T* state;       // [state][R]
  uint8_t* live;  // one byte per tile
  Fused fused = Fused::none;
  T* grad_query = nullptr;  // [parts][M][D], unit scale: of positives and negatives apart, or of both in one
  T* grad_gallery = nullptr;  // [parts][N][D]
  const T* inputs = nullptr;  // [inputs][R], if the term takes any
};

template <class T>
struct PairBackward {
  const T* grad_sums;  // [channels][R]
  const T* state;
  const uint8_t* live;
  bool query_only = false;     // the gallery end of a pair stays where it is
  void* grad_query = nullptr;  // dtype of the query; null if not wanted
  void* grad_gallery = nullptr;
  T* grad_inputs = nullptr;   // [inputs][R]; null if not wanted
  Fused fused = Fused::none;  // then the two below are what forward left
  const T* unit_query = nullptr;
  const T* unit_gallery = nullptr;
};

// How a term is laid out, for allocation. Throws std::invalid_argument for an unknown name.
struct TermLayout {
  int channels, state, inputs;
  int parts;  // of a gradient made in the forward pass
};
TermLayout term_layout(const std::string& term);

template <class T>
void pair_forward(const PairProblem& problem, const PairForward<T>& out, Workers& workers);
template <class T>
void pair_backward(const PairProblem& problem, const PairBackward<T>& io, Workers& workers);

extern template void pair_forward<float>(const PairProblem&, const PairForward<float>&, Workers&);
extern template void pair_forward<double>(const PairProblem&, const PairForward<double>&, Workers&);
extern template void pair_backward<float>(const PairProblem&, const PairBackward<float>&, Workers&);
extern template void pair_backward<double>(const PairProblem&, const PairBackward<double>&, Workers&);

}  // namespace fused_rank
