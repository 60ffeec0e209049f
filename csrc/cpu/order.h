// The order in which rows are walked: sorted by label, so that a query's positives are one contiguous range.
#pragma once

#include <cstdint>
#include <vector>

namespace fused_rank {

struct Range {
  int32_t begin, end;
  int32_t size() const { return end - begin; }
};

struct Order {
  bool self = false;
  std::vector<int32_t> query, gallery;  // sorted position -> original row; gallery is empty in self form
  std::vector<Range>
      positives;       // of the query at a sorted position: sorted gallery positions (its own included)
  int64_t widest = 0;  // the most positives that any query has (its own row not counted)

  const std::vector<int32_t>& gallery_rows() const { return self ? query : gallery; }
  int64_t gallery_size() const { return static_cast<int64_t>(gallery_rows().size()); }
  // A query's positives have slots, itself left out: the slot of gallery position g, and back.
  int64_t slot_of(int64_t q, int64_t g) const { return g - positives[q].begin - (self && g > q ? 1 : 0); }
  int64_t at_slot(int64_t q, int64_t slot) const {
    const int64_t g = positives[q].begin + slot;
    return g + (self && g >= q ? 1 : 0);
  }
  int64_t positive_count(int64_t i) const { return positives[i].size() - (self ? 1 : 0); }
  int64_t negative_count(int64_t i) const { return gallery_size() - positives[i].size(); }
  // For each sorted gallery row of a two-set form, the queries that it is positive to.
  std::vector<int64_t> gallery_positive_counts() const;
  // Of a two-set form, the one from the gallery to the queries.
  Order turned() const;
};

// labels and gallery_labels hold int64 with the given strides. Both null: pairs (i, i) are the positives of a two-set form.
Order order_by_label(const int64_t* labels, int64_t stride, int64_t queries, const int64_t* gallery_labels,
                     int64_t gallery_stride, int64_t gallery, bool self);

// No labels at all (retrieval): the caller's order, no positives.
Order order_as_given(int64_t queries, int64_t gallery, bool self);

}  // namespace fused_rank
