// Forward of a pair loss, for every term.
#include "statistics.h"

namespace fused_rank::cuda {

TermLayout term_layout(const TermChoice& choice) {
  return with_choice(choice, [&]<class Term>() {
    return TermLayout{Term::kChannels, Term::kState, kInputs<Term>,
                      kMembers<float, typename Term::template Row<float>>,
                      kMembers<float, typename Term::template Scale<float>>};
  });
}

template <class T>
int64_t statistics_workspace(const TermChoice& term, int64_t queries, int64_t gallery, bool self,
                             bool symmetric) {
  const Groups g = make_groups<T>(queries, gallery, self, symmetric);
  return term_layout(term).row * (g.column_groups * queries + (symmetric ? g.row_groups * gallery : 0));
}

template <class T>
void statistics(const Pairs<T>& pairs, const TermChoice& choice, const Statistics<T>& io, Stream stream) {
  const int64_t all_rows = pairs.query.size + (io.symmetric ? pairs.gallery.size : 0);
  if (all_rows == 0) return;
  const Groups groups = make_groups<T>(pairs.query.size, pairs.gallery.size, pairs.self, io.symmetric);
  with_choice(choice, [&]<class Term>() {
    const Term term = Term::from(choice.params);
    const dim3 block(kThreads);
    if (groups.blocks() > 0)
      launch(statistics_kernel<T, Term>, dim3(static_cast<unsigned>(groups.blocks())), block, 0, stream,
             pairs, term, groups, io);
    launch(finish_kernel<T, Term>, dim3(static_cast<unsigned>(tiles_of(all_rows, kThreads))), block, 0,
           stream, pairs, term, groups, io, all_rows);
  });
}

template int64_t statistics_workspace<float>(const TermChoice&, int64_t, int64_t, bool, bool);
template int64_t statistics_workspace<double>(const TermChoice&, int64_t, int64_t, bool, bool);
template void statistics(const Pairs<float>&, const TermChoice&, const Statistics<float>&, Stream);
template void statistics(const Pairs<double>&, const TermChoice&, const Statistics<double>&, Stream);

}  // namespace fused_rank::cuda
