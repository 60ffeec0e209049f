#include "order.h"

#include <algorithm>
#include <numeric>

namespace fused_rank {

namespace {

std::vector<int32_t> sorted_rows(const int64_t* labels, int64_t stride, int64_t n) {
  std::vector<std::pair<int64_t, int32_t>> keyed(n);
  for (int64_t i = 0; i < n; ++i) keyed[i] = {labels[i * stride], static_cast<int32_t>(i)};
  std::sort(keyed.begin(), keyed.end());  // by label, then by original row
  std::vector<int32_t> rows(n);
  for (int64_t i = 0; i < n; ++i) rows[i] = keyed[i].second;
  return rows;
}

std::vector<int32_t> identity(int64_t n) {
  std::vector<int32_t> rows(n);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

}  // namespace

std::vector<int64_t> Order::gallery_positive_counts() const {
  std::vector<int64_t> counts(gallery_size() + 1, 0);  // first by how much they change from row to row
  for (const Range& range : positives) {
    ++counts[range.begin];
    --counts[range.end];
  }
  std::partial_sum(counts.begin(), counts.end(), counts.begin());
  counts.pop_back();
  return counts;
}

Order Order::turned() const {
  Order other;
  other.query = gallery;
  other.gallery = query;
  other.positives.resize(gallery.size());
  const int32_t queries = static_cast<int32_t>(positives.size());
  for (int32_t begin = 0, end; begin < queries; begin = end) {  // queries of one label have one range
    const Range range = positives[begin];
    for (end = begin + 1;
         end < queries && positives[end].begin == range.begin && positives[end].end == range.end;)
      ++end;
    for (int32_t j = range.begin; j < range.end; ++j) other.positives[j] = {begin, end};
    if (range.size() > 0) other.widest = std::max<int64_t>(other.widest, end - begin);
  }
  return other;
}

Order order_by_label(const int64_t* labels, int64_t stride, int64_t queries, const int64_t* gallery_labels,
                     int64_t gallery_stride, int64_t gallery, bool self) {
  if (labels == nullptr) {
    Order pairs = order_as_given(queries, gallery, false);
    for (int64_t i = 0; i < queries; ++i)
      pairs.positives[i] = {static_cast<int32_t>(i), static_cast<int32_t>(i + 1)};
    pairs.widest = 1;
    return pairs;
  }
  Order order;
  order.self = self;
  order.query = sorted_rows(labels, stride, queries);
  if (!self) order.gallery = sorted_rows(gallery_labels, gallery_stride, gallery);
  const std::vector<int32_t>& others = order.gallery_rows();
  const auto query_label = [&](int64_t i) { return labels[order.query[i] * stride]; };
  const auto other_label = [&](int64_t j) {
    return self ? query_label(j) : gallery_labels[others[j] * gallery_stride];
  };

  order.positives.resize(queries);
  const int64_t n = static_cast<int64_t>(others.size());
  for (int64_t i = 0, begin = 0, end = 0; i < queries; ++i) {
    const int64_t label = query_label(i);
    if (i == 0 || query_label(i - 1) != label) {
      for (begin = end; begin < n && other_label(begin) < label;) ++begin;
      for (end = begin; end < n && other_label(end) == label;) ++end;
    }
    order.positives[i] = {static_cast<int32_t>(begin), static_cast<int32_t>(end)};
    order.widest = std::max(order.widest, order.positive_count(i));
  }
  return order;
}

Order order_as_given(int64_t queries, int64_t gallery, bool self) {
  Order order;
  order.self = self;
  order.query = identity(queries);
  if (!self) order.gallery = identity(gallery);
  order.positives.assign(queries, Range{0, 0});
  return order;
}

}  // namespace fused_rank
