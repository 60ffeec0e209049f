// Every pair term and the name Python knows it by. A new loss adds its header and one line here.
#pragma once

#include <stdexcept>
#include <string>

#include "circle.h"
#include "contrastive.h"
#include "lifted.h"
#include "margin.h"
#include "multi_similarity.h"
#include "negatives_lse.h"
#include "ranked_list.h"
#include "softplus_negatives.h"
#include "softplus_positives.h"
#include "sup_con.h"

namespace fused_rank {

// Of a term in two variants: the one with a fixed shift where that is safe, else the streaming one.
template <template <bool Online> class Term, class F>
auto with_variant(const double* params, double reach, F&& f) {
  return Term<false>::from(params).is_bounded(reach) ? f.template operator()<Term<false>>()
                                                     : f.template operator()<Term<true>>();
}

// f.template operator()<Term>() for the term of that name and parameters. `reach` is the largest distance there can be.
template <class F>
auto with_term(const std::string& name, const double* params, double reach, F&& f) {
  if (name == "contrastive") return f.template operator()<Contrastive>();
  if (name == "ranked_list") return with_variant<RankedList>(params, reach, f);
  if (name == "sup_con") return with_variant<SupCon>(params, reach, f);
  if (name == "negatives_lse") return with_variant<NegativesLse>(params, reach, f);
  if (name == "softplus_negatives") return with_variant<SoftplusNegatives>(params, reach, f);
  if (name == "softplus_positives") return f.template operator()<SoftplusPositives>();
  if (name == "multi_similarity") {
    return params[3] != 0.0 ? with_variant<MinedMultiSimilarity>(params, reach, f)
                            : with_variant<MultiSimilarityOfAll>(params, reach, f);
  }
  if (name == "circle") return with_variant<Circle>(params, reach, f);
  if (name == "lifted") return with_variant<Lifted>(params, reach, f);
  if (name == "margin") return f.template operator()<Margin>();
  throw std::invalid_argument("unknown term: " + name);
}

}  // namespace fused_rank
