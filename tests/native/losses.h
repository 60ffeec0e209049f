// The losses by definition: each query's sum, from a dense matrix of distances.
#pragma once

#include <algorithm>
#include <string>

#include "calls.h"
#include "cpu/triplet.h"
#include "problem.h"

namespace fused_rank {

// Sums of channel 0 and 1 (the latter for the contrastive loss only).
struct RowSums {
  double first = 0.0, second = 0.0;
};

inline RowSums contrastive_row(const Dense& d, int64_t i, const std::vector<double>& p) {
  RowSums sums;
  for (int64_t j = 0; j < d.problem.n(); ++j) {
    if (d.positive(i, j)) sums.first += std::pow(std::max(0.0, d(i, j) - p[0]), p[2]);
    if (d.negative(i, j)) sums.second += std::pow(std::max(0.0, p[1] - d(i, j)), p[2]);
  }
  return sums;
}

inline RowSums ranked_list_row(const Dense& d, int64_t i, const std::vector<double>& p) {
  const double alpha = p[0], border = p[0] - p[1];
  const bool over_all = p[7] != 0.0;
  double hardest_pos = 0.0, hardest_neg = 0.0;  // weights are relative to the largest
  for (int64_t j = 0; j < d.problem.n(); ++j) {
    if (d.positive(i, j)) hardest_pos = std::max(hardest_pos, d(i, j) - border);
    if (d.negative(i, j)) hardest_neg = std::max(hardest_neg, alpha - d(i, j));
  }
  double pos = 0.0, pos_mass = p[8] * std::exp(-p[3] * hardest_pos), neg = 0.0,
         neg_mass = p[8] * std::exp(-p[2] * hardest_neg);
  for (int64_t j = 0; j < d.problem.n(); ++j) {
    if (d.positive(i, j)) {
      const double h = std::max(0.0, d(i, j) - border), w = std::exp(p[3] * (h - hardest_pos));
      pos += w * h;
      if (h > 0.0 || over_all) pos_mass += w;
    }
    if (d.negative(i, j) && d(i, j) < alpha) {
      const double w = std::exp(p[2] * (alpha - d(i, j) - hardest_neg));
      neg += w * (alpha - d(i, j));
      neg_mass += w;
    }
  }
  return {(pos > 0.0 ? p[4] * pos / pos_mass : 0.0) + (neg > 0.0 ? p[5] * neg / neg_mass : 0.0), 0.0};
}

// log(e^a + e^b)
inline double log_add(double a, double b) {
  const double larger = std::max(a, b);
  return larger == -INFINITY ? larger : larger + std::log1p(std::exp(std::min(a, b) - larger));
}

inline RowSums softmax_row(const Dense& d, int64_t i, const std::string& term, const std::vector<double>& p) {
  const bool of_negatives = term == "softplus_negatives";  // whose second parameter is a bound
  const double shift = p.size() > 1 && !of_negatives ? p[1] : 0.0, level = input_of(i);
  double all = -INFINITY, negatives = -INFINITY, logits = 0.0, softplus = 0.0, count = 0.0;
  for (int64_t j = 0; j < d.problem.n(); ++j) {
    const double logit = p[0] * d(i, j) + shift;
    if (d.positive(i, j)) {
      all = log_add(all, logit);
      logits += logit;
      softplus += log_add(0.0, level - logit);
      ++count;
    }
    if (d.negative(i, j)) {
      all = log_add(all, logit);
      negatives = log_add(negatives, logit);
    }
  }
  if (term == "sup_con") return {count > 0.0 ? all - logits / count : 0.0, 0.0};
  if (of_negatives) return {log_add(0.0, negatives - level), 0.0};
  if (term == "negatives_lse") return {std::max(negatives, -1e30), 0.0};
  return {softplus, 0.0};
}

// Of every positive of i, from inner products.
inline RowSums midpoint_row(const Dense& d, int64_t i, const std::vector<double>& p) {
  RowSums sums;
  for (int64_t j = 0; j < d.problem.n(); ++j) {
    if (!d.positive(i, j)) continue;
    double negatives = 0.0;
    for (int64_t k = 0; k < d.problem.n(); ++k)
      if (d.negative(i, k)) negatives += std::exp(p[0] * (d(i, k) + d(j, k)));
    sums.first += std::log1p(negatives * std::exp(-p[1] * d(i, j)));
  }
  return sums;
}

inline RowSums triplet_row(const Dense& d, int64_t i, Mining mining, double margin, bool soft) {
  const int64_t n = d.problem.n();
  const auto loss = [&](double ap, double an) {
    const double violation = ap - an + margin;
    return soft ? std::max(violation, 0.0) + std::log1p(std::exp(-std::fabs(violation)))
                : std::max(violation, 0.0);
  };
  double farthest_positive = -1.0, nearest_negative = INFINITY, farthest_negative = -1.0, sum = 0.0;
  for (int64_t j = 0; j < n; ++j) {
    if (d.positive(i, j)) farthest_positive = std::max(farthest_positive, d(i, j));
    if (d.negative(i, j)) nearest_negative = std::min(nearest_negative, d(i, j));
    if (d.negative(i, j)) farthest_negative = std::max(farthest_negative, d(i, j));
  }
  if (farthest_positive < 0.0 || farthest_negative < 0.0) return {};
  if (mining == Mining::hard) return {loss(farthest_positive, nearest_negative), 0.0};
  for (int64_t a = 0; a < n; ++a) {
    if (!d.positive(i, a)) continue;
    double semihard = INFINITY;
    for (int64_t b = 0; b < n; ++b) {
      if (!d.negative(i, b)) continue;
      const double gap = d(i, b) - d(i, a);
      if (mining == Mining::all || (mining == Mining::semihard_all && gap > 0.0 && gap <= margin))
        sum += loss(d(i, a), d(i, b));
      if (gap > 0.0) semihard = std::min(semihard, d(i, b));
    }
    if (mining == Mining::semihard) sum += loss(d(i, a), semihard < INFINITY ? semihard : farthest_negative);
  }
  return {sum, 0.0};
}

}  // namespace fused_rank
