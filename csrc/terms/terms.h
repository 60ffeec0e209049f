// Every pair term and the name Python knows it by. A new loss adds its header and one line here.
#pragma once

#include <stdexcept>
#include <string>

#include "contrastive.h"
#include "ranked_list.h"

namespace fused_rank {

// f.template operator()<Term>() for the term of that name and parameters. `reach` is the largest distance there can be.
template <class F>
auto with_term(const std::string& name, const double* params, double reach, F&& f) {
  if (name == "contrastive") return f.template operator()<Contrastive>();
  if (name == "ranked_list") {
    return RankedList<false>::from(params).is_bounded(reach) ? f.template operator()<RankedList<false>>()
                                                             : f.template operator()<RankedList<true>>();
  }
  throw std::invalid_argument("unknown term: " + name);
}

}  // namespace fused_rank
